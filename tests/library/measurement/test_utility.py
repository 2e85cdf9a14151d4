"""Utility off option logits: against plain loops, with ties, and with questions of different length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polygate.measurement import utility
from polygate.measurement.statistics import Panel, Part, Resampling, replicate, student_interval


def slow(logits: list[float], right: int) -> tuple[float, float, float]:
    """Accuracy, margin and entropy of one question, step by step."""
    best = max(logits)
    winners = [place for place, value in enumerate(logits) if value == best]
    total = sum(math.exp(value) for value in logits)
    entropy = -sum(math.exp(value) / total * math.log(math.exp(value) / total) for value in logits)
    wrong = max(value for place, value in enumerate(logits) if place != right)
    return (1 / len(winners) if right in winners else 0.0), logits[right] - wrong, entropy


def test_plain_loops_agree_on_questions_of_two_to_six_options() -> None:
    random = np.random.default_rng(1)
    # Rounded, so that some tie.
    asked = [np.round(random.normal(scale=2, size=random.integers(2, 7))).tolist() for _ in range(200)]
    right = np.array([random.integers(len(logits)) for logits in asked])
    logits = utility.padded(asked)
    found = (utility.accuracy(logits, right), utility.margin(logits, right), utility.entropy(logits))
    expected = np.array([slow(values, int(place)) for values, place in zip(asked, right, strict=True)]).T
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert (found[0] == 0.5).sum() > 0
    np.testing.assert_allclose(utility.chance(logits), [1 / len(values) for values in asked])


def test_one_option_far_ahead_is_certain_and_equal_ones_are_drawn_by_lot() -> None:
    logits = utility.padded([[900.0, -900.0, 0.0], [4.0, 4.0, 4.0]])
    assert utility.entropy(logits).tolist() == pytest.approx([0.0, math.log(3)])
    assert utility.accuracy(logits, np.array([0, 1])).tolist() == pytest.approx([1.0, 1 / 3])
    assert utility.margin(logits, np.array([1, 2])).tolist() == [-1800.0, 0.0]


def test_the_order_of_options_decides_nothing() -> None:
    """Half-precision logits tie; letting the first of them win would credit a model for the place of the answer."""
    logits = utility.padded([[1.0, 1.0, 0.0, 0.0]] * 4)
    assert utility.accuracy(logits, np.arange(4)).tolist() == [0.5, 0.5, 0.0, 0.0]


def test_the_interval_of_an_unbounded_mean_is_students() -> None:
    values = np.random.default_rng(3).normal(2, 5, size=12)
    panel = Panel.stack([Part("a", [f"p{i}" for i in range(12)], np.zeros(12, bool))])
    found = student_interval(replicate("rate", values[None], panel, Resampling(resamples=20000)), 0, 0, 12)
    reach = 2.200985 * values.std(ddof=1) / math.sqrt(12)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=0.02)
    assert found.method == "student"
