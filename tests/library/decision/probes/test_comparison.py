"""The comparison of probes on a planted world: features, fits, thresholds, and who may see which rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_info, threadpool_limits

from kernels import twins
from library.decision.probes.conftest import TIERS
from polygate import kernels
from polygate.decision import fitting
from polygate.decision.fitting import Examples, SourceRows
from polygate.decision.probes.comparison import GROUPS, Comparison, principal_components
from polygate.decision.probes.estimates import Probe
from polygate.decision.probes.features import Group
from polygate.decision.probes.rows import Language
from polygate.measurement.metrics import f1 as f1_of
from polygate.representation.subspace import subspace
from polygate.settings.types import Gate

GATE = Gate(rank=3, ranks=[1, 2, 3], budgets=[0, 1], draws=1)


@pytest.fixture(scope="module")
def comparison(languages: Sequence[Language]) -> Comparison:
    return Comparison(languages, GATE, "a", 0)


@pytest.fixture(scope="module")
def draws(comparison: Comparison) -> pd.DataFrame:
    return comparison.run()[0].to_pandas()


def group_of(comparison: Comparison, name: str, target: str) -> tuple[Language, Group]:
    language = comparison.languages[target]
    group = comparison.group(name, language)
    assert group is not None
    return language, group


def test_sources_never_hold_the_target(comparison: Comparison) -> None:
    for target in comparison.targets:
        found = [comparison.group(name, target) for name in GROUPS]
        assert sum(group is not None for group in found) >= 2
        assert all(target.name not in group.names for group in found if group is not None)
    assert comparison.group("mid", comparison.languages["m"]) is None
    assert group_of(comparison, "high+mid", "t")[1].names == ("a", "b", "c", "m")
    assert group_of(comparison, "low", "t")[1].names == ("u",)
    assert group_of(comparison, "all", "t")[1].names == ("a", "b", "c", "m", "u")
    assert group_of(comparison, "all", "a")[1].names == ("b", "c", "m", "t", "u")


def test_random_subspaces_are_the_same_for_every_target_and_others_in_every_draw(
    comparison: Comparison, draws: pd.DataFrame
) -> None:
    """A random subspace is another basis with the subspace's own fit: whatever it reaches, fitting alone gives."""
    target, group = group_of(comparison, "high", "t")
    scored = comparison._random_subspace(target, group, 2)
    rows = np.concatenate([comparison.languages[name].train for name in group.names])
    for draw in range(3):
        axes = np.linalg.qr(np.random.default_rng([0, 2, draw]).normal(size=(rows.shape[1], 2)))[0]
        source, own, test = (part.astype(np.float64) @ axes for part in (rows, target.train, target.test()))
        known = np.concatenate([source, own[target.examples[4, draw]]])
        labels = np.concatenate([group.harmful, target.labels(4)])
        plain = kernels.fit_logistic(known, labels, None, None, solver="convex")
        slope = plain.weights[0] / plain.scale[0]
        expected = test @ slope + plain.bias[0] - plain.mean[0] @ slope
        np.testing.assert_allclose(scored.test[scored.setups.index((4, draw))], expected, atol=1e-3)
    mine = draws[(draws["probe"] == "random_subspace") & (draws["threshold_from"] == "source") & (draws["rank"] == 2)]
    assert mine[(mine["language"] == "t") & (mine["budget"] == 0)]["threshold"].nunique() == 3


def test_subspace_features_are_coordinates_on_the_singular_vectors(comparison: Comparison) -> None:
    target, group = group_of(comparison, "high", "t")
    differences = np.stack([comparison.languages[name].difference() for name in group.names])
    basis = subspace(differences, 3, comparison.languages["a"].difference()).basis
    source, own, test = comparison.differences.subspace(target, group)
    rows = np.concatenate([comparison.languages[name].train for name in group.names])
    for found, values in ((source, rows), (own, target.train), (test, target.test())):
        np.testing.assert_allclose(found, values.astype(np.float64) @ basis.T, atol=1e-6)


