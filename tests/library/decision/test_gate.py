"""The gate: what it is fitted on, what its threshold has seen, and that a saved one is the same elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from library.representation.planted import POSITION, WIDTH, World, naive_auc
from polygate.decision import calibration, card, fitting
from polygate.decision.fitting import Fitted, SourceRows
from polygate.decision.gate import Gate, load
from polygate.errors import PolygateError
from polygate.forward.interventions import nothing
from polygate.prompts.table import PromptTable
from polygate.representation.directions import ClassMeans, Directions, class_means, for_target, open_matching
from polygate.settings.types import Gate as GateSettings
from polygate.steering.strength import SteeringVector

SOURCES = ("a", "b", "c", "e")
LAYER = 1
SETTINGS = GateSettings(rank=3, ranks=[1, 3, 10], budgets=[0, 1, 8], draws=4)


class Fixture:
    """Sources and a target of one planted world, read at one layer."""

    def __init__(self, world: World, target: str = "t") -> None:
        self.prompts: dict[str, PromptTable] = {}
        means: dict[str, ClassMeans] = {}
        stores = {}
        for name in (*SOURCES, target):
            store, _ = world.write(name)
            self.prompts[name] = world.prompts(name)
            stores[name] = open_matching(store, self.prompts[name])
            means[name] = class_means(stores[name], self.prompts[name])
        self.directions: Directions = for_target(
            target, {name: means[name] for name in SOURCES}, means[target], pivot="a", rank=10
        )
        readings = {name: fitting.read(stores[name], self.directions, [LAYER]) for name in stores}
        rows = {name: self.prompts[name].select("train", multiple_choice=True) for name in SOURCES}
        self.source = SourceRows.stack(
            SOURCES,
            [readings[name].features[0, rows[name]] for name in SOURCES],
            [self.prompts[name].harmful[rows[name]] for name in SOURCES],
        )
        self.own, self.own_features = self.prompts[target], readings[target].features[0]
        self.x = world.activations(self.own)[LAYER]

    def fitted(self, settings: GateSettings = SETTINGS, seed: int = 0) -> dict[tuple[int, int, int], Fitted]:
        found = fitting.fit_all(self.source, self.own, self.own_features, settings, seed)
        return {(gate.rank, gate.budget, gate.draw): gate for gate in found}


def f1(flagged: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    return float(2 * (flagged & labels).sum() / (flagged.sum() + labels.sum()))


@pytest.fixture
def planted(tmp_path: Path) -> Fixture:
    return Fixture(World(tmp_path, gap=4.0))


def test_every_rank_budget_and_draw_is_fitted_and_ranks_end_at_the_sources(planted: Fixture) -> None:
    keys = set(planted.fitted())
    per_rank = {(0, 0)} | {(budget, draw) for budget in (1, 8) for draw in range(4)}
    assert keys == {(rank, *rest) for rank in (1, 3, 4) for rest in per_rank}


def test_the_source_gate_separates_a_language_it_has_never_seen(planted: Fixture) -> None:
    gate = planted.fitted()[3, 0, 0]
    test = planted.own.select("test")
    scores = gate.fit.score(planted.own_features[test])
    assert naive_auc(scores, planted.own.harmful[test]) > 0.97


def test_no_target_prompt_moves_the_gate_of_budget_0(planted: Fixture) -> None:
    before = planted.fitted()[3, 0, 0]
    planted.own_features = planted.own_features + 100
    after = planted.fitted()[3, 0, 0]
    np.testing.assert_array_equal(before.fit.weights, after.fit.weights)
    assert before.fit.threshold == after.fit.threshold


def test_no_target_prompt_but_the_examples_moves_a_calibrated_gate(planted: Fixture) -> None:
    """Leakage: change every target row that was not drawn, and nothing about the gate changes."""
    from polygate.decision.calibration import draw_examples

    before = planted.fitted()
    for draw in range(4):
        drawn = draw_examples(planted.own, 8, draw, seed=0)
        others = np.setdiff1d(np.arange(len(planted.own)), drawn)
        changed = Fixture.__new__(Fixture)
        changed.__dict__.update(planted.__dict__)
        changed.own_features = planted.own_features.copy()
        changed.own_features[others] = np.random.default_rng(draw).normal(size=(len(others), 4)) * 50
        after = changed.fitted()[3, 8, draw]
        np.testing.assert_array_equal(before[3, 8, draw].fit.weights, after.fit.weights)
        assert before[3, 8, draw].fit.threshold == after.fit.threshold


def test_the_examples_do_move_the_gate_and_its_threshold(planted: Fixture) -> None:
    source, one, other = (planted.fitted()[3, budget, draw] for budget, draw in ((0, 0), (8, 0), (8, 1)))
    assert source.fit.threshold.origin == "source"
    assert one.fit.threshold.origin == "examples"
    assert len({gate.fit.bias for gate in (source, one, other)}) == 3
    assert len({gate.fit.threshold.threshold for gate in (source, one, other)}) == 3


def test_the_releases_threshold_is_the_best_on_all_of_val_and_says_so(planted: Fixture) -> None:
    """The same fits; thresholds that no midpoint of val's scores beats, by brute force, and that no test row moves."""
    settings = SETTINGS.model_copy(update={"threshold_on": "val"})
    ours, theirs = planted.fitted(), planted.fitted(settings)
    val = planted.own.select("val")
    for key, gate in theirs.items():
        np.testing.assert_array_equal(gate.fit.weights, ours[key].fit.weights)
        if key[1] == 0:
            assert gate.fit.threshold == ours[key].fit.threshold
            continue
        assert gate.fit.threshold.origin == "val"
        scores, labels = gate.fit.score(planted.own_features[val]), planted.own.harmful[val]
        best = max(f1(scores > at, labels) for at in [-np.inf, *scores, *(scores + 1e-9)])
        assert f1(scores > gate.fit.threshold.threshold, labels) == pytest.approx(best)
    planted.own_features[planted.own.select("test")] += 50
    assert {key: gate.fit.threshold for key, gate in planted.fitted(settings).items()} == {
        key: gate.fit.threshold for key, gate in theirs.items()
    }


