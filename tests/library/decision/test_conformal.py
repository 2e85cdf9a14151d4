"""Conformal thresholds keep what they promise: proved by counting, by exact bounds, and by simulation."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom

from polygate.decision import conformal
from polygate.decision.calibration import decide
from polygate.decision.conformal import Rate, Reference

RATES: tuple[Rate, ...] = ("miss", "false_flags")


def wrong(rate: Rate, scores: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which scores of the rate's class fall on the wrong side."""
    flagged = decide(scores, threshold)
    return ~flagged if rate == "miss" else flagged


@pytest.mark.parametrize("rate", RATES)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9), st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 0.9]))
def test_each_of_b_plus_one_prompts_taken_as_the_new_one_is_wrong_no_more_often_than_promised(
    rate: Rate, values: list[int], alpha: float
) -> None:
    scores = np.array(values, np.float64)
    rank = conformal.conformal_rank(len(scores) - 1, alpha)
    if not rank:
        assert alpha < conformal.conformal_floor(len(scores) - 1) + 1e-12
        return
    mistakes = 0
    for new in range(len(scores)):
        threshold = conformal.threshold_at(rate, np.delete(scores, new), rank)
        assert threshold is not None
        mistakes += int(wrong(rate, scores[[new]], threshold)[0])
    assert mistakes <= rank
    assert rank / len(scores) <= alpha + 1e-12
    if len(set(values)) == len(values):
        assert mistakes == rank


@pytest.mark.parametrize("rate", RATES)
def test_the_threshold_is_the_most_daring_one_that_the_promise_allows(rate: Rate) -> None:
    """Twin: of all thresholds by rank, the last whose mistakes over every order of b + 1 scores stay within α."""
    for b in (1, 2, 4, 5):
        for alpha in (0.2, 0.34, 0.5, 0.7):
            allowed = 0
            for rank in range(1, b + 1):
                bad = total = 0
                for order in permutations(range(b + 1)):
                    threshold = conformal.threshold_at(rate, np.array(order[:-1], float), rank)
                    assert threshold is not None
                    bad += int(wrong(rate, np.array(order[-1:], float), threshold)[0])
                    total += 1
                allowed = rank if bad <= alpha * total else allowed
            assert conformal.conformal_rank(b, alpha) == allowed


@pytest.mark.parametrize("rate", RATES)
def test_the_miss_rate_over_draws_is_the_promised_one_and_no_more(rate: Rate) -> None:
    """20,000 draws; the bounds are exact binomial ones at 1 in 100,000, for each of six cases."""
    random = np.random.default_rng(20)
    for b, alpha in ((1, 0.5), (4, 0.2), (16, 0.1), (19, 0.05), (64, 0.05), (64, 0.2)):
        rank = conformal.conformal_rank(b, alpha)
        scores = random.standard_t(3, (20_000, b + 1))
        thresholds = [conformal.threshold_at(rate, row[:-1], rank) for row in scores]
        mistakes = int(wrong(rate, scores[:, -1], np.array(thresholds, np.float64)).sum())  # type: ignore[arg-type]
        low, high = binom.ppf([5e-6, 1 - 5e-6], len(scores), rank / (b + 1))
        assert low <= mistakes <= high, (b, alpha)


@pytest.mark.parametrize("rate", RATES)
def test_the_pac_promise_is_broken_in_at_most_delta_of_draws(rate: Rate) -> None:
    """Uniform scores, so that a threshold's true rate is known without test prompts."""
    random = np.random.default_rng(21)
    for b, alpha, delta in ((11, 0.2, 0.1), (45, 0.05, 0.1), (64, 0.1, 0.1), (100, 0.1, 0.05)):
        rank = conformal.pac_rank(b, alpha, delta)
        found = [conformal.threshold_at(rate, row, rank) for row in random.random((20_000, b))]
        thresholds = np.array(found, np.float64)
        rates = thresholds if rate == "miss" else 1 - thresholds
        exact = float(beta.sf(alpha, rank, b + 1 - rank))
        low, high = binom.ppf([5e-6, 1 - 5e-6], len(rates), exact)
        assert exact <= delta
        assert low <= int((rates > alpha).sum()) <= high


def test_the_pac_rank_is_the_largest_that_the_beta_distribution_allows() -> None:
    for b in range(0, 70):
        for alpha in (0.05, 0.1, 0.2, 0.5):
            for delta in (0.05, 0.1):
                tails = [sum(comb(b, i) * alpha**i * (1 - alpha) ** (b - i) for i in range(k)) for k in range(1, b + 1)]
                assert conformal.pac_rank(b, alpha, delta) == sum(tail <= delta for tail in tails)
                assert (conformal.pac_rank(b, alpha, delta) > 0) == (b >= conformal.pac_examples(alpha, delta))


def test_what_can_be_promised_with_how_many() -> None:
    assert [conformal.conformal_floor(b) for b in (0, 1, 4, 9, 19)] == [1, 1 / 2, 1 / 5, 1 / 10, 1 / 20]
    assert [conformal.conformal_examples(alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.01)] == [1, 4, 9, 19, 99]
    assert [conformal.pac_examples(alpha, 0.1) for alpha in (0.2, 0.1, 0.05)] == [11, 22, 45]
    assert conformal.pac_floor(45, 0.1) <= 0.05 < conformal.pac_floor(44, 0.1)
    for alpha in (0.5, 0.2, 0.1, 0.05, 0.01, 1 / 3, 1 / 7):
        least = conformal.conformal_examples(alpha)
        assert conformal.conformal_rank(least, alpha) == 1
        assert least == 1 or conformal.conformal_rank(least - 1, alpha) == 0
    assert conformal.threshold_at("miss", np.ones(3), conformal.conformal_rank(3, 0.2)) is None


