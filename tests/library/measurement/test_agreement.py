"""Agreement is what its definitions say, and a rate corrected by people covers the truth that a biased judge misses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from polygate.measurement.agreement import CELLS, Rated, agreement, corrected, correlation, kappa, lead
from polygate.measurement.statistics import Resampling

DRAWN = Resampling(resamples=400)


def raters(random: np.random.Generator, n: int, alike: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first = random.random(n) < 0.4
    return first, np.where(random.random(n) < alike, first, random.random(n) < 0.3)


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.95])
def test_agreement_is_what_slow_definitions_give(alike: float) -> None:
    first, second = raters(np.random.default_rng(1), 200, alike)
    found = agreement(first, second, [f"p{i}" for i in range(200)], DRAWN)
    assert found.kappa.estimate == pytest.approx(cohen_kappa_score(first, second))
    assert found.correlation.estimate == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert found.agreement.estimate == pytest.approx((first == second).mean())
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    wanted = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
    assert list(found.counts) == wanted
    assert [part.estimate for part in found.confusion] == pytest.approx([count / 200 for count in wanted])
    for part in (found.kappa, found.correlation, found.agreement):
        assert -1 <= part.low < part.estimate < part.high <= 1


def test_the_published_confusion_gives_the_published_correlation() -> None:
    """114, 13, 32 and 441 of 600 completions, r = .790."""
    shares = np.array([114, 32, 13, 441]) / 600
    assert round(float(correlation(shares)), 3) == 0.790
    first = np.repeat([True, True, False, False], [114, 32, 13, 441])
    second = np.repeat([True, False, True, False], [114, 32, 13, 441])
    assert float(kappa(shares)) == pytest.approx(cohen_kappa_score(first, second))


def test_items_of_one_prompt_are_one_item() -> None:
    """The same completions thrice say no more than once: intervals don't shrink by the square root of three."""
    first, second = raters(np.random.default_rng(2), 60, 0.6)
    ids = [f"p{i}" for i in range(60)]
    once = agreement(first, second, ids, DRAWN).kappa
    thrice = agreement(np.tile(first, 3), np.tile(second, 3), ids * 3, DRAWN).kappa
    assert thrice.estimate == pytest.approx(once.estimate)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.05)


def test_raters_that_always_agree_have_an_interval_and_those_that_never_vary_no_kappa() -> None:
    ids = [f"p{i}" for i in range(30)]
    half = np.arange(30) % 2 == 0
    same = agreement(half, half, ids, DRAWN)
    assert (same.kappa.estimate, same.kappa.high, same.kappa.method) == (1.0, 1.0, "wilson")
    assert 0.7 < same.kappa.low < 0.9
    constant = agreement(np.zeros(30, bool), np.zeros(30, bool), ids, DRAWN)
    assert np.isnan(constant.kappa.estimate)
    assert constant.kappa.method == constant.correlation.method == "undefined"
    assert constant.counts[CELLS.index("neither")] == 30
    with pytest.raises(ValueError, match="no items"):
        agreement(half[:0], half[:0], [], DRAWN)


def judged(random: np.random.Generator, truth: NDArray[np.bool_], errs: float) -> NDArray[np.bool_]:
    return truth ^ (random.random(len(truth)) < errs)


def test_a_lead_is_the_difference_of_two_kappas_and_pairs_them() -> None:
    random = np.random.default_rng(3)
    people = random.random(300) < 0.4
    good, bad = judged(random, people, 0.05), judged(random, people, 0.25)
    ids = [f"p{i}" for i in range(300)]
    found, p = lead(good, bad, people, ids, DRAWN)
    expected = cohen_kappa_score(good, people) - cohen_kappa_score(bad, people)
    assert found.estimate == pytest.approx(expected)
    assert 0 < found.low < found.estimate < found.high
    assert p < 0.05
    turned, same = lead(bad, good, people, ids, DRAWN)
    assert (turned.estimate, turned.low, turned.high) == pytest.approx((-found.estimate, -found.high, -found.low))
    assert same == pytest.approx(p)
    # Two judges that err together differ by less than their own intervals would say.
    near = good.copy()
    near[:4] = ~near[:4]
    apart, _ = lead(good, near, people, ids, DRAWN)
    alone = agreement(good, people, ids, DRAWN).kappa
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


