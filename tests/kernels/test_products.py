"""Gram and scatter matrices are those of float64, whatever the type, the shape, the blocks and the shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.test_projection import DTYPES, stored
from kernels.twins import Array, write_shards, write_store
from polygate import kernels


def twin(rows: Array, labels: Array) -> kernels.Moments:
    """Means and scatter matrices of one tensor's classes, row by row from their definition."""
    classes = range(int(labels.max()) + 1)
    means = np.stack([rows[labels == label].mean(axis=0) for label in classes])
    scatter = np.zeros((len(classes), rows.shape[1], rows.shape[1]))
    for row, label in zip(rows, labels, strict=True):
        if label >= 0:
            scatter[label] += np.outer(row - means[label], row - means[label])
    return kernels.Moments(np.bincount(labels[labels >= 0]), means[None], scatter[None])


def assert_close(found: Array, expected: Array) -> None:
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (255, 30), (257, 64), (600, 130)])
def test_gram_is_that_of_float64(tmp_path: Path, dtype: str, rows: int, width: int) -> None:
    random = np.random.default_rng([rows, width])
    tensors = {name: random.normal(size=(rows, width)) * 3 for name in "abc"}
    write_store(tmp_path / "store", tensors, dtype)
    found = kernels.gram(tmp_path / "store", ["c", "a"])
    for index, name in enumerate("ca"):
        values = stored(tensors[name], dtype)
        assert_close(found[index], values @ values.T)
        np.testing.assert_array_equal(found[index], found[index].T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(5, 1), (90, 300), (1400, 40)])
