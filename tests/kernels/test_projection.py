"""Projections of stored activations are dot products, to 1e-6, whatever the type, the shape and the other rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.twins import Array, bfloat16, write_raw_store, write_shards, write_store
from polygate import kernels

DTYPES = ("BF16", "F16", "F32", "F64")


def stored(values: Array, dtype: str) -> Array:
    """What a store of `dtype` holds of `values`, in float64."""
    held = {"BF16": bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]
    return np.asarray(held(values), np.float64)


def relative_error(found: Array, rows: Array, directions: Array) -> float:
    exact = rows @ directions.T
    scale = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(directions, axis=1)
    return float(np.max(np.abs(found - exact) / scale))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 15, 16, 33, 255, 257, 3584])
@pytest.mark.parametrize("count", [1, 3, 5, 6, 10, 64])
def test_projection_is_the_dot_product_in_float64(tmp_path: Path, dtype: str, width: int, count: int) -> None:
    random = np.random.default_rng([width, count])
    values, directions = random.normal(size=(67, width)) * 5, random.normal(size=(count, width))
    write_store(tmp_path / "store", {"a": values}, dtype)
    found = kernels.project(tmp_path / "store", ["a"], directions)
    assert found.shape == (1, 67, count)
    assert found.dtype == np.float32
    assert relative_error(found[0], stored(values, dtype), directions) <= 1e-6


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 20),
    width=st.integers(1, 70),
    count=st.integers(1, 12),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32),
)
def test_any_shape(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, count: int, dtype: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values, directions = random.normal(size=(rows, width)), random.normal(size=(count, width))
    path = tmp_path_factory.mktemp("any") / "store"
    write_store(path, {"a": values}, dtype)
    found = kernels.project(path, ["a"], directions)[0]
    assert relative_error(found, stored(values, dtype), directions) <= 1e-6


def test_massive_activations_do_not_drown_the_others(tmp_path: Path) -> None:
    """One coordinate of 10⁴, as Gemma-2 has, and a direction that hardly looks at it."""
    random = np.random.default_rng(1)
    values, direction = random.normal(size=(50, 3584)), random.normal(size=(1, 3584))
    values[:, 7] = 1e4
    direction[0, 7] = 1e-4
    write_store(tmp_path / "store", {"a": values}, "BF16")
    rows = stored(values, "BF16")
    found = kernels.project(tmp_path / "store", ["a"], direction)[0, :, 0]
    size = np.abs(rows * direction).sum(axis=1)
    assert np.max(np.abs(found - rows @ direction[0]) / size) <= 1e-6


def test_each_tensor_can_have_its_own_directions(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    tensors = {f"layer.{layer:02d}.t_post_inst": random.normal(size=(9, 40)) for layer in range(3)}
    own = random.normal(size=(3, 4, 40)).astype(np.float32)
    write_store(tmp_path / "store", tensors)
    found = kernels.project(tmp_path / "store", list(tensors), own)
    for layer, name in enumerate(tensors):
        np.testing.assert_array_equal(found[layer], kernels.project(tmp_path / "store", [name], own[layer])[0])
    shared = kernels.project(tmp_path / "store", list(tensors), own[1])
    np.testing.assert_array_equal(shared[1], found[1])


def test_a_row_scores_the_same_alone_and_among_others(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    values, directions = random.normal(size=(11, 100)), random.normal(size=(7, 100))
    write_store(tmp_path / "all", {"a": values}, "F16")
    together = kernels.project(tmp_path / "all", ["a"], directions)[0]
    for row in range(11):
        write_store(tmp_path / "one", {"a": values[row : row + 1]}, "F16")
        np.testing.assert_array_equal(kernels.project(tmp_path / "one", ["a"], directions)[0, 0], together[row])
    alone = [kernels.project(tmp_path / "all", ["a"], directions[k : k + 1])[0, :, 0] for k in range(7)]
    np.testing.assert_array_equal(np.stack(alone, axis=1), together)


def test_data_may_lie_at_odd_addresses(tmp_path: Path) -> None:
    """Foreign writers need not align tensors."""
    values, directions = np.arange(40, dtype="<f4").reshape(4, 10), np.ones((2, 10))
    header = '{"a":{"dtype":"F32","shape":[4,10],"data_offsets":[0,160]}}'
    for padding in range(8):
        write_raw_store(tmp_path / "store", header + " " * padding, values.tobytes())
        found = kernels.project(tmp_path / "store", ["a"], directions)
        np.testing.assert_array_equal(found[0, :, 0], values.sum(axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_not_finite_is_named(tmp_path: Path, bad: float) -> None:
    values = np.ones((9, 300))
    values[5, 299] = bad
    write_store(tmp_path / "store", {"x": np.ones((9, 300)), "layer.04.t_inst": values}, "BF16")
    with pytest.raises(ValueError, match=r"tensor layer\.04\.t_inst holds .* at row 5, column 299"):
        kernels.project(tmp_path / "store", ["x", "layer.04.t_inst"], np.ones((2, 300)))


def test_arguments_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_store(tmp_path / "store", {"a": np.ones((3, 8)), "b": np.ones((4, 8)), "c": np.ones(8)})
    path = tmp_path / "store"
    with pytest.raises(ValueError, match=r"directions have 7 values, rows .* have 8"):
        kernels.project(path, ["a"], np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"directions has shape \(8,\), expected 2 or 3 dimensions"):
        kernels.project(path, ["a"], np.ones(8))
    with pytest.raises(ValueError, match=r"expected \[1 tensors, k, d\]"):
        kernels.project(path, ["a"], np.ones((2, 2, 8)))
    with pytest.raises(ValueError, match="directions has dtype complex128"):
        kernels.project(path, ["a"], np.ones((2, 8), complex))
    with pytest.raises(ValueError, match="directions are empty"):
        kernels.project(path, ["a"], np.ones((0, 8)))
    with pytest.raises(ValueError, match="direction 1 holds NaN"):
        kernels.project(path, ["a"], np.array([[1.0] * 8, [np.nan] * 8]))
    with pytest.raises(ValueError, match=r"tensor b has shape \[4, 8\], tensor a has \[3, 8\]"):
        kernels.project(path, ["a", "b"], np.ones((1, 8)))
    with pytest.raises(ValueError, match=r"tensor c has shape \[8\], expected \[rows, width\]"):
        kernels.project(path, ["c"], np.ones((1, 8)))
    with pytest.raises(ValueError, match="no tensor nowhere"):
        kernels.project(path, ["nowhere"], np.ones((1, 8)))
    with pytest.raises(ValueError, match="no tensors named"):
        kernels.project(path, [], np.ones((1, 8)))


def test_tensors_of_several_layers_and_types_in_one_call(tmp_path: Path) -> None:
    """Types may differ between tensors of one file, as when only some layers were kept in full."""
    random = np.random.default_rng(4)
    half, single = random.normal(size=(6, 20)).astype("<f2"), random.normal(size=(6, 20)).astype("<f4")
    header = {
        "layer.03.t_inst": {"dtype": "F16", "shape": [6, 20], "data_offsets": [0, 240]},
        "layer.11.t_post_inst": {"dtype": "F32", "shape": [6, 20], "data_offsets": [240, 720]},
    }
    write_raw_store(tmp_path / "store", header, half.tobytes() + single.tobytes())
    directions = random.normal(size=(3, 20))
    found = kernels.project(tmp_path / "store", ["layer.11.t_post_inst", "layer.03.t_inst"], directions)
    assert relative_error(found[0], single.astype(float), directions) <= 1e-6
    assert relative_error(found[1], half.astype(float), directions) <= 1e-6


def test_shards_are_one_store_whose_rows_follow_each_other(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    tensors = {name: random.normal(size=(400, 1500)) for name in "ab"}
    directions = random.normal(size=(2, 3, 1500))
    write_store(tmp_path / "whole", tensors, "BF16")
    shards = write_shards(tmp_path, tensors, (1, 380, 400), "BF16")
    whole = kernels.project(tmp_path / "whole", ["b", "a"], directions)
    np.testing.assert_array_equal(kernels.project(shards, ["b", "a"], directions), whole)
    np.testing.assert_array_equal(kernels.project(shards[:1], ["b", "a"], directions), whole[:, :1])


def test_a_wrong_shard_is_named(tmp_path: Path) -> None:
    write_store(tmp_path / "one", {"a": np.ones((3, 8))})
    write_store(tmp_path / "wide", {"a": np.ones((3, 9))})
    write_store(tmp_path / "half", {"a": np.ones((3, 8))}, "F16")
    write_store(tmp_path / "other", {"b": np.ones((3, 8))})
    bad = np.ones((3, 8))
    bad[1, 4] = np.nan
    write_store(tmp_path / "bad", {"a": bad})

    def project(*names: str) -> Array:
        return kernels.project([tmp_path / name for name in names], ["a"], np.ones((1, 8)))

    with pytest.raises(ValueError, match=r"wide: tensor a holds rows of 9 F32, in .*one of 8 F32"):
        project("one", "wide")
    with pytest.raises(ValueError, match=r"half: tensor a holds rows of 8 F16"):
        project("one", "half")
    with pytest.raises(ValueError, match="other: no tensor a"):
        project("one", "other")
    with pytest.raises(ValueError, match="bad: tensor a holds NaN at row 1, column 4"):
        project("one", "one", "bad")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        project("one", "nowhere")
    with pytest.raises(ValueError, match="no files named"):
        project()