def test_judges_of_equal_worth_are_told_apart_no_more_often_than_the_level_says() -> None:
    random = np.random.default_rng(4)
    told = []
    for _ in range(200):
        people = random.random(80) < 0.4
        pair = (judged(random, people, 0.15) for _ in range(2))
        told.append(lead(*pair, people, [f"p{i}" for i in range(80)], Resampling(resamples=300))[1] < 0.05)
    assert np.mean(told) <= 0.09


def test_a_lead_needs_two_kappas_and_prompts_enough() -> None:
    ids = [f"p{i}" for i in range(30)]
    half, none = np.arange(30) % 2 == 0, np.zeros(30, bool)
    found, p = lead(half, none, none, ids, DRAWN)
    assert (found.method, np.isnan(found.estimate), np.isnan(p)) == ("undefined", True, True)
    same, p = lead(half, half, half, ids, DRAWN)
    assert (same.estimate, p) == (0.0, 1.0)
    assert same.low < 0 < same.high
    few, p = lead(half[:5], ~half[:5], half[:5], ids[:5], DRAWN)
    assert few.estimate == pytest.approx(1 - kappa(np.array([0, 0.4, 0.6, 0])))
    assert np.isnan(p)
    with pytest.raises(ValueError, match="no items"):
        lead(half[:0], half[:0], half[:0], [], DRAWN)


def world(random: np.random.Generator, languages: int, n: int, asked: int) -> list[Rated]:
    """A judge that misses a quarter of the refusals; each prompt is easier or harder in all languages alike."""
    ease = random.random(n) < 0.5
    found = []
    for _ in range(languages):
        truth = np.where(random.random(n) < 0.7, ease, random.random(n) < 0.5)
        judge = truth & (random.random(n) < 0.75)
        people = np.full(n, np.nan)
        chosen = random.choice(n, asked, replace=False)
        people[chosen] = truth[chosen]
        found.append(Rated([f"p{i}" for i in range(n)], judge, people))
    return found


@pytest.mark.parametrize("languages", [1, 3])
def test_the_corrected_rate_covers_the_truth_and_is_narrower_than_the_labels_alone(languages: int) -> None:
    random = np.random.default_rng(3)
    covered, raw, widths, alone = 0, 0, [], []
    for _ in range(400):
        drawn = world(random, languages, 300, 60)
        found = corrected(drawn, 0.95)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
        raw += abs(np.mean([one.judge.mean() for one in drawn]) - 0.5) < 0.05
        widths.append(found.high - found.low)
        few = [
            Rated(
                np.array(one.ids)[~np.isnan(one.people)].tolist(),
                one.judge[~np.isnan(one.people)],
                one.people[~np.isnan(one.people)],
            )
            for one in drawn
        ]
        labels = corrected(few, 0.95)
        assert labels is not None
        alone.append(labels.high - labels.low)
    width = np.mean(widths) / np.mean(alone)
    print(f"\ncovers {covered / 4:.1f} %, raw rate within .05 {raw / 4:.1f} %, {width:.2f} as wide")
    assert 0.92 <= covered / 400 <= 0.98
    assert raw < 40
    assert np.mean(widths) < 0.85 * np.mean(alone)


def test_a_judge_that_knows_nothing_costs_nothing_and_too_few_labels_correct_nothing() -> None:
    random = np.random.default_rng(4)
    people = np.where(np.arange(200) < 50, random.random(200) < 0.3, np.nan)
    ids = [f"p{i}" for i in range(200)]
    constant = corrected([Rated(ids, np.ones(200, bool), people)], 0.95)
    assert constant is not None
    assert constant.estimate == pytest.approx(np.nanmean(people))
    few = np.where(np.arange(200) < 5, 1.0, np.nan)
    assert corrected([Rated(ids, np.ones(200, bool), few)], 0.95) is None
    assert corrected([Rated(ids, np.ones(200, bool), people), Rated(ids, np.ones(200, bool), few)], 0.95) is None
    assert corrected([], 0.95) is None
    # Six labels that all say the same leave a wide interval.
    all_yes = corrected([Rated(ids, np.ones(200, bool), np.where(np.arange(200) < 6, 1.0, np.nan))], 0.95)
    assert all_yes is not None
    assert (all_yes.estimate, all_yes.high) == (1.0, 1.0)
    assert all_yes.low < 0.65
