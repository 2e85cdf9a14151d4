"""Stated power holds: experiments whose true difference is the detectable one find it as often as is said."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr

from library.representation.planted import naive_auc
from polygate.errors import PolygateError
from polygate.measurement.power import Pilot, Quantity, Spread, detectable, prompts_for
from polygate.measurement.statistics import Panel, Part, Resampling, paired_p, replicate

LANGUAGES = ("x", "y", "z")
Values = dict[str, NDArray[np.float64]]


def experiment(n: int, difference: float, random: np.random.Generator) -> tuple[Values, Values]:
    """Refusals of n harmful prompts by two models: prompts differ, and go together between languages and models."""
    prompt = random.normal(size=n)
    first, second = {}, {}
    for name in LANGUAGES:
        own = 0.6 * prompt + 0.5 * random.normal(size=n)
        for found, share in ((first, 0.5), (second, 0.5 + difference)):
            latent = ndtr(own + np.sqrt(1 - 0.61) * random.normal(size=n))
            found[name] = (latent < share).astype(np.float64)[None]
    return first, second


def found(first: Values, second: Values, n: int, resamples: int = 300) -> float:
    """The p of the workflow's own paired test of the mean over languages."""
    ids = [f"harmful-test-{i:04d}" for i in range(n)]
    panel = Panel.stack([Part(name, ids, np.ones(n, bool)) for name in LANGUAGES])
    values = np.concatenate([np.concatenate([first[name], second[name]]) for name in LANGUAGES], axis=1)
    replicates = replicate("rate", values, panel, Resampling(resamples=resamples))
    return paired_p(replicates.pick([1]).minus(replicates.pick([0])).over_languages(), 0, 0, n)


def test_a_detectable_difference_is_found_as_often_as_said_and_no_difference_seldom() -> None:
    """400 experiments each: Monte Carlo errors of .02 and .011, three of which are allowed."""
    random = np.random.default_rng(0)
    n = 120
    pilot = Pilot("refused", np.ones(400, bool), *experiment(400, 0.1, random))
    least = detectable(Spread.of(pilot.differences(n, 1, 2000, 0)).error(len(LANGUAGES)), n)
    assert least is not None
    assert 0.02 < least < 0.2
    seen = np.mean([found(*experiment(n, least, random), n) < 0.05 for _ in range(400)])
    assert seen == pytest.approx(0.8, abs=0.06)
    false = np.mean([found(*experiment(n, 0.0, random), n) < 0.05 for _ in range(400)])
    assert false < 0.05 + 0.033


def slow(quantity: Quantity, said: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    if quantity == "auc":
        return naive_auc(said, labels)
    if quantity == "f1":
        return float(2 * (said[labels] == 1).sum() / ((said == 1).sum() + labels.sum()))
    return float(said[labels].mean() - (said[~labels].mean() if quantity == "selectivity" else 0))


@pytest.mark.parametrize("quantity", ["refused", "selectivity", "f1", "auc"])
def test_a_simulated_experiment_is_the_statistic_of_the_prompts_drawn(quantity: Quantity) -> None:
    """Against a slow twin: the prompts of each experiment written out one by one."""
    random = np.random.default_rng(1)
    harmful = np.arange(30) < 14
    values = (
        random.random((2, 2, 30)).round(1) if quantity == "auc" else random.integers(2, size=(2, 2, 30)).astype(float)
    )
    pilot = Pilot(quantity, harmful, {"x": values[0]}, {"x": values[1]})
    weights = np.zeros((5, 30), np.int64)
    for label in (True, False):
        rows = np.flatnonzero(harmful == label)
        weights[:, rows] = random.multinomial(9, np.full(len(rows), 1 / len(rows)), 5)
    fast = pilot._statistic(values[0, 0], weights.astype(float), 9)
    for weight, quick in zip(weights, fast, strict=True):
        rows = np.repeat(np.arange(30), weight)
        labels, said = harmful[rows], values[0, 0][rows]
        assert quick == pytest.approx(slow(quantity, said, labels))


def test_more_prompts_languages_and_draws_show_smaller_differences() -> None:
    random = np.random.default_rng(2)
    n = 100
    harmful = np.arange(2 * n) < n
    flags = {name: (random.random((6, 2 * n)) < np.where(harmful, 0.8, 0.2)).astype(float) for name in LANGUAGES}
    base = {name: values[:1] for name, values in flags.items()}
    pilot = Pilot("f1", harmful, base, flags)
    errors = {
        (prompts, draws, count): Spread.of(pilot.differences(prompts, draws, 2000, 0)).error(count)
        for prompts in (50, 200)
        for draws in (1, 6)
        for count in (1, 3)
    }
    for draws in (1, 6):
        for count in (1, 3):
            assert errors[50, draws, count] / errors[200, draws, count] == pytest.approx(2, rel=0.15)
    for prompts in (50, 200):
        assert errors[prompts, 6, 3] < errors[prompts, 1, 3] < errors[prompts, 1, 1]
    # Independent languages: the error falls with the root of their number.
    assert errors[50, 1, 1] / errors[50, 1, 3] == pytest.approx(np.sqrt(3), rel=0.15)


def test_the_error_of_a_mean_is_that_of_means_over_all_sets_of_languages() -> None:
    random = np.random.default_rng(3)
    shared = random.normal(size=4000)
    differences = np.stack([shared + scale * random.normal(size=4000) for scale in (0.5, 1.0, 2.0)])
    spread = Spread.of(differences)
    pairs = [(0, 1), (0, 2), (1, 2)]
    slow = np.mean([differences[list(pair)].mean(axis=0).var(ddof=1) for pair in pairs])
    assert spread.error(2) == pytest.approx(np.sqrt(slow))
    assert spread.error(3) == pytest.approx(differences.mean(axis=0).std(ddof=1))


def test_what_never_varies_tells_nothing() -> None:
    ones = {"x": np.ones((1, 20))}
    error = Spread.of(Pilot("refused", np.ones(20, bool), ones, ones).differences(50, 1, 100, 0)).error(1)
    assert detectable(error, 50) is None
    assert prompts_for(0.05, {50: error}) is None


def test_the_fewest_prompts_that_show_a_difference() -> None:
    errors = {25: 0.04, 100: 0.02, 400: 0.01}
    assert prompts_for(0.06, errors) == 100
    assert prompts_for(0.01, errors) is None


def test_too_few_prompts_are_no_pilot() -> None:
    few = {"x": np.ones((1, 5))}
    with pytest.raises(PolygateError, match="5 prompts of a class are too few"):
        Pilot("refused", np.ones(5, bool), few, few)