def test_a_target_without_val_prompts_of_both_classes_cant_have_the_releases_threshold(planted: Fixture) -> None:
    split = planted.own.split.copy()
    split[planted.own.select("val", "harmful")] = "test"
    planted.own = replace(planted.own, split=split)
    with pytest.raises(PolygateError, match=r"which gate\.threshold_on: val needs"):
        planted.fitted(SETTINGS.model_copy(update={"threshold_on": "val"}))


def test_a_score_at_the_threshold_is_what_the_settings_say(planted: Fixture) -> None:
    for ties, flagged in (("harmless", False), ("harmful", True)):
        gate = planted.fitted(SETTINGS.model_copy(update={"ties": ties}))[3, 8, 0]
        at = planted.fitted()[3, 8, 0].fit.threshold.threshold
        scores = np.array([np.nextafter(at, -np.inf), at, np.nextafter(at, np.inf)])
        decided = calibration.decide(scores, gate.fit.threshold.threshold)
        assert decided.tolist() == [False, flagged, True]


def test_the_threshold_of_a_budget_is_the_best_on_its_examples_alone(planted: Fixture) -> None:
    """Moving all source scores' labels can't matter: the sweep sees 2b scores. Checked against a brute-force sweep."""
    from polygate.decision.calibration import draw_examples

    gate = planted.fitted()[3, 8, 2]
    rows = draw_examples(planted.own, 8, 2, seed=0)
    scores, labels = gate.fit.score(planted.own_features[rows]), planted.own.harmful[rows]
    best = max(f1(scores > at, labels) for at in [-np.inf, *(scores + 1e-9), np.inf])
    assert gate.fit.threshold.value == pytest.approx(best)
    assert f1(scores > gate.fit.threshold.threshold, labels) == pytest.approx(best)


def test_a_few_examples_repair_a_language_whose_scores_are_shifted(tmp_path: Path) -> None:
    """The paper's point: separable as ever, decided wrongly until the threshold is reset."""
    planted = Fixture(World(tmp_path, gap=6.0, shift={"t": -7.0}))
    test = planted.own.select("test")
    labels = planted.own.harmful[test]

    def measured(gate: Fitted) -> tuple[float, float]:
        scores = gate.fit.score(planted.own_features[test])
        return naive_auc(scores, labels), float(((scores > gate.fit.threshold.threshold) == labels).mean())

    fitted = planted.fitted()
    auc, accuracy = measured(fitted[1, 0, 0])
    assert auc > 0.98
    assert accuracy < 0.6
    assert np.mean([measured(fitted[1, 8, draw])[1] for draw in range(4)]) > 0.9


def test_a_gate_of_rank_1_is_the_direction_with_a_threshold(planted: Fixture) -> None:
    """On one feature the logit is an increasing function of the projection on v_HRL: same order, same decisions."""
    gate = planted.fitted()[1, 0, 0]
    projections = planted.x.astype(np.float64) @ planted.directions.pc1_of_diffs[LAYER].astype(np.float64)
    scores = gate.fit.score(planted.own_features)
    assert gate.fit.weights[0] > 0
    assert np.argsort(projections).tolist() == np.argsort(scores).tolist()
    cut = gate.fit.mean[0] + gate.fit.scale[0] * (gate.fit.threshold.threshold - gate.fit.bias) / gate.fit.weights[0]
    np.testing.assert_array_equal(projections > cut, scores > gate.fit.threshold.threshold)


