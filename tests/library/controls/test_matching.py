"""Matched prompts: strata, weights, close pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from polygate import kernels
from polygate.controls import matching
from polygate.controls.matching import caliper_auc, kish, match, strata
from polygate.controls.surface import FINAL_CLASSES
from polygate.measurement.statistics import Panel, Part, Resampling

QUICK = Resampling(resamples=300, seed=1)


@given(arrays.arrays(np.int64, 40, elements=st.integers(0, 5)), arrays.arrays(bool, 40))
def test_both_classes_get_the_same_distribution_over_strata(
    stratum: NDArray[np.int64], harmful: NDArray[np.bool_]
) -> None:
    weights = match(stratum, harmful).weights
    for one in np.unique(stratum):
        here = stratum == one
        shares = [
            weights[here & of_class].sum() / max(weights[of_class].sum(), 1e-300) for of_class in (harmful, ~harmful)
        ]
        assert shares[0] == pytest.approx(shares[1])


@given(arrays.arrays(np.int64, 40, elements=st.integers(0, 5)), arrays.arrays(bool, 40))
def test_the_base_rate_stays(stratum: NDArray[np.int64], harmful: NDArray[np.bool_]) -> None:
    found = match(stratum, harmful)
    if found.weights.any():
        assert found.weights[harmful].sum() == pytest.approx(harmful.sum())
        assert found.weights[~harmful].sum() == pytest.approx((~harmful).sum())


def test_classes_that_are_alike_keep_equal_weights() -> None:
    stratum = np.tile([0, 1, 1, 2], 20)
    harmful = np.repeat([True, False], 40)
    found = match(stratum, harmful)
    assert found.weights == pytest.approx(np.ones(80))
    assert found.n_effective == pytest.approx((40, 40))
    assert found.sufficient


def test_classes_that_share_no_stratum_have_no_overlap() -> None:
    harmful = np.repeat([True, False], 40)
    found = match(harmful.astype(np.int64), harmful)
    assert found.n_effective == (0, 0)
    assert not found.sufficient


def test_kish() -> None:
    assert kish(np.array([2.0, 2.0, 2.0])) == pytest.approx(3)
    assert kish(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)
    assert kish(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert kish(np.zeros(3)) == 0


def test_strata_tell_length_punctuation_and_question_form_apart() -> None:
    same = strata(np.array([5, 5]), ["stop", "stop"], [False, False])
    assert same[0] == same[1]
    for other in (
        strata(np.array([5, 50]), ["stop", "stop"], [False, False]),
        strata(np.array([5, 5]), ["stop", "none"], [False, False]),
        strata(np.array([5, 5]), ["stop", "stop"], [False, True]),
    ):
        assert other[0] != other[1]


def test_matching_takes_away_what_the_surface_gives_and_leaves_the_rest() -> None:
    """A score that is the length alone falls to chance; one that knows the class beside the length does not."""
    random = np.random.default_rng(0)
    harmful = np.repeat([True, False], 400)
    length = np.round(random.normal(30 + 10 * harmful, 6)).astype(int).clip(4)
    stratum = strata(length, ["stop"] * 800, [False] * 800, bins=20)
    weights = match(stratum, harmful).weights
    scores = np.stack([length.astype(float), length + 12.0 * harmful * random.normal(1, 0.2, 800)])
    plain, matched = kernels.auc(scores, harmful), kernels.auc(scores, harmful, weights)
    assert plain[0] > 0.85
    assert abs(matched[0] - 0.5) < 0.05
    assert matched[1] > 0.85


def pairs_by_hand(
    scores: NDArray[np.float64],
    harmful: NDArray[np.bool_],
    length: NDArray[np.float64],
    final: NDArray[np.int64],
    times: NDArray[np.float64],
) -> float:
    won = total = 0.0
    for i in np.flatnonzero(harmful):
        for j in np.flatnonzero(~harmful):
            if final[i] == final[j] and abs(length[i] - length[j]) <= 0.2:
                weight = times[i] * times[j]
                total += weight
                won += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else float("nan")


@pytest.fixture
def rows() -> Panel:
    ids = [f"harmful-{i}" for i in range(20)] + [f"harmless-{i}" for i in range(20)]
    return Panel.stack([Part(name, ids, np.arange(40) < 20) for name in ("a", "b")])


def test_close_pairs_and_their_resamples_against_a_loop_over_pairs(rows: Panel) -> None:
    random = np.random.default_rng(2)
    n = len(rows)
    length, final = random.normal(4, 0.3, n), random.integers(0, len(FINAL_CLASSES), n)
    scores = np.round(random.normal(size=(2, n)) + rows.harmful, 1)
    found = caliper_auc(scores, rows, length, final, QUICK)
    times = matching._multiplicities(rows, QUICK)
    for column in (0, 1):
        here = rows.languages == column
        for method in (0, 1):
            of = scores[method, here], rows.harmful[here], length[here], final[here]
            assert found.replicates.estimate[method, column] == pytest.approx(pairs_by_hand(*of, np.ones(40)))
            for resample in (0, 7, 299):
                by_hand = pairs_by_hand(*of, times[resample, here].astype(float))
                assert found.replicates.values[resample, method, column] == pytest.approx(by_hand, nan_ok=True)


def test_resamples_draw_items_for_all_languages_at_once(rows: Panel) -> None:
    times = matching._multiplicities(rows, QUICK)
    assert np.array_equal(times[:, rows.languages == 0], times[:, rows.languages == 1])
    assert (times[:, rows.harmful & (rows.languages == 0)].sum(axis=1) == 20).all()
    assert times.mean() == pytest.approx(1)


def test_with_all_pairs_close_it_is_the_auc(rows: Panel) -> None:
    scores = np.random.default_rng(0).normal(size=(1, len(rows))) + rows.harmful
    found = caliper_auc(scores, rows, np.zeros(len(rows)), np.zeros(len(rows), np.int64), QUICK)
    for column in (0, 1):
        here = rows.languages == column
        assert found.replicates.estimate[0, column] == pytest.approx(kernels.auc(scores[0, here], rows.harmful[here]))
    assert found.pairs.tolist() == [400, 400]


def test_without_a_close_pair_there_is_no_estimate(rows: Panel) -> None:
    length = np.where(rows.harmful, 0.0, 9.0)
    with pytest.raises(ValueError, match="caliper"):
        caliper_auc(np.zeros((1, len(rows))), rows, length, np.zeros(len(rows), np.int64), QUICK)