def reference(seed: int = 0, apart: float = 4.0, languages: int = 4) -> Reference:
    random = np.random.default_rng(seed)
    harmful = random.normal(apart / 2, 1, 400)
    return Reference(harmful, random.normal(-apart / 2, 1, 400), np.repeat(np.arange(languages), 400 // languages))


def target(share: float, n: int = 4000, shift: float = -3.0, scale: float = 0.5) -> tuple[NDArray[np.float64], ...]:
    random = np.random.default_rng(5)
    harmful = shift + scale * random.normal(2, 1, round(n * share))
    harmless = shift + scale * random.normal(-2, 1, n - len(harmful))
    return harmful, harmless, np.concatenate([harmful, harmless])


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_without_labels_moved_and_squeezed_scores_are_found_again(share: float) -> None:
    known, (harmful, _, unlabelled) = reference(), target(share)
    found = conformal.mixture(unlabelled, known)
    assert found.share == pytest.approx(share, abs=0.02)
    miss = float((harmful <= found.threshold(0.1)).mean())
    corrected = float((harmful <= conformal.quantile_matching(unlabelled, known, 0.1, found.share)).mean())
    assert miss == pytest.approx(0.1, abs=0.03)
    assert corrected == pytest.approx(0.1, abs=0.03)


def test_quantile_matching_is_misled_by_a_shift_of_labels_that_the_mixture_corrects() -> None:
    known, (harmful, harmless, unlabelled) = reference(), target(0.2)
    naive = conformal.quantile_matching(unlabelled, known, 0.1, known.share)
    assert decide(harmless, naive).mean() > 0.3
    shifted = conformal.quantile_matching(unlabelled, known, 0.1, conformal.mixture(unlabelled, known).share)
    assert decide(harmless, shifted).mean() < 0.02
    assert decide(harmful, shifted).mean() > 0.85


def test_two_unlabelled_prompts_leave_the_mixture_close_to_its_reference() -> None:
    known = reference()
    found = conformal.mixture(np.array([-2.0, 2.0]), known)
    assert found.means == pytest.approx((-2, 2), abs=0.2)
    assert found.share == pytest.approx(0.5, abs=0.05)
    assert 0.5 < found.deviations[1] <= 1.05


def test_the_prior_is_believed_without_examples_and_outvoted_by_many() -> None:
    random = np.random.default_rng(3)
    centres = random.normal(2, 1.5, 8)
    harmful = (centres[:, None] + random.normal(0, 1, (8, 100))).ravel()
    known = conformal.prior(Reference(harmful, -harmful, np.repeat(np.arange(8), 100)))
    assert known is not None
    assert known.within == pytest.approx(1, abs=0.15)
    assert known.between == pytest.approx(float(centres.var(ddof=1)), rel=0.2)
    alone = known.threshold(np.empty(0), 0.1)
    # Predictive: spread of languages and of prompts together.
    assert alone == pytest.approx(known.mean - 1.2816 * np.sqrt(known.within + known.between), abs=0.25)
    many = known.threshold(np.full(5000, 9.0), 0.1)
    assert many == pytest.approx(9 + float(np.quantile(known.residuals, 0.1)), abs=0.02)


def test_shrinking_towards_the_sources_beats_both_the_prior_and_the_examples_alone() -> None:
    """Two examples of a new language of the same family: the predicted place of its harmful scores errs least."""
    random = np.random.default_rng(4)
    known = conformal.Prior(2.0, 1.0, 1.0, random.normal(0, 1, 4000))
    errors = np.zeros(3)
    for centre in random.normal(2, 1, 2000):
        examples = random.normal(centre, 1, 2)
        quantile = float(np.quantile(known.residuals, 0.1))
        shrunk = known.threshold(examples, 0.1) - quantile * np.sqrt(1 + 1 / 3)
        errors += np.square([shrunk - centre, 2.0 - centre, examples.mean() - centre])
    assert errors[0] < 0.8 * errors[1:].min()


def test_one_source_language_says_nothing_of_a_second() -> None:
    assert conformal.prior(reference(languages=1)) is None


@pytest.mark.parametrize(("examples", "alpha"), [(-1, 0.1), (4, 0.0), (4, 1.0)])
def test_no_promise_of_impossible_shares(examples: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal.conformal_rank(examples, alpha)


def test_a_score_that_is_no_number_has_no_place() -> None:
    with pytest.raises(ValueError, match="must be numbers"):
        conformal.threshold_at("miss", np.array([0.0, np.nan]), 1)


@pytest.mark.parametrize("scores", [[0.0, 0.0, 1.0], [5.0, 5.0, 5.0], [-1e6, 0.0, 1e6]])
@pytest.mark.parametrize("harmful", [[2.0], [2.0, 2.0], [0.0, 0.0]])
def test_a_mixture_of_scores_that_hardly_differ_is_still_one(scores: list[float], harmful: list[float]) -> None:
    reference = Reference(np.array(harmful), np.zeros(4), np.zeros(len(harmful), np.int64))
    with np.errstate(all="raise", under="ignore"):
        found = conformal.mixture(np.array(scores), reference)
    assert np.isfinite([*found.means, *found.deviations, found.threshold(0.1)]).all()
    assert 0 < found.share < 1
