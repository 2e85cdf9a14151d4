"""Directions: what is planted is found, whatever the signs, and a target never lends itself a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from library.representation.planted import LAYERS, WIDTH, World, cosine
from polygate.errors import PolygateError
from polygate.representation import directions
from polygate.representation.directions import ClassMeans, Directions
from polygate.representation.store import ActivationStore
from polygate.representation.subspace import orient, subspace

SOURCES = ("a", "b", "c", "e")


def means_of(world: World, language: str) -> ClassMeans:
    store, _ = world.write(language)
    prompts = world.prompts(language)
    return directions.class_means(directions.open_matching(store, prompts), prompts)


def random_means(seed: int, counts: tuple[int, int] = (10, 20)) -> ClassMeans:
    random = np.random.default_rng(seed)
    return ClassMeans(random.normal(size=(LAYERS, WIDTH)), random.normal(size=(LAYERS, WIDTH)), counts)


def test_class_means_are_means_of_the_train_prompts_without_multiple_choice(tmp_path: Path) -> None:
    world = World(tmp_path)
    prompts = world.prompts("a")
    x = world.activations(prompts).astype(np.float64)
    means = means_of(world, "a")
    harmless = prompts.select("train", "harmless")
    assert not set(harmless) & set(np.flatnonzero(prompts.multiple_choice))
    np.testing.assert_allclose(means.harmful, x[:, prompts.select("train", "harmful")].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(means.harmless, x[:, harmless].mean(axis=1), rtol=1e-12)
    assert means.counts == (40, 30)


def test_both_estimators_recover_the_planted_direction(tmp_path: Path) -> None:
    world = World(tmp_path, gap=8.0, tilt=0.2)
    sources = {name: means_of(world, name) for name in SOURCES}
    found = directions.for_target("t", sources, means_of(world, "t"), pivot="a", rank=3)
    for layer in range(LAYERS):
        assert cosine(found.pc1_of_diffs[layer], world.shared[layer]) > 0.98
        assert cosine(found.pooled_dim[layer], world.shared[layer]) > 0.98


def test_every_direction_has_unit_length_in_float32(tmp_path: Path) -> None:
    world = World(tmp_path)
    sources = {name: means_of(world, name) for name in SOURCES}
    found = directions.for_target("t", sources, means_of(world, "t"), pivot="a", rank=10)
    for rows in (found.pc1_of_diffs, found.pooled_dim, found.local, found.basis):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=-1), 1, atol=2e-7)
    gram = np.einsum("lid,ljd->lij", found.basis.astype(np.float64), found.basis.astype(np.float64))
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(len(SOURCES)), gram.shape), atol=1e-6)


def test_the_first_right_singular_vector_is_the_direction_and_the_rank_is_clipped_to_the_sources() -> None:
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    found = directions.for_target("t", sources, random_means(99), pivot="a", rank=10)
    assert found.basis.shape == (LAYERS, len(SOURCES), WIDTH)
    np.testing.assert_array_equal(found.basis[:, 0], found.pc1_of_diffs)


def test_pc1_maximises_the_summed_squared_cosines_with_the_source_directions() -> None:
    """The definition of an uncentred first component, against many random rivals."""
    random = np.random.default_rng(3)
    stack = directions.unit(random.normal(size=(5, WIDTH)) + 1)
    first = directions.pc1_of_diffs(stack, stack[0])
    rivals = directions.unit(np.concatenate([random.normal(size=(500, WIDTH)), stack, stack.mean(axis=0)[None]]))
    assert ((stack @ first) ** 2).sum() >= ((rivals @ stack.T) ** 2).sum(axis=1).max()


def test_the_stack_is_not_centred() -> None:
    """Languages that all have the same direction leave nothing after centring; here it is the answer."""
    direction = np.eye(WIDTH)[4]
    np.testing.assert_allclose(directions.pc1_of_diffs(np.stack([direction] * 3), direction), direction, atol=1e-12)


def test_languages_count_alike_in_pc1_whatever_the_size_of_their_difference() -> None:
    """d_l is normalised before it is stacked: a language with large activations gets no larger say."""
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    loud = {**sources, "b": ClassMeans(sources["b"].harmful * 50, sources["b"].harmless * 50, sources["b"].counts)}
    a = directions.for_target("t", sources, random_means(9), pivot="a", rank=2)
    b = directions.for_target("t", loud, random_means(9), pivot="a", rank=2)
    np.testing.assert_allclose(a.pc1_of_diffs, b.pc1_of_diffs, atol=1e-6)


def test_pooled_difference_weights_languages_by_their_prompts() -> None:
    """Pooling means of 10 and 30 prompts is the mean of the 40 prompts."""
    random = np.random.default_rng(5)
    harmful = [random.normal(size=(n, LAYERS, WIDTH)) for n in (10, 30)]
    harmless = [random.normal(size=(n, LAYERS, WIDTH)) for n in (25, 5)]
    means = [
        ClassMeans(a.mean(axis=0), b.mean(axis=0), (len(a), len(b))) for a, b in zip(harmful, harmless, strict=True)
    ]
    expected = np.concatenate(harmful).mean(axis=0) - np.concatenate(harmless).mean(axis=0)
    np.testing.assert_allclose(directions.pooled_dim(means), directions.unit(expected), atol=1e-12)


def test_signs_of_singular_vectors_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear algebra library may return any signs; every stored row is the same."""
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    before = directions.for_target("t", sources, random_means(9), pivot="b", rank=4)
    genuine = np.linalg.svd

    def flipped(a: np.ndarray, **options: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        u, s, v = genuine(a, **options)
        signs = np.where(np.arange(len(s)) % 2 == 0, -1.0, 1.0)
        return u * signs, s, v * signs[:, None]

    monkeypatch.setattr(np.linalg, "svd", flipped)
    after = directions.for_target("t", sources, random_means(9), pivot="b", rank=4)
    np.testing.assert_array_equal(before.basis, after.basis)
    np.testing.assert_array_equal(before.pc1_of_diffs, after.pc1_of_diffs)


def test_the_direction_points_to_harmful_in_the_pivot() -> None:
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    pivot = directions.difference_in_means(sources["c"])
    found = directions.for_target("t", sources, random_means(9), pivot="c", rank=4)
    assert (np.einsum("ld,ld->l", found.pc1_of_diffs, pivot) > 0).all()
    assert (np.einsum("lrd,ld->lr", found.basis, pivot) > 0).all()


def test_the_first_source_orients_when_the_pivot_is_the_target() -> None:
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    first = directions.difference_in_means(sources["a"])
    found = directions.for_target("t", sources, random_means(9), pivot="t", rank=4)
    assert (np.einsum("ld,ld->l", found.pc1_of_diffs, first) > 0).all()


def test_a_row_at_right_angles_to_the_pivot_still_has_one_sign() -> None:
    rows = np.eye(4)[[1, 2]] * np.array([[-1.0], [1.0]])
    np.testing.assert_array_equal(orient(rows, np.eye(4)[0]), np.eye(4)[[1, 2]])


def test_a_target_is_never_among_its_sources() -> None:
    with pytest.raises(PolygateError, match="among its own sources"):
        directions.for_target("a", {name: random_means(1) for name in SOURCES}, random_means(2), pivot="b", rank=1)


def test_a_targets_own_prompts_do_not_move_the_directions_it_is_tested_with() -> None:
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    one = directions.for_target("t", sources, random_means(50), pivot="a", rank=3)
    other = directions.for_target("t", sources, random_means(51), pivot="a", rank=3)
    for name in ("pc1_of_diffs", "pooled_dim", "basis"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert np.abs(one.local - other.local).max() > 0.01


def test_singular_values_say_how_much_the_languages_share() -> None:
    alike = subspace(np.stack([np.eye(5)[0]] * 4), 4, np.eye(5)[0]).singular_values
    np.testing.assert_allclose(alike, [2, 0, 0, 0], atol=1e-12)
    apart = subspace(np.eye(5)[:4], 4, np.eye(5)[0]).singular_values
    np.testing.assert_allclose(apart, 1, atol=1e-12)


def test_projections_are_inner_products_of_the_stored_activations(tmp_path: Path) -> None:
    world = World(tmp_path)
    sources = {name: means_of(world, name) for name in SOURCES}
    found = directions.for_target("t", sources, means_of(world, "t"), pivot="a", rank=2)
    prompts = world.prompts("t")
    store, _ = world.write("t")
    table = directions.projections(directions.open_matching(store, prompts), prompts, found)
    assert set(table["split"].to_pylist()) == {"val", "test"}
    x = world.activations(prompts).astype(np.float64)
    row = {name: i for i, name in enumerate(prompts.ids)}
    by_name = {"v_hrl": found.pc1_of_diffs, "v_hrl_pooled": found.pooled_dim, "local": found.local}
    assert table.num_rows == LAYERS * len(by_name) * (8 + 8 + 25 + 20)
    for entry in table.to_pylist():
        i, layer = row[entry["prompt_id"]], entry["layer"]
        assert entry["score"] == pytest.approx(x[layer, i] @ by_name[entry["scorer"]][layer], abs=1e-5)
        assert entry["token_count"] == i + 1
        assert (entry["split"], entry["subset"]) == (prompts.split[i], prompts.subset[i])


def test_directions_and_means_survive_their_files(tmp_path: Path) -> None:
    sources = {name: random_means(i) for i, name in enumerate(SOURCES)}
    found = directions.for_target("t", sources, random_means(9), pivot="a", rank=3)
    found.save(tmp_path / "d.safetensors", {})
    loaded = Directions.load(tmp_path / "d.safetensors")
    assert (loaded.target, loaded.sources) == ("t", SOURCES)
    np.testing.assert_array_equal(loaded.basis, found.basis)
    sources["a"].save(tmp_path / "m.safetensors", "a", {})
    means = ClassMeans.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(means.harmful, sources["a"].harmful)
    assert means.counts == (10, 20)


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    prompts = world.prompts("a")
    x = world.activations(prompts)
    x[1, 3, 5] = np.nan
    store, _ = world.write_activations(prompts, x)
    with pytest.raises(PolygateError, match=r"(?i)nan.*a\.safetensors"):
        directions.class_means(ActivationStore.open(store), prompts)


def test_classes_with_the_same_mean_have_no_direction() -> None:
    same = np.ones((LAYERS, WIDTH))
    with pytest.raises(PolygateError, match="same mean"):
        directions.difference_in_means(ClassMeans(same, same, (1, 1)))


def test_activations_of_other_prompts_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    store, _ = world.write("a", multiple_choice=False)
    with pytest.raises(PolygateError, match="activations of"):
        directions.open_matching(store, world.prompts("a"))
