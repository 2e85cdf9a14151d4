"""Released pickles: arrays come out bit by bit, and nothing else ever runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polygate.errors import PolygateError
from polygate.steering.pickles import read_array

ARRAYS = [
    np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    np.asfortranarray(np.random.default_rng(0).normal(size=(3, 5))),
    np.arange(6, dtype=">f4"),
    np.array([[7]], dtype=np.int64),
]


class Runs:
    """Pickled, it makes its reader call something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_come_out_as_they_went_in(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    content = pickle.dumps(array, protocol=protocol)
    for spelling in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        if protocol > 3:
            # Names have their length before them.
            old = next(name for name in (b"numpy._core.multiarray", b"numpy.core.multiarray") if name in content)
            renamed = content.replace(bytes([len(old)]) + old, bytes([len(spelling)]) + spelling)
            # A frame's length need not be right for a reader that goes on: leave it out.
            path.write_bytes(renamed[:2] + renamed[11:])
        else:
            path.write_bytes(content)
        if protocol == 2:  # Bytes are text there, which needs a function more to read: refused.
            with pytest.raises(PolygateError, match=r"asks for _codecs\.encode"):
                read_array(path)
            continue
        found = read_array(path)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


@pytest.mark.parametrize(
    "bad",
    [
        {"vectors": [1.0]},
        [np.ones(3)],
        np.array(["text"]),
        pytest.param(np.array([object()], dtype=object), id="objects"),
        np.array([], dtype=np.float32),
        np.array([1.0, np.inf]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.float32(1),
        None,
    ],
    ids=repr,
)
def test_anything_else_than_an_array_of_numbers_is_one_line(bad: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(bad))
    with pytest.raises(PolygateError) as error:
        read_array(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_that_a_pickle_asks_for_is_run(tmp_path: Path) -> None:
    path, ran = tmp_path / "evil.pkl", tmp_path / "ran"
    for call, *arguments in (
        (os.system, f"touch {ran}"),
        (exec, f"open({str(ran)!r}, 'w')"),
        (getattr, "text", "upper"),
        (np.load, str(ran)),
        (np.ndarray, (10,)),
    ):
        for wrapped in (Runs(call, *arguments), [np.ones(2), Runs(call, *arguments)]):
            path.write_bytes(pickle.dumps(wrapped))
            with pytest.raises(PolygateError, match="nothing in it was run"):
                read_array(path)
            assert not ran.exists()


def test_a_broken_pickle_is_one_line_whatever_its_bytes(tmp_path: Path) -> None:
    """Cut at every length, and with bytes changed at random: an array of the same kind, or one line."""
    path = tmp_path / "broken.pkl"
    content = pickle.dumps(np.arange(6, dtype=np.float16).reshape(2, 3), protocol=4)
    random = np.random.default_rng(1)
    for _ in range(400):
        changed = bytearray(content)
        for place in random.integers(len(content), size=int(random.integers(1, 4))):
            changed[place] = random.integers(256)
        path.write_bytes(bytes(changed))
        with suppress(PolygateError):
            assert read_array(path).dtype.kind in "fiu"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(PolygateError):
            read_array(path)
    with pytest.raises(PolygateError, match="file not found"):
        read_array(tmp_path / "absent.pkl")
