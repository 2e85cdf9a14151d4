"""Intervals as they are reported cover the truth as often as they say: simulated samples whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from polygate import kernels
from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Resampling,
    Statistic,
    balanced_accuracy_of,
    difference_interval,
    replicate,
    selectivities,
    share_interval,
)

Array = NDArray[Any]
SAMPLES = 400
MARGIN = 4 * np.sqrt(0.95 * 0.05 / SAMPLES)
"""Four standard errors of a coverage of 95 %, simulated."""
RESAMPLING = Resampling(resamples=500, seed=1)


def panel(prompts: int, languages: int = 1) -> Panel:
    """Half of the prompts harmful, each in every language."""
    ids = [f"p{i}" for i in range(prompts)]
    return Panel.stack([Part(f"l{i}", ids, np.arange(prompts) < prompts // 2) for i in range(languages)])


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([one.low - 1e-12 <= truth <= one.high + 1e-12 for one in intervals]))


def covered(statistic: Statistic, values: Array, rows: Panel, truth: float, items: int) -> float:
    """Coverage by the intervals of samples [SAMPLES, n], the first language's."""
    found = replicate(statistic, values, rows, RESAMPLING)
    return coverage([share_interval(found, index, 0, items) for index in range(len(values))], truth)


def scores(rows: Panel, gap: float) -> Array:
    random = np.random.default_rng(len(rows))
    return random.normal(size=(SAMPLES, len(rows))) + gap * rows.harmful


def population_average_precision(gap: float) -> float:
    thresholds = np.linspace(-8, 12, 40_001)
    hits, alarms = stats.norm.sf(thresholds - gap), stats.norm.sf(thresholds)
    return float(-np.trapezoid(hits / (hits + alarms), hits))


@pytest.mark.parametrize("n", [24, 60, 572])
@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5])
def test_auc(n: int, gap: float) -> None:
    rows = panel(n)
    found = covered("auc", scores(rows, gap), rows, stats.norm.cdf(gap / np.sqrt(2)), n // 2)
    assert 0.95 - MARGIN < found < (0.97 + MARGIN if n > 24 else 1)


@pytest.mark.parametrize("n", [24, 60, 572])
@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5])
def test_average_precision(n: int, gap: float) -> None:
    """Its small samples are biased, so its intervals are a little wider than the others'."""
    rows = panel(n)
    found = covered("average_precision", scores(rows, gap), rows, population_average_precision(gap), n // 2)
    assert 0.95 - MARGIN < found < (0.97 + MARGIN if n > 24 else 1)


@pytest.mark.parametrize("n", [24, 60, 572])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 0.99])
def test_rates(n: int, rate: float) -> None:
    """Few expected counts can't give 95 % exactly: then the interval covers more."""
    rows = panel(n)
    decisions = np.random.default_rng(n).random((SAMPLES, n)) < rate
    found = covered("rate", decisions, rows, rate, n)
    assert 0.95 - MARGIN < found < (0.97 + MARGIN if n * min(rate, 1 - rate) > 5 else 1)


@pytest.mark.parametrize("n", [24, 60, 572])
@pytest.mark.parametrize(("hits", "alarms"), [(0.5, 0.5), (0.9, 0.1), (0.99, 0.05), (0.3, 0.01)])
def test_decisions(n: int, hits: float, alarms: float) -> None:
    rows = panel(n)
    decisions = np.random.default_rng(n).random((SAMPLES, n)) < np.where(rows.harmful, hits, alarms)
    selectivity = [row[0] for row in selectivities(decisions, rows, RESAMPLING).per_language]
    accuracy = [balanced_accuracy_of(interval) for interval in selectivity]
    found = {
        "f1": covered("f1", decisions, rows, 2 * hits / (hits + alarms + 1), n // 2),
        "selectivity": coverage(selectivity, hits - alarms),
        "balanced accuracy": coverage(accuracy, (hits + 1 - alarms) / 2),
    }
    for statistic, share in found.items():
        assert 0.95 - MARGIN < share < 1 - (n > 100) * 0.005, statistic


@pytest.mark.parametrize("n", [60, 572])
def test_means_over_languages_clustered_by_prompt(n: int) -> None:
    """Translations of a prompt are refused together more often than not."""
    rows = panel(n, languages=4)
    random = np.random.default_rng(0)
    shared, own = random.normal(size=(SAMPLES, n)), random.normal(size=(SAMPLES, len(rows)))
    latent = np.sqrt(0.6) * shared[:, rows.clusters] + np.sqrt(0.4) * own
    thresholds = stats.norm.isf([0.05, 0.2, 0.5, 0.9])
    found = replicate("rate", latent > thresholds[rows.languages], rows, RESAMPLING).over_languages()
    share = coverage([share_interval(found, index, 0, n) for index in range(SAMPLES)], 1.65 / 4)
    assert abs(share - 0.95) < MARGIN


@pytest.mark.parametrize(("n", "least"), [(24, 0.91), (60, 0.93), (572, 0.93)])
@pytest.mark.parametrize(
    ("statistic", "of", "truth"),
    [
        ("auc", lambda latent, harmful: latent + harmful, 0.0),
        ("rate", lambda latent, _: latent > 0.5, 0.0),
    ],
)
def test_paired_differences(
    n: int, least: float, statistic: Statistic, of: Callable[[Array, Array], Array], truth: float
) -> None:
    rows = panel(n)
    random = np.random.default_rng(3)
    shared, own = random.normal(size=(SAMPLES, n)), random.normal(size=(2, SAMPLES, n))
    first, second = (
        replicate(statistic, of(np.sqrt(0.5) * (shared + part), rows.harmful), rows, RESAMPLING) for part in own
    )
    differences = first.minus(second)
    intervals = [
        difference_interval(
            differences, i, 0, (share_interval(first, i, 0, n // 2), share_interval(second, i, 0, n // 2))
        )
        for i in range(SAMPLES)
    ]
    assert least - MARGIN / 2 < coverage(intervals, truth) < 0.985


@pytest.mark.parametrize(("statistic", "parameter"), [("auc", 0.0), ("auc", 1.0), ("rate", 0.3), ("rate", 0.5)])
def test_studentized_intervals(statistic: Statistic, parameter: float) -> None:
    """Of the kernels, which the tables don't use: no better near 0 and 1, where few samples have a standard error."""
    rows, random, samples = panel(60), np.random.default_rng(60), 4 * SAMPLES
    if statistic == "auc":
        values = random.normal(size=(samples, 60)) + parameter * rows.harmful
        truth = stats.norm.cdf(parameter / np.sqrt(2))
    else:
        values, truth = random.random((samples, 60)) < parameter, parameter
    found = kernels.bootstrap(
        statistic, values.astype(float), rows.harmful if statistic == "auc" else None, clusters=rows.clusters,
        resamples=500, interval="studentized", seed=1,
    )  # fmt: skip
    share = float(np.mean((found.low - 1e-12 <= truth) & (truth <= found.high + 1e-12)))
    assert 0.93 - MARGIN / 4 < share < 0.97 + MARGIN / 4
