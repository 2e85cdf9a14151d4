"""Intervals and tests: clusters, edges, pairs, corrections."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from polygate import kernels
from polygate.measurement import statistics
from polygate.measurement.statistics import (
    MARGIN,
    Comparison,
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    combined,
    holm,
    p_value,
    replicate,
    selectivities,
    share_interval,
    with_verdicts,
)

QUICK = Resampling(resamples=400, seed=1)


def panel(languages: int, n: int = 40) -> Panel:
    """Languages that translate the same n harmful and n harmless prompts."""
    ids = [f"harmful-test-{i:04d}" for i in range(n)] + [f"harmless-test-{i:04d}" for i in range(n)]
    harmful = np.arange(2 * n) < n
    return Panel.stack([Part(f"l{k}", ids, harmful) for k in range(languages)])


def strangers(languages: int, n: int = 40) -> Panel:
    """The same without shared items: every language has prompts of its own."""
    harmful = np.arange(2 * n) < n
    parts = [Part(f"l{k}", [f"{k} {i}" for i in range(2 * n)], harmful) for k in range(languages)]
    return Panel.stack(parts)


def scores(rows: Panel, own: float, seed: int = 0) -> NDArray[np.float64]:
    """Scores whose noise is the item's, but for a share `own` that is the row's own."""
    random = np.random.default_rng(seed)
    of_item = random.normal(size=rows.clusters.max() + 1)[rows.clusters]
    return rows.harmful + of_item + own * random.normal(size=len(rows))


def width(found: Replicates) -> float:
    interval = found.bootstrap(0, 0)
    return interval.high - interval.low


def test_translations_of_one_prompt_are_one_item_not_many() -> None:
    """With shared items ten languages say hardly more than one; naive resampling takes them for ten times as much."""
    rows, naive = panel(10), strangers(10)
    values = scores(rows, own=0.1)[None]
    one = replicate("auc", values[:, rows.languages == 0], panel(1), QUICK)
    clustered = width(replicate("auc", values, rows, QUICK).over_languages())
    independent = width(replicate("auc", values, naive, QUICK).over_languages())
    assert clustered > 0.8 * width(one)
    assert independent < 0.5 * clustered


def test_pairing_makes_small_differences_visible() -> None:
    rows = panel(1)
    values = scores(rows, own=0.0)
    better = values + 0.15 * rows.harmful
    found = replicate("auc", np.stack([better, values]), rows, QUICK)
    paired = found.pick([0]).minus(found.pick([1]))
    assert width(paired) < 0.3 * width(found)
    assert p_value(paired.values[:, 0, 0]) < 0.05


@pytest.mark.parametrize("statistic", ["rate", "auc", "f1", "average_precision"])
def test_the_mean_over_languages_is_the_mean_of_their_estimates(statistic: str) -> None:
    rows = panel(3)
    values = scores(rows, own=1.0)[None]
    found = replicate(statistic, values > 0.5 if statistic == "f1" else values, rows, QUICK)  # type: ignore[arg-type]
    assert found.over_languages().estimate[0, 0] == pytest.approx(found.estimate[0].mean())


def test_a_draw_mean_is_the_mean_of_the_draws() -> None:
    rows = panel(2)
    draws = np.stack([scores(rows, own=1.0, seed=i) for i in range(4)])
    found = replicate("auc", draws, rows, QUICK)
    mean = found.over_methods([[0], [1, 2, 3]])
    assert mean.estimate[0] == pytest.approx(found.estimate[0])
    assert mean.estimate[1] == pytest.approx(found.estimate[1:].mean(axis=0))


@pytest.mark.parametrize(("refused", "low", "high"), [(0, 0.0, 0.0370), (1, 0.9630, 1.0)])
def test_at_none_or_all_of_100_stands_wilsons_interval(refused: int, low: float, high: float) -> None:
    """Reference: Brown, Cai and DasGupta 2001; for 0 of n the upper end is z² / (n + z²)."""
    rows = panel(1, 100).only(np.arange(200) < 100)
    found = replicate("rate", np.full((1, 100), refused), rows, QUICK)
    interval = share_interval(found, 0, 0, 100)
    assert interval.method == "wilson"
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_between_the_edges_stands_the_bootstrap_on_the_logit_scale() -> None:
    rows = panel(1, 100).only(np.arange(200) < 100)
    found = replicate("rate", (np.arange(100) < 30)[None], rows, Resampling(resamples=8000))
    interval = share_interval(found, 0, 0, 100)
    assert interval.method == "logit"
    # Agresti 2013, section 3.1.8: logit(.3) ± 1.96 / sqrt(n · .3 · .7), with n - 1 for n.
    reach = 1.959964 / np.sqrt(99 * 0.3 * 0.7)
    expected = [1 / (1 + np.exp(-(np.log(3 / 7) + sign * reach))) for sign in (-1, 1)]
    assert (interval.low, interval.high) == (pytest.approx(expected[0], abs=3e-3), pytest.approx(expected[1], abs=3e-3))


def test_a_perfect_auc_still_has_an_interval_and_it_knows_the_smaller_class() -> None:
    n = 50
    rows = panel(1, n)
    found = replicate("auc", rows.harmful.astype(float)[None], rows, QUICK)
    interval = share_interval(found, 0, 0, min(rows.items(0)))
    assert (interval.estimate, interval.high, interval.method) == (1.0, 1.0, "wilson")
    assert interval.low == pytest.approx(1 - 1.96**2 / (n + 1.96**2), abs=1e-4)


def test_a_rate_that_no_resample_changes_has_an_interval_with_a_length() -> None:
    """Four languages that refuse every prompt and one that refuses none: .8 of 16 prompts, whichever are drawn."""
    rows = panel(5, 16).only(np.tile(np.arange(32) < 16, 5))
    refused = np.repeat([True, True, True, True, False], 16)[None]
    found = replicate("rate", refused, rows, QUICK).over_languages()
    low, high = kernels.wilson(0.8 * 16, 16.0, 0.95)
    assert share_interval(found, 0, 0, 16) == Interval(pytest.approx(0.8), low, high, "wilson")


def test_constant_scores_are_at_chance_and_their_interval_says_why_it_has_no_length() -> None:
    rows = panel(2)
    found = replicate("auc", np.ones((1, len(rows))), rows, QUICK)
    assert share_interval(found, 0, 0, 40) == Interval(0.5, 0.5, 0.5, "constant")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("56/70", 0.6918, 0.8769), ("48/80", 0.4904, 0.7005), (0.0524, 0.3339)),
        (("9/10", 0.5958, 0.9821), ("3/10", 0.1078, 0.6032), (0.1705, 0.8090)),
        (("10/10", 0.7225, 1.0), ("0/10", 0.0, 0.2775), (0.6075, 1.0)),
    ],
)
def test_combining_two_wilson_intervals_gives_newcombes(
    first: tuple[str, float, float], second: tuple[str, float, float], expected: tuple[float, float]
) -> None:
    """Reference: Newcombe 1998, table II, method 10."""
    intervals = []
    for share, low, high in (first, second):
        top, bottom = (float(part) for part in share.split("/"))
        intervals.append(Interval(top / bottom, low, high, "wilson"))
    found = combined(*intervals)
    assert (found.low, found.high) == (pytest.approx(expected[0], abs=2e-4), pytest.approx(expected[1], abs=2e-4))


def test_full_selectivity_does_not_claim_to_be_certain() -> None:
    rows = panel(2)
    decisions = np.stack([rows.harmful, rows.clusters % 3 == 0]).astype(float)
    found = selectivities(decisions, rows, QUICK)
    for interval in (found.mean[0], *found.per_language[0]):
        assert (interval.estimate, interval.method) == (1.0, "mover")
        assert interval.low < 0.95
        assert interval.high == 1.0
    assert {interval.method for interval in found.per_language[1]} == {"logit"}


def test_selectivity_of_draws_is_that_of_their_mean() -> None:
    rows = panel(2)
    draws = np.random.default_rng(0).integers(0, 2, (5, len(rows))).astype(float)
    separate = replicate("selectivity", draws, rows, QUICK).over_methods([range(5)])
    together = replicate("selectivity", draws.mean(axis=0)[None], rows, QUICK)
    assert np.allclose(separate.values, together.values)


def naive_holm(p: list[float]) -> list[float]:
    """By the definition: sort, multiply the i-th smallest by (m − i), never fall below a smaller one's value."""
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, (len(p) - rank) * p[index])
        adjusted[index] = min(1.0, running)
    return adjusted


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_its_definition(p: list[float]) -> None:
    assert holm(p) == pytest.approx(naive_holm(p))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    for raw, adjusted in zip(p, holm(p), strict=True):
        assert raw <= adjusted <= min(1.0, len(p) * raw) + 1e-12


