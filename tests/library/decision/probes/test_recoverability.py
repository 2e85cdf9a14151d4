"""Few-shot recoverability on a planted world: known limits, controls at chance, fits that are what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from kernels import twins
from kernels.twins import Array
from library.decision.probes.conftest import SETTINGS, load
from library.representation.planted import World, naive_auc
from polygate.decision.fitting import initial_weights
from polygate.decision.probes.full_space import RIDGE
from polygate.decision.probes.recoverability import HIDDEN, _directions, _logistic, _mlp_scores, recoverability
from polygate.decision.probes.rows import Language, Setup
from polygate.errors import PolygateError
from polygate.settings.types import Probes


@pytest.fixture(scope="module")
def tables(languages: Sequence[Language]) -> tuple[pd.DataFrame, pd.DataFrame]:
    draws, means = recoverability(languages, "a", 0)
    return draws.to_pandas(), means.to_pandas()


def test_there_is_a_row_for_every_language_probe_budget_and_draw(
    languages: Sequence[Language], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    draws, means = tables
    few = ["local", "logistic", "mlp", "permuted", "random"]
    assert len(draws) == len(languages) * (2 + len(few) * 3 * 3)
    assert not draws.duplicated(["language", "probe", "budget", "draw"]).any()
    assert draws["estimate"].between(0, 1).all()
    single = means[means["language"] != ""].set_index(["language", "probe", "budget"])["estimate"]
    expected = draws.groupby(["language", "probe", "budget"])["estimate"].mean()
    np.testing.assert_allclose(single.sort_index(), expected.sort_index(), atol=1e-12)
    tier = means[(means["language"] == "") & (means["tier"] == "low")].set_index(["probe", "budget"])["estimate"]
    low = single.loc[["t", "u"]].groupby(["probe", "budget"]).mean()
    np.testing.assert_allclose(tier.sort_index(), low.sort_index(), atol=1e-12)


def test_more_examples_recover_more_and_controls_nothing(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    mean = tables[0].groupby(["probe", "budget"])["estimate"].mean()
    for probe in ("local", "logistic", "mlp"):
        assert mean[probe, 1] < mean[probe, 4] < mean[probe, 16] <= mean["full_local", 0] + 0.02
    assert mean["v_hrl", 0] > mean["local", 4]
    for control in ("permuted", "random"):
        assert abs(mean[control].mean() - 0.5) < 0.07


def test_local_is_the_difference_in_means_of_the_examples_drawn(
    languages: Sequence[Language], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    target = languages[4]
    rows = target.examples[4, 2]
    assert target.harmful[rows].tolist() == [True] * 4 + [False] * 4
    assert not target.choice[rows].any()
    direction = target.train[rows[:4]].mean(axis=0) - target.train[rows[4:]].mean(axis=0)
    found = tables[0].set_index(["language", "probe", "budget", "draw"])["estimate"]
    expected = naive_auc(target.test() @ direction, target.test_harmful)
    assert found["t", "local", 4, 2] == pytest.approx(expected, abs=1e-6)


def standardised(rows: Array, others: Array) -> tuple[Array, Array]:
    """Both on the mean and deviation of the first; a feature that is constant there is 0."""
    deviation = rows.std(axis=0)
    kept = deviation > 0
    return tuple(np.where(kept, (x - rows.mean(axis=0)) / np.where(kept, deviation, 1), 0) for x in (rows, others))  # type: ignore[return-value]


def few_shot(language: Language, draw: int) -> tuple[Array, Array, Array]:
    """Standardised examples, standardised test rows and labels of the largest budget."""
    budget = max(budget for budget, _ in language.examples)
    rows = language.train[language.examples[budget, draw]].astype(np.float64)
    return (*standardised(rows, language.test().astype(np.float64)), language.labels(budget))


def same_up_to_shift(found: Array, expected: Array) -> None:
    """Scores agree within 1e-4 of their spread; an AUC doesn't see a shift."""
    np.testing.assert_allclose(
        (found - found.mean()) / expected.std(), (expected - expected.mean()) / expected.std(), atol=1e-4
    )