@pytest.mark.parametrize("signs", [[-1, 1, 1, 1], [1, -1, 1, -1]])
def test_the_convex_gate_does_not_depend_on_signs_of_the_subspace(planted: Fixture, signs: list[int]) -> None:
    before = planted.fitted()[4, 8, 1]
    turned = Fixture.__new__(Fixture)
    turned.__dict__.update(planted.__dict__)
    turned.source = replace(planted.source, features=planted.source.features * np.array(signs))
    turned.own_features = planted.own_features * np.array(signs, np.float32)
    after = turned.fitted()[4, 8, 1]
    np.testing.assert_allclose(
        before.fit.score(planted.own_features), after.fit.score(turned.own_features), rtol=0, atol=1e-7
    )


def test_the_convex_gate_satisfies_its_first_order_conditions(tmp_path: Path) -> None:
    """At the minimum the class-balanced residuals sum to 0, and the gradient is along the weights (weight decay)."""
    planted = Fixture(World(tmp_path, gap=1.5))
    fit = planted.fitted()[4, 0, 0].fit
    assert fit.converged
    x, y = planted.source.features, planted.source.labels
    positive = (~y).sum() / y.sum()
    residual = np.where(y, positive, 1.0) * (1 / (1 + np.exp(-fit.score(x))) - y) / len(y)
    z = (x - fit.mean) / fit.scale
    assert abs(residual.sum()) < 1e-6
    gradient = z.T @ residual
    decay = -(gradient @ fit.weights) / (fit.weights @ fit.weights)
    assert decay > 0
    np.testing.assert_allclose(gradient, -decay * fit.weights, atol=1e-6)


