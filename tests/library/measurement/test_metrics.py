"""Measures of decisions, by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from polygate.measurement import metrics

HARMFUL = np.array([True, True, True, True, False, False, False, False])


def test_closed_forms() -> None:
    flagged = np.array([1, 1, 1, 0, 1, 0, 0, 0])
    assert metrics.rate(flagged, HARMFUL) == 0.75
    assert metrics.selectivity(flagged, HARMFUL) == 0.5
    assert metrics.balanced_accuracy(flagged, HARMFUL) == 0.75
    assert metrics.f1(flagged, HARMFUL) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))


@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_as_scikit_learn_defines_them(flagged: list[bool]) -> None:
    values = np.array(flagged)
    assert metrics.f1(values, HARMFUL) == pytest.approx(f1_score(HARMFUL, values, zero_division=0))
    assert metrics.balanced_accuracy(values, HARMFUL) == pytest.approx(balanced_accuracy_score(HARMFUL, values))


def test_many_at_once_are_one_by_one() -> None:
    many = np.random.default_rng(0).integers(0, 2, (5, 8))
    for measure in (metrics.f1, metrics.selectivity, metrics.balanced_accuracy):
        assert measure(many, HARMFUL).tolist() == [float(measure(row, HARMFUL)) for row in many]


def test_flagging_everything_or_nothing_selects_nothing() -> None:
    for value in (0, 1):
        assert metrics.selectivity(np.full(8, value), HARMFUL) == 0
    assert metrics.f1(np.zeros(8), HARMFUL) == 0


def test_a_rate_of_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        metrics.rate(np.ones(8), np.zeros(8, bool))