def test_holm_does_not_depend_on_the_order() -> None:
    p = [0.01, 0.04, 0.03, 0.2]
    for order in permutations(range(4)):
        assert [holm([p[i] for i in order])[order.index(k)] for k in range(4)] == pytest.approx(holm(p))


def test_holm_of_a_published_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("replicates", "p"),
    [([1.0] * 99, 2 / 100), ([-1.0] * 99, 2 / 100), ([0.0] * 99, 1.0), ([1.0] * 50 + [-1.0] * 49, 1.0)],
)
def test_p_values_by_count(replicates: list[float], p: float) -> None:
    assert p_value(np.array(replicates)) == pytest.approx(p)


def test_p_values_are_uniform_without_a_difference() -> None:
    found = []
    for seed in range(200):
        rows = panel(1, 30)
        values = np.random.default_rng(seed).normal(size=(2, len(rows))) + rows.harmful
        both = replicate("auc", values, rows, Resampling(resamples=200, seed=seed))
        found.append(p_value(both.pick([0]).minus(both.pick([1])).values[:, 0, 0]))
    # 5 % of 200 tests, give or take three standard deviations.
    assert 2 <= sum(p < 0.05 for p in found) <= 20


def comparison(estimate: float, low: float, high: float, p: float) -> Comparison:
    return Comparison("length", Interval(estimate, low, high, "percentile"), p)


