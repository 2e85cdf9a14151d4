"""Matched pairs: AUC over the harmful-harmless pairs that a surface cue can't tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import twins
from polygate import kernels


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 4), st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.55, 2.0]), st.integers(-1, 1)
        ),
        min_size=2,
        max_size=30,
    ),
    caliper=st.sampled_from([0.0, 0.1, 0.2, 0.5, 9.0, np.inf]),
)
def test_matched_auc_is_its_definition(rows: list[tuple[int, bool, float, int]], caliper: float) -> None:
    scores, labels, covariate, stratum = (np.array(column) for column in zip(*rows, strict=True))
    labels[:2] = [True, False]
    area, pairs = kernels.caliper_auc(scores, labels, covariate, stratum, caliper)
    expected, expected_pairs = twins.caliper_auc(scores, labels, covariate, stratum, caliper)
    assert pairs == expected_pairs
    np.testing.assert_array_equal(area, expected)


def test_without_limits_it_is_the_auc() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(3, 90)), random.random(90) < 0.4
    areas, pairs = kernels.caliper_auc(scores, labels, random.normal(size=90), np.zeros(90, int), np.inf)
    np.testing.assert_array_equal(areas, kernels.auc(scores, labels))
    assert pairs == labels.sum() * (~labels).sum()


def test_a_score_that_is_the_surface_cue_loses_what_it_had() -> None:
    """Longer harmful prompts: length alone ranks well over all pairs and at chance over matched ones."""
    random = np.random.default_rng(1)
    labels = np.arange(1000) < 500
    length = random.normal(size=1000) + 1.5 * labels
    everywhere, (matched, pairs) = (
        kernels.auc(length, labels),
        kernels.caliper_auc(length, labels, length, np.zeros(1000, int), 0.05),
    )
    assert everywhere > 0.8
    assert abs(matched - 0.5) < 0.05
    assert 1000 < pairs < 250_000


def test_no_matched_pair_gives_nan() -> None:
    area, pairs = kernels.caliper_auc(np.arange(4.0), np.arange(4) < 2, np.zeros(4), np.arange(4), 1.0)
    assert np.isnan(area)
    assert pairs == 0


def test_arguments_that_do_not_fit_are_named() -> None:
    scores, labels, covariate, stratum = np.zeros(4), np.arange(4) < 2, np.zeros(4), np.zeros(4, int)
    with pytest.raises(ValueError, match="caliper is -1, expected a number ≥ 0"):
        kernels.caliper_auc(scores, labels, covariate, stratum, -1)
    with pytest.raises(ValueError, match=r"covariate\[0\] is inf"):
        kernels.caliper_auc(scores, labels, covariate + np.inf, stratum, 1)
    with pytest.raises(ValueError, match="stratum has 3 entries, expected 4 as labels"):
        kernels.caliper_auc(scores, labels, covariate, stratum[:3], 1)
    with pytest.raises(ValueError, match="stratum has dtype float64, expected integers"):
        kernels.caliper_auc(scores, labels, covariate, stratum + 0.5, 1)
