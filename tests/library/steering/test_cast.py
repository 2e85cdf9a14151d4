"""CAST: directions, similarity and the choice of its condition, against slow twins; who fires is steered."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from library.representation.planted import WIDTH, cosine
from polygate.errors import PolygateError
from polygate.representation.store import ActivationStore, write_store
from polygate.settings.types import Cast as CastSettings
from polygate.settings.types import Thresholds
from polygate.steering import cast
from polygate.steering.cast import Cast, Condition


def naive_direction(p: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power iteration on rows around their pairs' centres, then the sign by counting pairs."""
    rows = []
    for a, b in zip(p, n, strict=True):
        centre = (a + b) / 2
        rows += [a - centre, b - centre]
    scatter = sum(np.outer(row, row) for row in rows)
    v = np.ones(p.shape[1])
    for _ in range(20000):
        v = scatter @ v
        v /= np.linalg.norm(v)
    above = sum(float(a @ v) > float(b @ v) for a, b in zip(p, n, strict=True))
    return v if above >= len(p) / 2 else -v


def naive_similarity(x: list[float], c: list[float]) -> float:
    scale = math.fsum(a * b for a, b in zip(x, c, strict=True)) / math.fsum(b * b for b in c)
    bounded = [math.tanh(scale * b) for b in c]
    lengths = math.sqrt(math.fsum(a * a for a in x)) * math.sqrt(math.fsum(b * b for b in bounded))
    return math.fsum(a * b for a, b in zip(x, bounded, strict=True)) / lengths if lengths else 0.0


def naive_tune(
    similarities: NDArray[np.float64], harmful: NDArray[np.bool_], layers: list[int], thresholds: list[float]
) -> Condition:
    best = None
    for row, layer in enumerate(layers):
        for threshold in thresholds:
            for comparison in ("below", "above"):
                hits = alarms = 0
                for value, label in zip(similarities[row].tolist(), harmful.tolist(), strict=True):
                    if value < threshold if comparison == "below" else value > threshold:
                        hits, alarms = hits + label, alarms + (not label)
                f1 = 2 * hits / (hits + alarms + int(harmful.sum()))
                if best is None or f1 > best.f1:
                    best = Condition(layer, threshold, comparison, f1)  # type: ignore[arg-type]
    assert best is not None
    return best


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("pairs", [30, 8])
def test_directions_are_the_pairs_first_principal_component(sign: int, pairs: int) -> None:
    """With more pairs than dimensions, and with fewer."""
    random = np.random.default_rng(0)
    n = random.normal(size=(pairs, 12))
    p = n + random.normal(size=(pairs, 12)) + sign * 2 * np.eye(12)[3]
    found = cast.pairwise_direction(p.astype(np.float32), n.astype(np.float32))
    np.testing.assert_allclose(found, naive_direction(p, n), atol=1e-5)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert np.sign(found[3]) == sign
    # Uncentred over pairs: what all pairs share is found, not removed.
    assert abs(cosine(found, np.eye(12)[3])) > 0.7


def test_pairs_that_do_not_differ_have_no_direction() -> None:
    with pytest.raises(PolygateError, match="do not differ"):
        cast.pairwise_direction(np.ones((3, 4)), np.ones((3, 4)))


def test_similarity_is_the_cosine_to_the_bounded_projection() -> None:
    random = np.random.default_rng(1)
    c = random.normal(size=16)
    for scale in (0.01, 1, 100):
        x = scale * random.normal(size=(20, 16))
        expected = [naive_similarity(row, c.tolist()) for row in x.tolist()]
        np.testing.assert_allclose(cast.similarity(x.astype(np.float32), c), expected, atol=1e-5)
        # Neither the direction's sign nor its length says anything about a projection on it.
        np.testing.assert_allclose(cast.similarity(x, -3 * c), cast.similarity(x, c), atol=1e-12)
    orthogonal = np.array([[0.0, 2.0]])
    assert cast.similarity(orthogonal, np.array([1.0, 0.0])).tolist() == [0.0]


def test_the_condition_is_the_first_of_the_best_candidates() -> None:
    random = np.random.default_rng(2)
    thresholds = cast.candidates(Thresholds(last=0.06, step=0.01))
    for _ in range(40):
        harmful = random.random(12) < 0.5
        harmful[:2] = True, False
        # Rounded, so that candidates tie and values lie on thresholds.
        similarities = random.uniform(0, 0.07, size=(3, 12)).round(2)
        found = cast.tune(similarities, harmful, (2, 5, 6), thresholds)
        assert found == naive_tune(similarities, harmful, [2, 5, 6], thresholds.tolist())


def test_candidates_are_the_papers_six_hundred_and_one() -> None:
    found = cast.candidates(CastSettings().thresholds)
    assert len(found) == 601
    np.testing.assert_allclose(found[[0, 1, -1]], [0, 0.0001, 0.06], atol=1e-12)
    assert cast.candidates(Thresholds(first=0.5, last=0.5)).tolist() == [0.5]


