"""Bootstrap intervals: what is drawn, what is computed from it, and how often the truth is covered."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kernels import twins
from kernels.twins import Array
from polygate import kernels

STATISTICS = get_args(kernels.Statistic)
DECISIONS = ("f1", "balanced_accuracy")
WITH_ERROR: tuple[kernels.Statistic, ...] = ("auc", "balanced_accuracy", "rate", "selectivity")
"""Statistics that "studentized" takes."""


def sample(statistic: str, seed: int, methods: int = 2, prompts: int = 24, groups: int = 3) -> dict[str, Any]:
    """Prompts translated into several languages, scored by several methods, with ties."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(prompts) < prompts // 3, groups)
    values = np.round(random.normal(size=(methods, groups * prompts)) + labels, 1)
    if statistic in DECISIONS:
        values = (values > 0.5).astype(float)
    return {
        "values": values,
        "labels": labels,
        "groups": np.repeat(np.arange(groups) * 5, prompts),
        "clusters": np.tile(np.arange(prompts) * 3, groups),
    }


def rows(data: dict[str, Any], group: int) -> Array:
    chosen: Array = data["groups"] == np.unique(data["groups"])[group]
    return chosen


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_estimates_are_the_metric_on_each_method_and_group(statistic: kernels.Statistic, weighted: bool) -> None:
    data = sample(statistic, 0)
    weights = np.random.default_rng(1).random(len(data["labels"])) if weighted else None
    found = kernels.bootstrap(statistic, **data, weights=weights, resamples=5)
    assert found.estimate.shape == found.low.shape == found.high.shape == (2, 3)
    assert found.replicates.shape == (5, 2, 3)
    every = np.ones(len(data["labels"])) if weights is None else weights
    for method in range(2):
        for group in range(3):
            own = rows(data, group)
            expected = twins.metric(statistic, data["values"][method, own], data["labels"][own], every[own])
            assert found.estimate[method, group] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("statistic", "interval"),
    [(s, i) for s in STATISTICS for i in get_args(kernels.Interval) if i != "studentized" or s in WITH_ERROR],
)
def test_replicates_are_the_metric_on_one_draw_of_prompts_for_all_methods_and_languages(
    statistic: kernels.Statistic, interval: kernels.Interval
) -> None:
    """The draw itself is read off a method whose value marks one prompt; each language's replicate must follow."""
    data = sample(statistic, 2)
    found = kernels.bootstrap(statistic, **data, resamples=20, seed=9, interval=interval)
    drawn = counts(data, 20, 9)
    for resample in range(20):
        for method in range(2):
            for group in range(3):
                own = rows(data, group)
                weights = drawn[resample][data["clusters"][own] // 3]
                expected = twins.metric(statistic, data["values"][method, own], data["labels"][own], weights)
                assert found.replicates[resample, method, group] == pytest.approx(expected, rel=1e-12)


def counts(data: dict[str, Any], resamples: int, seed: int) -> Array:
    """How often each prompt was drawn, [resamples, prompts]: rates of indicator methods, scaled by the total."""
    prompts = np.unique(data["clusters"])
    indicators = (data["clusters"][None, :] == prompts[:, None]).astype(float)
    shares = kernels.bootstrap(
        "rate", indicators, data["labels"], groups=data["groups"], clusters=data["clusters"],
        average="groups", resamples=resamples, seed=seed,
    ).replicates[:, :, 0]  # fmt: skip
    return np.round(shares * len(prompts)).astype(int)


def test_a_draw_keeps_the_size_of_each_class_and_is_uniform() -> None:
    data = sample("rate", 3, prompts=30)
    drawn = counts(data, 4000, 0)
    harmful = np.arange(30) < 10
    np.testing.assert_array_equal(drawn[:, harmful].sum(axis=1), 10)
    np.testing.assert_array_equal(drawn[:, ~harmful].sum(axis=1), 20)
    # Each count is binomial(n, 1/n): mean 1, variance 1 - 1/n.
    assert np.abs(drawn.mean(axis=0) - 1).max() < 5 / np.sqrt(4000)
    assert np.abs(drawn[:, harmful].var(axis=0) - 0.9).max() < 0.2
    times = np.bincount(drawn[:, ~harmful].ravel(), minlength=8)[:8]
    expected = stats.binom.pmf(np.arange(8), 20, 1 / 20) * drawn[:, ~harmful].size
    assert (times[:5] / expected[:5]).round(1).tolist() == [1.0] * 5


def test_resamples_are_independent_of_one_another_and_keyed_by_their_number() -> None:
    data = sample("auc", 4)
    many = kernels.bootstrap("auc", **data, resamples=50, seed=1).replicates
    few = kernels.bootstrap("auc", **data, resamples=7, seed=1).replicates
    np.testing.assert_array_equal(many[:7], few)
    assert len(np.unique(many[:, 0, 0])) > 25
    assert (kernels.bootstrap("auc", **data, resamples=50, seed=2).replicates != many).mean() > 0.9


def test_without_clusters_each_language_is_drawn_by_itself() -> None:
    data = {**sample("rate", 5, prompts=200, groups=2), "clusters": None}
    apart = kernels.bootstrap("rate", **data, resamples=2000).replicates[:, 0]
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.1
    values = np.tile(np.random.default_rng(0).normal(size=200), 2)
    joint = kernels.bootstrap("rate", values, groups=data["groups"], clusters=np.tile(np.arange(200), 2)).replicates
    np.testing.assert_allclose(joint[:, 0, 0], joint[:, 0, 1], rtol=1e-12)


def test_clustered_translations_widen_the_interval_of_a_mean_over_languages() -> None:
    """Ten translations of a prompt that fare alike are one observation, not ten."""
    random = np.random.default_rng(6)
    refused = np.tile((random.random(100) < 0.5).astype(float), 10)
    groups, prompts = np.repeat(np.arange(10), 100), np.tile(np.arange(100), 10)
    clustered = kernels.bootstrap("rate", refused, groups=groups, clusters=prompts, average="groups")
    naive = kernels.bootstrap("rate", refused, groups=groups, average="groups")
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert 2.7 < ratio[0, 0] < 3.7  # √10


def test_averages_are_means_within_each_resample() -> None:
    data = sample("auc", 7, methods=4)
    every = kernels.bootstrap("auc", **data, resamples=40)
    for average, axes in {"groups": (2,), "methods": (1,), "both": (1, 2)}.items():
        found = kernels.bootstrap("auc", **data, average=average, resamples=40)  # type: ignore[arg-type]
        expected = every.replicates.mean(axis=axes, keepdims=True)
        np.testing.assert_allclose(found.replicates, expected, rtol=1e-13)
        np.testing.assert_allclose(
            found.estimate, every.estimate.mean(axis=tuple(a - 1 for a in axes), keepdims=True), rtol=1e-13
        )


def test_differences_are_paired() -> None:
    data = sample("f1", 8, methods=3)
    every = kernels.bootstrap("f1", **data, resamples=30).replicates
    found = kernels.bootstrap("f1", **data, resamples=30, reference=1)
    np.testing.assert_allclose(found.replicates, every - every[:, 1:2], atol=1e-14)
    assert (found.low[1] == 0).all()
    assert (found.high[1] == 0).all()
    others = kernels.bootstrap("f1", **data, resamples=30, reference=1, average="both").replicates
    expected = (every[:, [0, 2]].mean(axis=1) - every[:, 1]).mean(axis=1)
    np.testing.assert_allclose(others[:, 0, 0], expected, atol=1e-14)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_row_that_a_method_lacks_is_left_out_for_it_alone(statistic: kernels.Statistic) -> None:
    data = sample(statistic, 10)
    data["values"][0, ::5] = np.nan
    found = kernels.bootstrap(statistic, **data, resamples=25)
    for group in range(3):
        own = rows(data, group) & ~np.isnan(data["values"][0])
        expected = twins.metric(statistic, data["values"][0, own], data["labels"][own], np.ones(own.sum()))
        assert found.estimate[0, group] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(
        found.replicates[:, 1],
        kernels.bootstrap(statistic, **{**data, "values": data["values"][1]}, resamples=25).replicates[:, 0],
    )


def test_percentile_interval_is_the_quantiles_of_the_replicates() -> None:
    found = kernels.bootstrap("auc", **sample("auc", 11), resamples=333, confidence=0.9)
    np.testing.assert_allclose(found.low, np.quantile(found.replicates, 0.05, axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.high, np.quantile(found.replicates, 0.95, axis=0), rtol=1e-13)


def left_out(statistic: str, data: dict[str, Any], method: int, group: int | None, weights: Array) -> list[Array]:
    """The metric without each prompt, per class; its mean over groups where `group` is None."""
    strata = []
    for harmful in (False, True):
        values = []
        for prompt in np.unique(data["clusters"][data["labels"] == harmful]):
            kept = weights * (data["clusters"] != prompt)
            chosen = range(len(np.unique(data["groups"]))) if group is None else [group]
            per_group = []
            for index in chosen:
                own = rows(data, index)
                per_group.append(twins.metric(statistic, data["values"][method, own], data["labels"][own], kept[own]))
            values.append(np.mean(per_group))
        strata.append(np.array(values))
    return strata


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_bca_interval_is_efrons_with_a_brute_force_jackknife(statistic: kernels.Statistic, weighted: bool) -> None:
    data = sample(statistic, 12, prompts=15)
    weights = np.random.default_rng(13).random(45) + 0.1 if weighted else np.ones(45)
    found = kernels.bootstrap(statistic, **data, weights=weights if weighted else None, resamples=400, interval="bca")
    averaged = kernels.bootstrap(
        statistic, **data, weights=weights if weighted else None, resamples=400, interval="bca", average="groups"
    )
    for method in range(2):
        low, high = twins.bca(
            averaged.replicates[:, method, 0],
            averaged.estimate[method, 0],
            left_out(statistic, data, method, None, weights),
            0.95,
        )
        assert averaged.low[method, 0] == pytest.approx(low, abs=1e-9)
        assert averaged.high[method, 0] == pytest.approx(high, abs=1e-9)
        for group in range(3):
            low, high = twins.bca(
                found.replicates[:, method, group],
                found.estimate[method, group],
                left_out(statistic, data, method, group, weights),
                0.95,
            )
            assert found.low[method, group] == pytest.approx(low, abs=1e-9)
            assert found.high[method, group] == pytest.approx(high, abs=1e-9)


def error(statistic: str, data: dict[str, Any], method: int, drawn: Array, reference: int | None = None) -> float:
    """Standard error of the mean over languages when each prompt was drawn `drawn` times: copies are prompts."""
    prompts = np.unique(data["clusters"])
    copies = np.repeat(prompts, drawn)
    sums = np.zeros(len(copies))
    groups = np.unique(data["groups"])
    for group in groups:
        chosen = np.array([np.flatnonzero((data["clusters"] == c) & (data["groups"] == group))[0] for c in copies])
        labels = data["labels"][chosen]
        found = twins.influences(statistic, data["values"][method, chosen], labels)
        if reference is not None:
            found = found - twins.influences(statistic, data["values"][reference, chosen], labels)
        sums += found / len(groups)
    # The bootstrap draws each class by itself, whatever the statistic.
    harmful = np.isin(copies, data["clusters"][data["labels"]])
    return twins.standard_error(sums, harmful)


@pytest.mark.parametrize("statistic", WITH_ERROR)
@pytest.mark.parametrize("reference", [None, 1])
def test_studentized_interval_is_the_bootstrap_t(statistic: kernels.Statistic, reference: int | None) -> None:
    """Standard errors from influences summed over a prompt's translations, copies of a prompt being prompts."""
    data = sample(statistic, 17)
    drawn = counts(data, 60, 3)
    for average in ("groups", "none"):
        found = kernels.bootstrap(
            statistic, **data, resamples=60, seed=3, interval="studentized",
            average=average, reference=reference, confidence=0.8,
        )  # fmt: skip
        for group in range(found.estimate.shape[1]):
            own = np.ones(len(data["labels"]), bool) if average == "groups" else rows(data, group)
            part = {name: value[..., own] for name, value in data.items()}
            once = np.ones(drawn.shape[1], int)
            expected = twins.studentized(
                found.replicates[:, 0, group],
                np.array([error(statistic, part, 0, times, reference) for times in drawn]),
                found.estimate[0, group],
                error(statistic, part, 0, once, reference),
                0.8,
            )
            assert (found.low[0, group], found.high[0, group]) == pytest.approx(expected, rel=1e-9)
            if reference == 1:
                assert (found.low[1, group], found.high[1, group]) == pytest.approx((0, 0), abs=1e-14)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.sampled_from(WITH_ERROR))
def test_studentized_intervals_depend_on_the_rows_alone(
    seed: int, harmful: int, harmless: int, statistic: kernels.Statistic
) -> None:
    """Neither on their order nor on the number of threads; they hold numbers even for classes of one row."""
    random = np.random.default_rng(seed)
    labels = np.arange(harmful + harmless) < harmful
    values = np.round(random.normal(size=len(labels)), 0)
    values = (values > 0).astype(float) if statistic in DECISIONS else values
    order = random.permutation(len(labels))
    ids = np.arange(len(labels))
    found = [
        kernels.bootstrap(
            statistic, values[at], labels[at], clusters=ids[at], resamples=50, interval="studentized", threads=threads
        )
        for at, threads in [(ids, 1), (ids, 3), (order, 1)]
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].low, other.low)
        np.testing.assert_array_equal(found[0].high, other.high)
    assert (found[0].low <= found[0].high).all()