def test_verdicts() -> None:
    given = [
        comparison(0.3, 0.2, 0.4, 0.002),
        comparison(0.01, -0.03, MARGIN - 0.01, 0.6),
        comparison(0.1, -0.1, 0.3, 0.3),
        comparison(-0.2, -0.3, -0.1, 1.0),
    ]
    verdicts = [found.verdict for found in with_verdicts(given, 0.95)]
    assert verdicts == ["beyond the surface", "not beyond the surface", "can't tell", "not beyond the surface"]


def test_many_languages_make_a_lone_small_p_no_proof() -> None:
    alone = with_verdicts([comparison(0.2, 0.01, 0.4, 0.03)], 0.95)
    among = with_verdicts([comparison(0.2, 0.01, 0.4, 0.03), *[comparison(0.1, -0.1, 0.3, 0.5)] * 9], 0.95)
    assert alone[0].verdict == "beyond the surface"
    assert among[0].verdict == "can't tell"


def against(values: NDArray[np.float64], rows: Panel) -> Comparison:
    found = replicate("auc", values, rows, Resampling(resamples=1000))
    baselines = {"surface": found.pick([1]), "length": found.pick([2])}
    return statistics.against_surface(found.pick([0]), baselines, 0)


def test_a_direction_must_beat_every_baseline() -> None:
    rows = panel(1, 80)
    random = np.random.default_rng(3)
    noise = random.normal(size=(3, len(rows)))
    good, chance, length = rows.harmful * np.array([[3.0], [0.0], [3.0]]) + noise
    assert against(np.stack([good, chance, chance]), rows).p < 0.01
    beaten = against(np.stack([good, chance, length]), rows)
    assert beaten.baseline == "length"
    assert beaten.p > 0.05
    worse = against(np.stack([chance, chance, length]), rows)
    assert worse.p == 1.0