def test_layers_are_the_papers_at_32_blocks_and_in_proportion_elsewhere() -> None:
    settings = CastSettings()
    lower, upper = settings.condition, settings.behaviour
    assert cast.layers_within(lower, 32) == tuple(range(1, 15))
    assert cast.layers_within(upper, 32) == tuple(range(15, 25))
    for depth in range(4, 100):
        assert cast.layers_within(lower, depth)[-1] < cast.layers_within(upper, depth)[0]
    with pytest.raises(PolygateError, match=r"a model of 2 decoder blocks has none between 0\.03125 and 0\.4375"):
        cast.layers_within(lower, 2)


def world(folder: Path) -> tuple[ActivationStore, NDArray[np.bool_]]:
    """A store of four layers at both positions: harmful prompts lie along axis 0 (mean) and axis 1 (last token)."""
    random = np.random.default_rng(3)
    harmful = np.arange(60) % 2 == 0
    tensors = {}
    for layer in range(4):
        for position, axis in (("t_post_inst", 1), ("mean", 0)):
            x = random.normal(size=(60, WIDTH)).astype(np.float32)
            x[harmful, axis] += 6
            tensors[layer, position] = x
    path = folder / "store.safetensors"
    write_store(path, tensors, [f"p{row}" for row in range(60)], np.ones(60, int), "x", {}, {"model": "m"})
    return ActivationStore.open(path), harmful


def fitted(store: ActivationStore, harmful: NDArray[np.bool_]) -> Cast:
    harmless = np.flatnonzero(~harmful[:40])
    conditions, behaviours = (
        cast.pairs_of(store, position, np.flatnonzero(harmful[:40]), harmless) for position in ("mean", "t_post_inst")
    )
    return cast.fit(conditions, behaviours, store.layers, CastSettings(thresholds=Thresholds(last=1, step=0.01)))


def test_prompts_whose_condition_fires_get_the_behaviour_and_no_other(tmp_path: Path) -> None:
    store, harmful = world(tmp_path)
    found = fitted(store, harmful)
    assert (found.condition_layers, found.behaviour_layers) == ((1,), (2, 3))
    assert cosine(found.condition[0], np.eye(WIDTH)[0]) > 0.9
    assert all(cosine(row, np.eye(WIDTH)[1]) > 0.9 for row in found.behaviour)
    condition = found.tuned(store, np.arange(40), harmful[:40])
    rows = np.arange(40, 60)
    done = found.intervention(store, rows, condition, 2.5)
    assert [(part.layers, part.operation, part.tokens) for part in done.parts] == [((2, 3), "add", "every")]
    fires = [
        naive_similarity(x.tolist(), found.condition[0].tolist()) > condition.threshold
        for x in store.read(1, "mean", rows).astype(float)
    ]
    assert condition.comparison == "above"
    np.testing.assert_array_equal(done.parts[0].coefficients, 2.5 * np.array(fires))
    assert np.mean(np.array(fires) == harmful[rows]) > 0.8


def test_cast_survives_its_file(tmp_path: Path) -> None:
    store, harmful = world(tmp_path)
    found = fitted(store, harmful)
    found.save(tmp_path / "cast.safetensors", {}, {"model": "m"})
    read = Cast.load(tmp_path / "cast.safetensors", model="m")
    rows, condition = np.arange(60), Condition(1, 0.2, "below", 1.0)
    assert read.fixed is None
    replace(found, fixed=condition).save(tmp_path / "fixed.safetensors", {}, {"model": "m"})
    assert Cast.load(tmp_path / "fixed.safetensors").fixed == condition
    done = [one.intervention(store, rows, condition, 1.5).digest() for one in (read, found)]
    assert done[0] == done[1]
    np.testing.assert_array_equal(read.thresholds, found.thresholds)
    with pytest.raises(PolygateError, match="holds model m, expected other"):
        Cast.load(tmp_path / "cast.safetensors", model="other")


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    store, harmful = world(tmp_path)
    found = fitted(store, harmful)
    with pytest.raises(PolygateError, match="it needs harmful and harmless prompts"):
        found.tuned(store, np.flatnonzero(harmful), harmful[harmful])
    one, wide = np.ones((1, WIDTH), np.float32), np.ones((1, 7), np.float32)
    with pytest.raises(PolygateError, match="below all blocks"):
        Cast((2,), one, (2,), one, found.thresholds)
    for layers, behaviour in (((9,), one), ((3,), wide)):
        with pytest.raises(PolygateError, match=f"the model has layers 0 to 3 of width {WIDTH}"):
            Cast((1,), one, layers, behaviour, found.thresholds).check_fits(store)