def test_studentized_intervals_have_no_length_without_a_standard_error() -> None:
    labels = np.arange(20) < 8
    for statistic, values in (("rate", np.ones(20)), ("auc", labels.astype(float)), ("selectivity", labels * 1.0)):
        found = kernels.bootstrap(statistic, values, labels, interval="studentized")  # type: ignore[arg-type]
        assert found.low[0, 0] == found.high[0, 0] == 1


@pytest.mark.parametrize("statistic", ["f1", "average_precision"])
def test_studentized_names_the_statistics_it_takes(statistic: kernels.Statistic) -> None:
    with pytest.raises(ValueError, match="auc, balanced_accuracy, rate or selectivity"):
        kernels.bootstrap(statistic, **sample(statistic, 0), interval="studentized")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_average_precision_without_each_row_in_one_pass(seed: int, harmful: int, harmless: int, tied: bool) -> None:
    """The jackknife by prefix sums, which only rows that are their own clusters take, against leaving rows out."""
    random = np.random.default_rng(seed)
    labels = np.arange(harmful + harmless) < harmful
    scores = np.round(random.normal(size=len(labels)), 0 if tied else 9)
    found = kernels.bootstrap("average_precision", scores, labels, resamples=60, interval="bca", seed=seed)
    data = {
        "values": scores[None],
        "labels": labels,
        "groups": np.zeros(len(labels)),
        "clusters": np.arange(len(labels)),
    }
    strata = left_out("average_precision", data, 0, 0, np.ones(len(labels)))
    replicates, estimate = found.replicates[:, 0, 0], found.estimate[0, 0]
    if (replicates < estimate).any() and (replicates > estimate).any():
        low, high = twins.bca(replicates, estimate, strata, 0.95)
        assert (found.low[0, 0], found.high[0, 0]) == pytest.approx((low, high), abs=1e-9)