@pytest.mark.parametrize("family", [1, 12, 23, 100])
def test_resamples_suffice_for_a_family_to_be_decided(family: int) -> None:
    resampling = statistics.resolving(Resampling(resamples=100), family)
    smallest = p_value(np.ones(resampling.resamples))
    assert holm([smallest] * family)[0] < 1 - resampling.confidence


def test_results_depend_on_the_seed_and_on_nothing_else() -> None:
    rows = panel(2)
    values = scores(rows, own=1.0)[None]
    threads = [replicate("auc", values, rows, Resampling(200, threads=t)).values for t in (1, 2)]
    assert np.array_equal(*threads)
    assert not np.array_equal(threads[0], replicate("auc", values, rows, Resampling(200, seed=1)).values)


def test_bca_is_named_where_it_is_asked_for() -> None:
    rows = panel(1)
    found = replicate("auc", scores(rows, own=0.0)[None], rows, Resampling(200, interval="bca"))
    assert found.bootstrap(0, 0).method == "bca"


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_too_few_prompts_have_no_verdict_no_p_and_an_interval_of_some_width(n: int) -> None:
    """Perfect scores beside constant ones: nothing varies over resamples, and yet a handful proves nothing."""
    rows = Panel.stack([Part("a", [f"{i}" for i in range(2 * n)], np.arange(2 * n) < n)])
    scores = np.stack([rows.harmful * 1.0, np.zeros(2 * n), np.zeros(2 * n)])
    found, other = with_verdicts([against(scores, rows), comparison(0.2, 0.01, 0.4, 0.03)], 0.95)
    assert found.verdict == "too few prompts"
    assert np.isnan(found.p)
    assert np.isnan(found.p_holm)
    assert found.difference.low < found.difference.high
    # They take no part in the correction of the others.
    assert other.p_holm == 0.03
    means = replicate("auc", scores, rows, Resampling(resamples=100))
    for method in range(2):
        interval = statistics.share_interval(means, method, 0, n)
        assert interval.low < interval.high


@pytest.mark.parametrize("n", [6, 10, 20])
@pytest.mark.parametrize("kind", ["constant", "noise", "coarse"])
def test_a_direction_that_knows_nothing_is_seldom_said_to(kind: str, n: int) -> None:
    """Falsely beyond the surface in at most 2.5 % of samples, give or take three standard deviations of 600 samples."""
    draw = np.random.default_rng(n)
    rows = Panel.stack([Part("a", [f"{i}" for i in range(2 * n)], np.arange(2 * n) < n)])
    beyond = 0
    for seed in range(600):
        scores = draw.normal(size=(2, 2 * n))
        if kind == "constant":
            scores[1] = 0
        if kind == "coarse":
            scores = np.round(0.7 * scores)
        found = replicate("auc", scores, rows, Resampling(resamples=400, seed=seed, threads=1))
        compared = statistics.against_surface(found.pick([0]), {"surface": found.pick([1])}, 0)
        beyond += with_verdicts([compared], 0.95)[0].verdict == "beyond the surface"
    assert beyond <= 600 * (0.025 + 3 * np.sqrt(0.025 * 0.975 / 600))


def test_a_clear_difference_is_seen_from_six_prompts_on() -> None:
    rows = Panel.stack([Part("a", [f"{i}" for i in range(12)], np.arange(12) < 6)])
    scores = np.stack([rows.harmful * 1.0, np.zeros(12), np.zeros(12)])
    found = with_verdicts([against(scores, rows)], 0.95)[0]
    assert found.verdict == "beyond the surface"
    assert found.difference.low < found.difference.high


def test_what_is_no_test_stays_out_of_holms_correction() -> None:
    found = holm([0.01, float("nan"), 0.04, 0.03])
    assert np.isnan(found[1])
    assert [found[0], *found[2:]] == holm([0.01, 0.04, 0.03])
