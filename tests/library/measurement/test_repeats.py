"""The interval of a mean over trainings covers what other prompts and other trainings would give, in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from polygate import kernels
from polygate.measurement.repeats import METHOD, over_trainings
from polygate.measurement.statistics import Interval

SAMPLES = 2000
MARGIN = 3 * np.sqrt(0.95 * 0.05 / SAMPLES)


def refusing(trainings: np.ndarray, spread_of_prompts: float, seed: int) -> list[list[Interval]]:
    """Shares of 32 prompts refused: trainings are [SAMPLES, k] logits, prompts the same for all k."""
    random = np.random.default_rng(seed)
    prompts = random.normal(scale=spread_of_prompts, size=(SAMPLES, 1, 32))
    acts = random.uniform(size=(SAMPLES, trainings.shape[1], 32)) < 1 / (1 + np.exp(-trainings[..., None] - prompts))
    return [
        [Interval(share / 32, *kernels.wilson(share, 32), "wilson") for share in counts]
        for counts in acts.sum(axis=2).tolist()
    ]


def coverage(found: list[Interval], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def truth(middle: float, spread: float) -> float:
    """The mean share over all prompts and trainings: logits are normal about `middle`."""
    quantiles = middle + spread * stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    return float(np.mean(1 / (1 + np.exp(-quantiles))))


@pytest.mark.parametrize("middle", [0.0, 1.5])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_it_covers_where_trainings_scatter_and_where_they_do_not(middle: float, spread: float) -> None:
    trainings = np.random.default_rng(0).normal(middle, spread, size=(SAMPLES, 3))
    found = [over_trainings(one, 0.95) for one in refusing(trainings, 1.0, 1)]
    assert coverage(found, truth(middle, float(np.hypot(spread, 1.0)))) >= 0.95 - MARGIN


def test_one_training_does_not_know_of_the_others_and_three_do() -> None:
    trainings = np.random.default_rng(2).normal(0.0, 1.0, size=(SAMPLES, 3))
    made = refusing(trainings, 0.0, 3)
    at = truth(0.0, 1.0)
    assert coverage([one[0] for one in made], at) < 0.75
    assert coverage([over_trainings(one, 0.95) for one in made], at) >= 0.95 - MARGIN


def test_trainings_of_two_kinds_may_agree_by_chance() -> None:
    """The limit that the docstring names: half of all trainings act on nearly all prompts, half on nearly none."""
    trainings = np.where(np.random.default_rng(4).uniform(size=(SAMPLES, 3)) < 0.5, -4.0, 4.0)
    found = [over_trainings(one, 0.95) for one in refusing(trainings, 0.0, 5)]
    alike = float(np.mean((trainings == trainings[:, :1]).all(axis=1)))
    assert alike == pytest.approx(0.25, abs=0.04)
    assert coverage(found, 0.5) == pytest.approx(1 - alike, abs=0.01)


def test_its_ends_are_those_of_the_formula_and_stay_between_0_and_1() -> None:
    three = [Interval(0.5, 0.4, 0.65, "a"), Interval(0.6, 0.5, 0.7, "a"), Interval(0.4, 0.3, 0.5, "a")]
    found = over_trainings(three, 0.95)
    # Student's quantile with two degrees of freedom is 4.302653; the trainings' standard error is 0.1 / √3.
    reach = 4.302653 * 0.1 / 3**0.5
    ends = (0.5 - np.hypot(reach, 0.1), 0.5 + np.hypot(reach, (0.15 + 0.1 + 0.1) / 3))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, *ends), abs=1e-6)
    assert found.method == METHOD
    wide = over_trainings([Interval(0.0, 0.0, 0.1, "a"), Interval(1.0, 0.9, 1.0, "a")], 0.95)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_one_training_has_its_own_interval_and_none_has_nothing() -> None:
    alone = Interval(0.5, 0.4, 0.6, "wilson")
    assert over_trainings([alone], 0.95) is alone
    with pytest.raises(ValueError, match="no training"):
        over_trainings([], 0.95)