def test_bca_agrees_with_scipy_up_to_the_random_draws() -> None:
    random = np.random.default_rng(14)
    harmful, harmless = random.normal(1, 1, 60), random.normal(0, 2, 50)
    scores, labels = np.concatenate([harmful, harmless]), np.arange(110) < 60

    def area(x: Array, y: Array, axis: int = -1) -> Array:  # noqa: ARG001
        return (x[..., :, None] > y[..., None, :]).mean(axis=(-1, -2))

    expected = stats.bootstrap(
        (harmful, harmless), area, n_resamples=9999, method="BCa", vectorized=True, batch=500, rng=0
    ).confidence_interval
    found = kernels.bootstrap("auc", scores, labels, interval="bca", resamples=20_000)
    assert (found.low[0, 0], found.high[0, 0]) == pytest.approx((expected.low, expected.high), abs=0.006)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_estimate_is_the_very_float_that_the_metric_gives(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([row[0] for row in rows]) / 3, np.array([row[1] for row in rows])
    labels[:2] = [True, False]
    assert kernels.bootstrap("auc", scores, labels, resamples=1).estimate[0, 0] == kernels.auc(scores, labels)


def test_rows_may_come_in_any_order_when_clusters_are_named() -> None:
    data = sample("auc", 15)
    order = np.random.default_rng(0).permutation(len(data["labels"]))
    shuffled = {name: value[..., order] for name, value in data.items()}
    a, b = kernels.bootstrap("auc", **data, resamples=30), kernels.bootstrap("auc", **shuffled, resamples=30)
    np.testing.assert_array_equal(a.replicates, b.replicates)


def test_certain_outcomes_have_no_width_and_wilson_is_there_for_them() -> None:
    found = kernels.bootstrap("rate", np.zeros(50), interval="bca")
    assert found.low[0, 0] == found.high[0, 0] == 0
    low, high = kernels.wilson(0, 50)
    assert low == 0
    assert 0.05 < high < 0.1


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_is_scipys(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(confidence, "wilson")
    low, high = kernels.wilson(successes, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1
    assert high > low
    assert (low == 0) == (successes == 0)
    assert (high == 1) == (successes == n)


def coverage(truth: float, intervals: list[tuple[float, float]]) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize("interval", get_args(kernels.Interval))
def test_intervals_of_the_auc_cover_the_truth(interval: kernels.Interval) -> None:
    """Normal scores one standard deviation apart: the AUC is Φ(1/√2)."""
    random, labels, intervals = np.random.default_rng(16), np.arange(160) < 80, []
    for trial in range(600):
        scores = random.normal(size=160) + labels
        found = kernels.bootstrap("auc", scores, labels, interval=interval, resamples=600, seed=trial)
        intervals.append((found.low[0, 0], found.high[0, 0]))
    assert 0.92 <= coverage(stats.norm.cdf(np.sqrt(0.5)), intervals) <= 0.98


def test_clustered_intervals_of_a_mean_over_languages_cover_the_truth() -> None:
    random, intervals = np.random.default_rng(17), []
    groups, prompts = np.repeat(np.arange(5), 60), np.tile(np.arange(60), 5)
    for trial in range(400):
        difficulty = random.normal(size=60)
        refused = (random.normal(size=300) * 0.3 + np.tile(difficulty, 5) > 0).astype(float)
        found = kernels.bootstrap(
            "rate", refused, groups=groups, clusters=prompts, average="groups", resamples=500, seed=trial
        )
        intervals.append((found.low[0, 0], found.high[0, 0]))
    assert 0.91 <= coverage(0.5, intervals) <= 0.98


@pytest.mark.parametrize(("rate", "n"), [(0.02, 40), (0.98, 40), (0.5, 20), (0.01, 572)])
def test_wilson_covers_the_truth_near_0_and_1_and_for_few_trials(rate: float, n: int) -> None:
    """Exact coverage: the probability of the outcomes whose interval holds the truth."""
    outcomes = np.arange(n + 1)
    ends = np.array([kernels.wilson(int(k), n) for k in outcomes])
    held = (ends[:, 0] <= rate) & (rate <= ends[:, 1])
    assert 0.93 <= stats.binom.pmf(outcomes[held], n, rate).sum() <= 1


def test_arguments_that_do_not_fit_are_named() -> None:
    values, labels = np.arange(6.0), np.arange(6) < 3
    cases: list[tuple[str, dict[str, Any]]] = [
        ("this statistic needs labels", {"labels": None}),
        ("labels hold a single class", {"labels": labels | True}),
        ("labels has 5 entries, expected 6 as columns of values", {"labels": labels[:5]}),
        ("method 0 in group 1 has no harmful rows", {"groups": np.array([0, 0, 0, 0, 1, 1])}),
        ("cluster 4 holds harmful and harmless rows", {"clusters": np.array([1, 2, 4, 4, 5, 6])}),
        ("values hold 2, expected decisions 0 or 1", {"statistic": "f1"}),
        (r"values\[0, 5\] is infinite", {"values": np.where(values == 5, np.inf, values)}),
        ("reference is method 1, but there are 1 methods", {"reference": 1}),
        ("resamples is 0", {"resamples": 0}),
        ("resamples is -1, expected an integer ≥ 0", {"resamples": -1}),
        ("confidence is 95", {"confidence": 95}),
        (r"weights\[0\] is -1", {"weights": np.full(6, -1.0)}),
        ('average is "languages", expected one of "none", "groups"', {"average": "languages"}),
        ('interval is "basic", expected one of "percentile", "bca"', {"interval": "basic"}),
        ('statistic is "gini"', {"statistic": "gini"}),
        ("method 0 has no harmless rows", {"values": np.where(labels, values, np.nan)}),
    ]
    for message, change in cases:
        arguments = {"statistic": "auc", "values": values, "labels": labels, **change}
        with pytest.raises(ValueError, match=message):
            kernels.bootstrap(**arguments)