def test_principal_components_are_those_of_the_centred_rows(languages: Sequence[Language]) -> None:
    rows = np.concatenate([language.train for language in languages[:3]])
    expected = PCA(3, svd_solver="full").fit(rows.astype(np.float64))
    found = principal_components(rows, 3, 0)
    np.testing.assert_allclose(np.abs(found @ expected.components_.T), np.eye(3), atol=0.02)


def test_logistic_probes_are_the_gates_of_the_same_draws(comparison: Comparison, draws: pd.DataFrame) -> None:
    target, group = group_of(comparison, "high", "t")
    source, own, test = comparison.differences.subspace(target, group)
    rows = SourceRows(source, group.harmful, group.languages, group.names)
    examples = [Examples(own[target.examples[4, draw]], target.labels(4)) for draw in range(3)]
    found = draws[(draws["language"] == "t") & (draws["probe"] == "subspace") & (draws["sources"] == "high")]
    found = found[(found["rank"] == 2) & (found["budget"] == 4)]
    for draw, fit in enumerate(fitting.fit_examples(rows, examples, 2)):
        scores = fit.score(test)
        mine = found[found["draw"] == draw].set_index(["metric", "threshold_from"])["estimate"]
        assert mine["auc", ""] == pytest.approx(kernels.auc(scores, target.test_harmful), abs=1e-12)
        flagged = scores > fit.threshold.threshold
        assert mine["f1", "examples"] == pytest.approx(f1_of(flagged, target.test_harmful), abs=1e-12)


def test_thresholds_come_from_where_they_say(comparison: Comparison, draws: pd.DataFrame) -> None:
    pairs = [group_of(comparison, "high", name) for name in ("t", "u")]
    scored = [comparison._direction(*pair, comparison.differences.subspace(*pair)) for pair in pairs]
    one = draws[(draws["probe"] == "direction") & (draws["sources"] == "high") & (draws["metric"] == "f1")]
    one = one.set_index(["language", "budget", "draw", "threshold_from"])["threshold"]
    target, group = pairs[0]
    source = kernels.sweep_threshold(scored[0].source[0], group.harmful, group.languages)  # type: ignore[index]
    assert one["t", 0, 0, "source"] == one["t", 16, 2, "source"] == source.threshold
    rows = target.examples[16, 2]
    assert (
        one["t", 16, 2, "examples"] == kernels.sweep_threshold(scored[0].own[0][rows], target.harmful[rows]).threshold
    )
    oracle = kernels.sweep_threshold(scored[0].test[0], target.test_harmful).threshold
    assert one["t", 4, 0, "oracle"] == oracle
    pooled = [s.own[0][s.target.examples[4, 1]] for s in scored]
    labels = np.tile(target.labels(4), 2)
    shared = kernels.sweep_threshold(np.concatenate(pooled), labels, np.repeat([0, 1], 8)).threshold
    assert one["t", 4, 1, "global"] == one["u", 4, 1, "global"] == shared


def test_no_rule_beats_the_threshold_of_hindsight(draws: pd.DataFrame) -> None:
    keys = ["language", "probe", "sources", "rank", "budget", "draw"]
    best = draws[(draws["metric"] == "f1") & (draws["threshold_from"] == "oracle")].set_index(keys)["estimate"]
    for rule in ("source", "examples", "global"):
        own = draws[(draws["metric"] == "f1") & (draws["threshold_from"] == rule)].set_index(keys)["estimate"]
        assert len(own) > 0
        assert (own <= best.loc[own.index] + 1e-9).all()
    assert set(draws.loc[draws["budget"] == 0, "threshold_from"]) == {"", "source", "oracle"}