def test_features_are_standardised_on_the_rows_fitted_on(planted: Fixture) -> None:
    from polygate.decision.calibration import draw_examples

    fitted = planted.fitted()
    rows = planted.source.features[:, :3]
    np.testing.assert_allclose(fitted[3, 0, 0].fit.mean, rows.mean(axis=0), rtol=1e-9)
    with_examples = np.concatenate([rows, planted.own_features[draw_examples(planted.own, 8, 1, seed=0), :3]])
    np.testing.assert_allclose(fitted[3, 8, 1].fit.mean, with_examples.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(fitted[3, 8, 1].fit.scale, with_examples.std(axis=0), rtol=1e-9)


def test_classes_weigh_the_same_whatever_their_number() -> None:
    """Nine harmless prompts to one harmful: the boundary between two equal Gaussians stays half way."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(2, 1, 300), random.normal(-2, 1, 2700)])[:, None]
    labels = np.arange(3000) < 300
    source = SourceRows(x, labels, np.zeros(3000, np.int64), ("a",))
    fit = fitting.fit_source(source, 1)
    boundary = fit.mean[0] - fit.scale[0] * fit.bias / fit.weights[0]
    assert abs(boundary) < 0.25


def test_the_papers_optimiser_is_seeded_and_agrees_with_the_convex_solve(planted: Fixture) -> None:
    settings = SETTINGS.model_copy(update={"solver": "adamw"})
    test = planted.own.select("test")
    scores = {
        name: planted.fitted(chosen, seed)[3, 0, 0].fit.score(planted.own_features[test])
        for name, chosen, seed in (("a", settings, 0), ("b", settings, 0), ("c", settings, 1), ("convex", SETTINGS, 0))
    }
    np.testing.assert_array_equal(scores["a"], scores["b"])
    assert np.abs(scores["a"] - scores["c"]).max() > 1e-6
    assert naive_auc(scores["a"], planted.own.harmful[test]) > 0.97
    assert np.corrcoef(scores["a"], scores["convex"])[0, 1] > 0.98


def test_first_weights_of_the_optimiser_are_xavier_uniform() -> None:
    for rank in (1, 10, 400):
        weights = fitting.initial_weights("adamw", rank, 0)
        assert weights is not None
        bound = np.sqrt(6 / (rank + 1))
        assert np.abs(weights).max() <= bound
    assert np.abs(weights).mean() == pytest.approx(bound / 2, rel=0.1)


def test_without_multiple_choice_negatives_the_gate_takes_them_for_harmful(planted: Fixture) -> None:
    """Why the harmless rows include multiple-choice prompts of the sources."""
    with_them = planted.fitted()[4, 0, 0]
    choice = planted.own.multiple_choice
    ordinary = np.concatenate(
        [
            ~planted.prompts[name].multiple_choice[planted.prompts[name].select("train", multiple_choice=True)]
            for name in SOURCES
        ]
    )
    s = planted.source
    less = SourceRows(s.features[ordinary], s.labels[ordinary], s.languages[ordinary], s.names)
    without = fitting.fit_source(less, 4)
    seen = planted.own_features[choice]
    assert with_them.fit.score(seen).mean() < without.score(seen).mean()
    assert with_them.balance["a"] == (40, 36)
    assert less.balance()["a"] == (40, 30)


def test_class_balance_counts_the_examples_too(planted: Fixture) -> None:
    fitted = planted.fitted()
    assert "t" not in fitted[3, 0, 0].balance
    assert fitted[3, 8, 0].balance["t"] == (8, 8)


def steering(planted: Fixture) -> SteeringVector:
    return SteeringVector(planted.directions.pooled_dim[LAYER], LAYER, 1.5, 2.0, "all", "t", SOURCES)


def test_a_saved_gate_gives_the_very_scores_of_the_table(planted: Fixture, tmp_path: Path) -> None:
    fitted = list(planted.fitted().values())
    table = card.score_table(planted.own, planted.own_features, fitted, "convex").to_pandas()
    shown = np.concatenate([planted.own.select("val"), planted.own.select("test")])
    for gate in fitted:
        path = tmp_path / f"{gate.rank}.{gate.budget}.{gate.draw}.safetensors"
        card.gate_of(gate, planted.directions.basis[LAYER], steering(planted), POSITION, "convex").save(path, {})
        loaded = load(path)
        rows = table[(table["rank"] == gate.rank) & (table["budget"] == gate.budget) & (table["draw"] == gate.draw)]
        assert rows["prompt_id"].tolist() == [planted.own.ids[row] for row in shown]
        np.testing.assert_array_equal(loaded.score(planted.x[shown]), rows["score"].to_numpy())
        np.testing.assert_array_equal(loaded.decide(planted.x[shown]), rows["flagged"].to_numpy())
        # One prompt alone gets the score it has among others.
        assert loaded.score(planted.x[shown[3]])[0] == rows["score"].iloc[3]


def test_a_saved_gate_holds_all_that_is_needed(planted: Fixture, tmp_path: Path) -> None:
    gate = card.gate_of(
        planted.fitted()[3, 8, 2], planted.directions.basis[LAYER], steering(planted), POSITION, "convex"
    )
    gate.save(tmp_path / "gate.safetensors", {"module": "here"})
    loaded = Gate.load(tmp_path / "gate.safetensors")
    for name in ("basis", "mean", "scale", "weights", "v"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(gate, name))
    plain = ("bias", "threshold", "alpha", "layer", "position", "rank", "solver", "threshold_from", "informative")
    for name in (*plain, "language", "budget", "draw", "sources", "balance"):
        assert getattr(loaded, name) == getattr(gate, name), name
    assert loaded.alpha == 3.0
    assert loaded.basis.shape == (WIDTH, 3)


def test_a_gate_without_finite_threshold_survives_its_file(planted: Fixture, tmp_path: Path) -> None:
    gate = card.gate_of(
        planted.fitted()[3, 0, 0], planted.directions.basis[LAYER], steering(planted), POSITION, "convex"
    )
    replace(gate, threshold=-np.inf).save(tmp_path / "gate.safetensors", {})
    assert load(tmp_path / "gate.safetensors").decide(planted.x).all()


def test_activations_of_another_width_are_refused(planted: Fixture) -> None:
    gate = card.gate_of(
        planted.fitted()[3, 0, 0], planted.directions.basis[LAYER], steering(planted), POSITION, "convex"
    )
    with pytest.raises(ValueError, match="width 23"):
        gate.score(planted.x[:, 1:])


def test_activations_that_are_not_finite_are_named(planted: Fixture, tmp_path: Path) -> None:
    world = World(tmp_path / "broken")
    x = world.activations(planted.own)
    x[LAYER, 7, 0] = np.inf
    store, _ = world.write_activations(planted.own, x)
    with pytest.raises(PolygateError, match=rf"{planted.own.ids[7]} at layer {LAYER}, in .*t\.safetensors"):
        fitting.read(open_matching(store, planted.own), planted.directions, [LAYER])


def test_a_file_that_is_no_gate_is_refused(tmp_path: Path) -> None:
    nothing(["harmful-test-0000"]).save(tmp_path / "intervention.safetensors", {})
    with pytest.raises(PolygateError, match="not a gate"):
        load(tmp_path / "intervention.safetensors")


def test_the_card_says_what_a_user_needs(planted: Fixture) -> None:
    fitted = [gate for gate in planted.fitted().values() if gate.rank == 3]
    text = card.card(fitted, steering(planted), SETTINGS, planted.directions.singular_values[LAYER], {"dtype": "x"})
    for words in (
        "a, b, c, e",
        "decoder block 1",
        "| a | 40 | 36 |",
        "| t (at the largest budget) | 8 | 8 |",
        "| 8 | 4 |",
    ):
        assert words in text
    one_sided = [replace(gate, balance={**gate.balance, "b": (0, 30)}) for gate in fitted]
    warned = card.card(one_sided, steering(planted), SETTINGS, planted.directions.singular_values[LAYER], {})
    assert "One class only in b" in warned
