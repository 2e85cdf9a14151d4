"""Class means are float64 means of the stored rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.test_projection import DTYPES, stored
from kernels.twins import write_shards, write_store
from polygate import kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 511, 512, 1030])
def test_means_are_those_of_float64_and_leave_out_rows_marked_so(tmp_path: Path, dtype: str, width: int) -> None:
    random = np.random.default_rng(width)
    tensors = {name: random.normal(size=(40, width)) * 3 for name in "abc"}
    labels = random.permutation(np.repeat([-1, 0, 1, 2], 10))
    write_store(tmp_path / "store", tensors, dtype)
    found = kernels.class_means(tmp_path / "store", ["c", "a"], labels)
    assert found.dtype == np.float64
    for index, name in enumerate("ca"):
        rows = stored(tensors[name], dtype)
        expected = np.stack([rows[labels == label].mean(axis=0) for label in range(3)])
        np.testing.assert_allclose(found[index], expected, rtol=1e-13, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(-1, 1), min_size=2, max_size=30), dtype=st.sampled_from(DTYPES))
def test_any_labels(tmp_path_factory: pytest.TempPathFactory, labels: list[int], dtype: str) -> None:
    values = np.random.default_rng(len(labels)).normal(size=(len(labels), 5))
    path = tmp_path_factory.mktemp("any") / "store"
    write_store(path, {"a": values}, dtype)
    classes = np.asarray(labels)
    if set(range(max(labels) + 1)) - set(labels) or max(labels) < 0:
        with pytest.raises(ValueError, match=r"class 0 has no rows|labels leave out every row"):
            kernels.class_means(path, ["a"], classes)
        return
    found = kernels.class_means(path, ["a"], classes)[0]
    for label in range(max(labels) + 1):
        np.testing.assert_allclose(found[label], stored(values, dtype)[classes == label].mean(axis=0), atol=1e-14)


def test_sums_do_not_lose_small_values_beside_large_ones(tmp_path: Path) -> None:
    """Float32 sums would stop at 2²⁴ and lose every 1 added after it."""
    values = np.ones((4001, 3), np.float32)
    values[0] = 2.0**24
    write_store(tmp_path / "store", {"a": values})
    found = kernels.class_means(tmp_path / "store", ["a"], np.zeros(4001, int))
    np.testing.assert_array_equal(found[0, 0], (2.0**24 + 4000) / 4001)


def test_what_is_not_finite_is_named_unless_its_row_is_left_out(tmp_path: Path) -> None:
    values = np.ones((6, 700))
    values[4, 600] = np.nan
    write_store(tmp_path / "store", {"a": np.ones((6, 700)), "b": values}, "F16")
    with pytest.raises(ValueError, match="tensor b holds NaN at row 4, column 600"):
        kernels.class_means(tmp_path / "store", ["a", "b"], np.array([0, 0, 1, 1, 1, 1]))
    assert np.isfinite(kernels.class_means(tmp_path / "store", ["b"], np.array([0, 0, 1, 1, -1, 1]))).all()


def test_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_store(tmp_path / "store", {"a": np.ones((3, 8))})
    path = tmp_path / "store"
    with pytest.raises(ValueError, match="labels has 2 entries, expected 3 as rows of the tensors"):
        kernels.class_means(path, ["a"], np.zeros(2, int))
    with pytest.raises(ValueError, match=r"labels\[1\] is -2"):
        kernels.class_means(path, ["a"], np.array([0, -2, 1]))
    with pytest.raises(ValueError, match="class 1 has no rows"):
        kernels.class_means(path, ["a"], np.array([0, 2, 2]))
    with pytest.raises(ValueError, match="labels has dtype float64, expected integers"):
        kernels.class_means(path, ["a"], np.zeros(3))
    with pytest.raises(ValueError, match="labels exceeds the range of int32"):
        kernels.class_means(path, ["a"], np.array([0, 0, 2**40]))


def test_shards_count_as_one_store(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    values, labels = random.normal(size=(500, 700)), random.integers(-1, 2, 500)
    write_store(tmp_path / "whole", {"a": values}, "F16")
    shards = write_shards(tmp_path, {"a": values}, (3, 250, 251, 500), "F16")
    whole = kernels.class_means(tmp_path / "whole", ["a"], labels)
    np.testing.assert_array_equal(kernels.class_means(shards, ["a"], labels), whole)