def test_a_targets_other_train_rows_change_nothing(languages: Sequence[Language]) -> None:
    target = languages[4]
    used = np.unique(np.concatenate(list(target.examples.values())))
    unused = np.setdiff1d(np.arange(len(target.train)), used)
    assert len(unused) > 5
    train = target.train.copy()
    train[unused] = 1e3
    others = [language for language in languages if TIERS[language.name] != "low"]
    changed, same = (
        Comparison([*others, own], GATE, "a", 0).run()[0].to_pandas() for own in (replace(target, train=train), target)
    )
    pd.testing.assert_frame_equal(changed[changed["language"] == "t"], same[same["language"] == "t"])


def test_probes_know_what_was_planted(draws: pd.DataFrame) -> None:
    low = draws[draws["language"].isin(["t", "u"])]
    areas = low[low["metric"] == "auc"].groupby(["probe", "sources", "rank"])["estimate"].mean()
    assert areas["direction", "high", 0] > 0.9
    assert areas["subspace", "high", 3] > 0.9
    assert areas["full", "high", 0] > 0.85
    assert abs(areas["random", "", 0] - 0.5) < 0.15
    scores = low[(low["metric"] == "f1") & (low["probe"] == "subspace") & (low["sources"] == "high")]
    by_rule = scores[scores["rank"] == 1].groupby(["budget", "threshold_from"])["estimate"].mean()
    # The languages are shifted along the direction: the sources' threshold fails them, their own examples mend it.
    assert by_rule[16, "examples"] > by_rule[0, "source"] + 0.05


def test_every_row_is_one_fit_rule_and_metric(draws: pd.DataFrame) -> None:
    keys = ["language", "probe", "sources", "rank", "budget", "draw", "threshold_from", "metric"]
    assert not draws.duplicated(keys).any()
    assert draws["estimate"].between(0, 1).all()
    low_rank = {"direction", "bank", "subspace", "pca", "random_subspace"}
    assert set(draws["probe"]) == {"target", "random", "full", *low_rank}


def test_the_papers_optimiser_reaches_every_fit(languages: Sequence[Language]) -> None:
    """Each logistic regression of the comparison is torch's AdamW, on features standardised on the rows of the fit."""
    comparison = Comparison(languages, GATE.model_copy(update={"solver": "adamw"}), "a", 0)
    target, group = group_of(comparison, "high", "t")
    found = {probe: scored for probe, scored in comparison.probes() if probe.sources == "high"}
    rows = np.concatenate([comparison.languages[name].train for name in group.names]).astype(np.float64)
    spaces = {("full", 0): (rows, target.train, target.test())}
    spaces["subspace", 2] = tuple(part[:, :2] for part in comparison.differences.subspace(target, group))  # type: ignore[assignment]
    spaces["bank", 0] = comparison.differences.bank(target, group)  # type: ignore[assignment]
    for (name, rank), (source, own, test) in spaces.items():
        scored = next(one for one in found[Probe(name, "high", rank)] if one.target.name == "t")
        for index, setup in enumerate(target.setups):
            extra = target.examples.get(setup, np.zeros(0, np.int64))
            x = np.concatenate([source, own[extra]])
            labels = np.concatenate([group.harmful, target.harmful[extra]])
            initial = fitting.initial_weights("adamw", x.shape[1], 0)
            assert initial is not None
            mean, scale = x.mean(axis=0), x.std(axis=0)
            weights, bias = twins.adamw((x - mean) / scale, labels, initial)
            expected = ((test - mean) / scale) @ weights + bias
            np.testing.assert_allclose(scored.test[index], expected, atol=1e-4 * expected.std())


def test_no_fit_is_left_to_several_threads_of_the_linear_algebra(
    languages: Sequence[Language], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their float32 sums depend on how many there are, and the thresholds of single draws with them."""
    seen: list[int] = []

    def watched(work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def call(*arguments: Any) -> Any:
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return work(*arguments)

        return call

    for name in ("_full", "_dense", "_direction", "_logistic", "_random_subspace"):
        monkeypatch.setattr(Comparison, name, watched(getattr(Comparison, name)))
    with threadpool_limits(2, "blas"):
        Comparison(languages, GATE, "a", 0).run()
    assert set(seen) == {1}