def test_moments_are_those_of_float64(tmp_path: Path, dtype: str, rows: int, width: int) -> None:
    random = np.random.default_rng([rows, width])
    values = random.normal(size=(rows, width)) * 2 + 1
    labels = np.concatenate([[0, 1, 0, 1, -1], random.integers(-1, 2, rows - 5)])
    write_store(tmp_path / "store", {"a": values}, dtype)
    found, expected = kernels.moments(tmp_path / "store", ["a"], labels), twin(stored(values, dtype), labels)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert_close(found.means, expected.means)
    assert_close(found.scatter, expected.scatter)
    np.testing.assert_array_equal(found.scatter, found.scatter.swapaxes(2, 3))
    for label in (0, 1):
        own = stored(values, dtype)[labels == label]
        assert_close(found.covariances()[0, label], np.atleast_2d(np.cov(own.T)))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40), width=st.integers(1, 30), dtype=st.sampled_from(DTYPES),
    ends=st.sets(st.integers(1, 39)), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_any_shape_in_any_shards(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, dtype: str, ends: set[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    values = np.random.default_rng(seed).normal(size=(rows, width))
    shards = write_shards(folder, {"a": values}, sorted({end for end in ends if end < rows} | {rows}), dtype)
    held = stored(values, dtype)
    assert_close(kernels.gram(shards, ["a"])[0], held @ held.T)
    expected = twin(held, np.zeros(rows, int))
    found = kernels.moments(shards, ["a"])
    assert_close(found.scatter, expected.scatter)
    combined = kernels.Moments.combine([kernels.moments(shard, ["a"]) for shard in shards])
    np.testing.assert_array_equal(combined.counts, [rows])
    assert_close(combined.means, expected.means)
    assert_close(combined.scatter, expected.scatter)


def test_shards_read_at_once_give_the_bits_of_the_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(700, 90))
    write_store(tmp_path / "whole", {"a": values}, "BF16")
    shards = write_shards(tmp_path, {"a": values}, (10, 300, 700), "BF16")
    labels = np.arange(700) % 3
    np.testing.assert_array_equal(kernels.gram(shards, ["a"]), kernels.gram(tmp_path / "whole", ["a"]))
    np.testing.assert_array_equal(
        kernels.moments(shards, ["a"], labels).scatter, kernels.moments(tmp_path / "whole", ["a"], labels).scatter
    )


def test_combined_classes_are_one_pass(tmp_path: Path) -> None:
    """As languages of an aggregate: other sizes, other means, some far from 0."""
    random = np.random.default_rng(2)
    sizes = (3, 120, 40, 700)
    values = np.concatenate([random.normal(size=(size, 25)) + 100 * index for index, size in enumerate(sizes)])
    labels = np.arange(len(values)) % 2
    ends = np.cumsum(sizes).tolist()
    shards = write_shards(tmp_path, {"a": values, "b": values[::-1]}, ends, "F64")
    parts = [
        kernels.moments(shard, ["a", "b"], labels[first:end])
        for shard, first, end in zip(shards, [0, *ends], ends, strict=False)
    ]
    combined, whole = kernels.Moments.combine(parts), kernels.moments(shards, ["a", "b"], labels)
    np.testing.assert_array_equal(combined.counts, whole.counts)
    np.testing.assert_allclose(combined.means, whole.means, rtol=1e-12)
    assert_close(combined.scatter, whole.scatter)
    assert_close(combined.covariances(), whole.covariances())


def test_a_mean_far_from_zero_costs_no_digits(tmp_path: Path) -> None:
    """Σ x² − n·mean² would keep two digits here."""
    values = np.random.default_rng(3).normal(size=(300, 4))
    write_store(tmp_path / "near", {"a": values}, "F64")
    write_store(tmp_path / "far", {"a": values + 1e7}, "F64")
    near = kernels.moments(tmp_path / "near", ["a"]).scatter
    np.testing.assert_allclose(kernels.moments(tmp_path / "far", ["a"]).scatter, near, rtol=1e-6, atol=1e-6)


def test_what_is_not_finite_is_named(tmp_path: Path) -> None:
    values = np.ones((600, 20))
    values[520, 13] = np.inf
    write_store(tmp_path / "store", {"a": np.ones((600, 20)), "b": values}, "F16")
    labels = np.zeros(600, int)
    for work in (
        lambda: kernels.gram(tmp_path / "store", ["a", "b"]),
        lambda: kernels.moments(tmp_path / "store", ["a", "b"], labels),
    ):
        with pytest.raises(ValueError, match="tensor b holds inf at row 520, column 13"):
            work()
    labels[520] = -1
    assert (kernels.moments(tmp_path / "store", ["b"], labels).scatter == 0).all()
    write_store(tmp_path / "huge", {"a": np.full((2, 3), 1e200)}, "F64")
    with pytest.raises(ValueError, match="tensor a has products beyond float64"):
        kernels.gram(tmp_path / "huge", ["a"])
    write_store(tmp_path / "huge", {"a": np.array([[1e200], [-1e200]])}, "F64")
    with pytest.raises(ValueError, match="tensor a has products beyond float64"):
        kernels.moments(tmp_path / "huge", ["a"])


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    write_store(tmp_path / "store", {"a": np.ones((3, 8)), "b": np.ones((4, 8))})
    path = tmp_path / "store"
    with pytest.raises(ValueError, match=r"tensor b has shape \[4, 8\], tensor a has \[3, 8\]"):
        kernels.gram(path, ["a", "b"])
    with pytest.raises(ValueError, match="labels has 2 entries, expected 3 as rows of the tensors"):
        kernels.moments(path, ["a"], np.zeros(2, int))
    with pytest.raises(ValueError, match="class 0 has no rows"):
        kernels.moments(path, ["a"], np.ones(3, int))
    with pytest.raises(ValueError, match="class 1 has one row, a covariance needs two"):
        kernels.moments(path, ["a"], np.array([0, 0, 1])).covariances()
    with pytest.raises(ValueError, match="no moments to combine"):
        kernels.Moments.combine([])
    with pytest.raises(ValueError, match="moments of different shapes"):
        kernels.Moments.combine([kernels.moments(path, ["a"]), kernels.moments(path, ["a"], np.array([0, 1, 0]))])
