"""A file that lies is refused with one line; nothing that is read from a file can crash the kernels."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.twins import write_raw_store, write_store
from polygate import kernels

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def project(path: Path) -> np.ndarray:
    return kernels.project(path, ["a"], np.ones((1, 3)))


def lies() -> dict[str, tuple[dict[str, object], bytes]]:
    second = {**ENTRY, "data_offsets": [20, 44]}
    return {
        "overlapping offsets": ({"a": ENTRY, "b": second}, bytes(44)),
        "a gap between tensors": ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [28, 52]}}, bytes(52)),
        "offsets beyond the end": ({"a": {**ENTRY, "data_offsets": [0, 2400]}}, bytes(24)),
        "offsets in reverse": ({"a": {**ENTRY, "data_offsets": [24, 0]}}, bytes(24)),
        "a shape larger than its data": ({"a": {**ENTRY, "shape": [200, 3]}}, bytes(24)),
        "a shape that overflows": ({"a": {**ENTRY, "shape": [2**62, 2**62]}}, bytes(24)),
        "a negative shape": ({"a": {**ENTRY, "shape": [-2, 3]}}, bytes(24)),
        "bytes after the last tensor": ({"a": ENTRY}, bytes(30)),
        "missing bytes": ({"a": ENTRY}, bytes(20)),
        "an unknown type": ({"a": {**ENTRY, "dtype": "F33"}}, bytes(24)),
        "no offsets": ({"a": {"dtype": "F32", "shape": [2, 3]}}, bytes(24)),
    }


@pytest.mark.parametrize("lie", lies())
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    header, data = lies()[lie]
    write_raw_store(tmp_path / "store", header, data)
    with pytest.raises(ValueError, match="store: truncated or not a safetensors file"):
        project(tmp_path / "store")


@pytest.mark.parametrize("length", [0, 5, 2**40, 2**64 - 1])
def test_a_header_of_the_wrong_length_is_refused(tmp_path: Path, length: int) -> None:
    write_raw_store(tmp_path / "store", {"a": ENTRY}, bytes(24), length)
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        project(tmp_path / "store")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "whole", {"a": np.ones((2, 3))})
    whole = (tmp_path / "whole").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "part").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated or not a safetensors file|empty"):
            project(tmp_path / "part")


def test_a_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    """Readers of JSON keep the last entry and say nothing."""
    entry = json.dumps(ENTRY)
    write_raw_store(tmp_path / "store", f'{{"a":{entry},"a":{entry}}}', bytes(24))
    with pytest.raises(ValueError, match=r"two entries a"):
        project(tmp_path / "store")


def test_integers_are_not_activations(tmp_path: Path) -> None:
    write_raw_store(tmp_path / "store", {"a": {**ENTRY, "dtype": "I32"}}, bytes(24))
    with pytest.raises(ValueError, match="tensor a is I32, activations are BF16, F16, F32 or F64"):
        project(tmp_path / "store")


def test_an_empty_tensor_is_named(tmp_path: Path) -> None:
    write_raw_store(tmp_path / "store", {"a": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}, b"")
    with pytest.raises(ValueError, match=r"tensor a is empty: shape \[0, 3\]"):
        project(tmp_path / "store")


def write_sealed(path: Path, values: np.ndarray, seal: str | None = None) -> None:
    """A store with the digest of its only tensor in the metadata, the true one by default."""
    digest = seal if seal is not None else f"{zlib.crc32(values.tobytes()):08x}"
    entry = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [0, values.nbytes]}
    header = {"__metadata__": {"polygate.digests": json.dumps({"a": digest})}, "a": entry}
    write_raw_store(path, header, values.tobytes())


@pytest.mark.parametrize("threads", [1, 2])
def test_one_flipped_bit_is_found_by_the_kernels_that_read_it_in_one_file_or_in_shards(
    tmp_path: Path, threads: int
) -> None:
    values = np.random.default_rng(0).normal(size=(1301, 512)).astype(np.float32)
    paths = [tmp_path / "whole", tmp_path / "shard"]
    write_sealed(paths[0], values)
    write_sealed(paths[1], values[:77])
    labels = np.arange(1301 + 77) % 3 - 1

    def means() -> np.ndarray:
        return kernels.class_means(paths, ["a"], labels, threads=threads)

    def scores() -> np.ndarray:
        return kernels.project(paths, ["a"], np.eye(2, 512), threads=threads)

    assert np.isfinite(means()).all()
    assert np.isfinite(scores()).all()
    for broken, row in ((0, 0), (0, 700), (0, 1300), (1, 40)):
        whole = paths[broken].read_bytes()
        content = bytearray(whole)
        content[-values[row : (1301, 77)[broken]].nbytes] ^= 1
        paths[broken].write_bytes(content)
        for kernel in (means, scores):
            with pytest.raises(ValueError, match=rf"{paths[broken].name}: the file is damaged \(tensor a\)"):
                kernel()
        paths[broken].write_bytes(whole)


@pytest.mark.parametrize("seal", ["", "nonsense", "123456789abc"])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, seal: str) -> None:
    write_sealed(tmp_path / "store", np.ones((2, 3), np.float32), seal)
    with pytest.raises(ValueError, match="no digest of tensor a"):
        kernels.class_means(tmp_path / "store", ["a"], np.zeros(2, np.int32))


def test_a_missing_file_and_a_folder_are_operating_system_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        project(tmp_path / "nowhere")
    with pytest.raises((OSError, ValueError), match=tmp_path.name):
        project(tmp_path)


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 20))
def test_a_damaged_header_is_an_error_or_leaves_the_numbers_alone(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "store"
    write_store(path, {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(6.0, 12.0).reshape(2, 3)})
    whole = bytearray(path.read_bytes())
    header = len(whole) - 48
    whole[position % header] = byte
    path.write_bytes(whole[: len(whole) - cut])
    try:
        found = project(path)
    except (ValueError, OSError):
        return
    first, second = np.array([3.0, 12.0]), np.array([21.0, 30.0])
    # A changed name or swapped offsets may make "a" the other tensor; nothing else may come out.
    assert any(np.array_equal(found[0, :, 0], expected) for expected in (first, second))


@settings(max_examples=200, deadline=None)
@given(
    entries=st.dictionaries(
        st.sampled_from("ab"),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "BOOL"]),
                "shape": st.lists(st.integers(0, 9), max_size=3),
                "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2),
            }
        ),
    ),
    size=st.integers(0, 40),
)
def test_any_header_is_refused_or_describes_its_file(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, dict[str, object]], size: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "store"
    write_raw_store(path, json.dumps(entries), bytes(size))
    try:
        found = project(path)
    except ValueError:
        return
    assert found.shape == (1, entries["a"]["shape"][0], 1)
    assert (found == 0).all()