@pytest.fixture(scope="module")
def weak() -> Language:
    """As many features as in the paper's models are few and faint: scales a thousandfold apart, most of them noise.

    A mean difference hears the loudest features alone; reading all of them needs their scales taken off.
    """
    draw = np.random.default_rng(0)
    width, train, test = 2048, 128, 800
    scale = np.exp(draw.normal(size=width) * 2)
    signal = 0.025 * draw.choice([-1.0, 1.0], width)
    labels = np.concatenate([np.arange(train) < train // 2, np.arange(test) < test // 2])
    x = (draw.normal(size=(train + test, width)) + np.where(labels, 1, -1)[:, None] * signal) * scale
    x[:, 7] = 3.0
    examples = {(64, 0): np.arange(train)}
    return planted(x[:train].astype(np.float32), x[train:].astype(np.float32), labels, examples)


def planted(train: Array, test: Array, labels: Array, examples: dict[Setup, Array]) -> Language:
    class Rows:
        def read(self, *_: object) -> Array:
            return test

    n = len(train)
    ids = tuple(map(str, range(len(test))))
    none = np.zeros(n, bool)
    rows = np.arange(len(test))
    return Language("t", "low", train, labels[:n], none, ids, labels[n:], examples, Rows(), 0, rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", [0, 1])
def test_logistic_regression_is_scikit_learns_on_standardised_features(
    languages: Sequence[Language], weak: Language, draw: int
) -> None:
    for target, at in ((languages[4], draw), (weak, 0)):
        rows, test, labels = few_shot(target, at)
        width = rows.shape[1]
        twin = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=10000, solver="lbfgs")
        expected = twin.fit(rows / np.sqrt(width), labels).decision_function(test / np.sqrt(width))
        budget = len(labels) // 2
        found = _directions(target, 0, "convex")["logistic"][list(target.examples).index((budget, at))]
        same_up_to_shift(target.test() @ found, expected)


def test_the_papers_optimiser_is_torchs_on_standardised_features(languages: Sequence[Language], weak: Language) -> None:
    for target in (languages[4], weak):
        rows, test, labels = few_shot(target, 0)
        initial = initial_weights("adamw", rows.shape[1], 3)
        assert initial is not None
        weights, _ = twins.adamw(rows, labels, initial, epochs=40)
        own = target.train[target.examples[len(labels) // 2, 0]].astype(np.float64)
        found = _logistic(own, labels, "adamw", 3).astype(np.float32)
        same_up_to_shift(target.test() @ found, test @ weights)


def test_the_small_network_is_torchs_on_standardised_features(languages: Sequence[Language], weak: Language) -> None:
    for target in (languages[4], weak):
        rows, test, labels = few_shot(target, 0)
        found = _mlp_scores(target, target.test(), 5)[list(target.examples).index((len(labels) // 2, 0))]
        expected = twins.network(rows, labels, test, HIDDEN, 5)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())


def test_faint_features_of_unequal_scales_are_read_beyond_the_mean_difference(weak: Language) -> None:
    """The twins' own AUC tells what the examples hold; ours are there, and above the mean difference."""
    draws, _ = recoverability([weak, replace(weak, name="u")], "u", 0)
    paper, _ = recoverability([weak, replace(weak, name="u")], "u", 0, mlp=False, solver="adamw")
    found = draws.to_pandas().query("language == 't'").set_index("probe")["estimate"]
    rows, test, labels = few_shot(weak, 0)
    initial = initial_weights("adamw", rows.shape[1], 0)
    assert initial is not None
    twin = naive_auc(test @ twins.adamw(rows, labels, initial, epochs=40)[0], weak.test_harmful)
    theirs = paper.to_pandas().query("language == 't'").set_index("probe")["estimate"]
    assert theirs["logistic"] == pytest.approx(twin, abs=0.005)
    network = naive_auc(twins.network(rows, labels, test, HIDDEN, 0), weak.test_harmful)
    assert found["mlp"] == pytest.approx(network, abs=0.005)
    assert min(found["logistic"], found["mlp"], theirs["logistic"]) > found["local"] + 0.03


def test_budgets_beyond_the_train_prompts_are_left_out(tmp_path: Path) -> None:
    draws, _ = recoverability(load(World(tmp_path), Probes(budgets=[4, 31, 64], draws=1)), "a", 0, mlp=False)
    assert set(draws.to_pandas()["budget"]) == {0, 4}


def test_a_language_without_one_class_of_test_prompts_has_no_estimate(languages: Sequence[Language]) -> None:
    lacking = replace(languages[4], test_harmful=np.ones(len(languages[4].test_harmful), bool))
    draws, _ = recoverability([*languages[:4], lacking], "a", 0, mlp=False)
    assert "t" not in set(draws.to_pandas()["language"])


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    prompts = world.prompts("a")
    x = world.activations(prompts)
    x[1, 5, 2] = np.nan
    store, written = world.write_activations(prompts, x)
    from polygate.decision.probes.rows import load_all

    with pytest.raises(PolygateError, match=r"of prompt harmful-train-0005.*a\.safetensors"):
        load_all(["high"], [written], [store], 1, SETTINGS, 0)
