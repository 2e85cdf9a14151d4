"""How far two raters agree on yes or no, and a rate that one has measured on all items corrected by the other on some.

Cohen's κ (Cohen 1960) is the agreement beyond what their rates alone would give; φ is Pearson's correlation of the two.
Both are functions of the four shares of a confusion, whose bootstrap by prompt gives their intervals. The correction is
prediction-powered inference with a tuned weight (Angelopoulos et al. 2023, arXiv 2301.09633 and 2311.01453).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from polygate.measurement.statistics import (
    SAME,
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    difference_interval,
    few,
    logit_ends,
    logit_interval,
    paired_p,
    replicate,
    share_interval,
)

CELLS = ("both", "first only", "second only", "neither")
"""The cells of a confusion: who says yes."""
UNDEFINED = "undefined"
"""Method of a number that these items don't have: κ where neither rater ever differs from itself."""


@dataclass(frozen=True)
class Agreement:
    """Confusion (shares and counts, as `CELLS`), share of agreement, κ and φ of n items."""

    confusion: tuple[Interval, ...]
    counts: tuple[int, ...]
    agreement: Interval
    kappa: Interval
    correlation: Interval

    @property
    def n(self) -> int:
        """Number of items."""
        return sum(self.counts)


def agreement(
    first: NDArray[np.bool_], second: NDArray[np.bool_], ids: Sequence[str], resampling: Resampling
) -> Agreement:
    """Agreement of two raters' yes or no on n items, bool [n] each; items of one id in `ids` are resampled together.

    ValueError without items.
    """
    cells = _cells(first, second)
    found = _drawn(np.concatenate([cells, cells[[0]] | cells[[3]]]), ids, resampling)
    items = len(set(ids))
    shares, drawn = found.estimate[:4, 0], np.moveaxis(found.values[:, :4, 0], 1, 0)
    return Agreement(
        tuple(share_interval(found, cell, 0, items) for cell in range(4)),
        tuple(int(cell.sum()) for cell in cells),
        share_interval(found, 4, 0, items),
        _coefficient(kappa(shares), kappa(drawn), items, resampling),
        _coefficient(correlation(shares), correlation(drawn), items, resampling),
    )


def lead(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    people: NDArray[np.bool_],
    ids: Sequence[str],
    resampling: Resampling,
) -> tuple[Interval, float]:
    """κ of a first rater with people less that of a second, on the same n items (bool [n] each), and its p.

    Items of one id in `ids` are resampled together, for both raters alike; resamples in which either κ is undefined
    are left out. "undefined", and no p, where one is. ValueError without items.
    """
    cells = np.concatenate([_cells(first, people), _cells(second, people)])
    found = _drawn(cells, ids, resampling)
    estimate = np.array([[kappa(found.estimate[rows, 0])] for rows in (slice(0, 4), slice(4, 8))])
    if np.isnan(estimate).any():
        return Interval(np.nan, np.nan, np.nan, UNDEFINED), float("nan")
    values = np.stack([kappa(np.moveaxis(found.values[:, rows, 0], 1, 0)) for rows in (slice(0, 4), slice(4, 8))], 1)
    kappas = Replicates(estimate, values[:, :, None], resampling.confidence)
    items = len(set(ids))
    parts = [_coefficient(estimate[rater, 0], values[:, rater], items, resampling) for rater in (0, 1)]
    apart = kappas.pick([0]).minus(kappas.pick([1]))
    return difference_interval(apart, 0, 0, (parts[0], parts[1])), paired_p(apart, 0, 0, items)


def _cells(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of `CELLS` each item lies in, bool [4, n]."""
    return np.stack([first & second, first & ~second, ~first & second, ~first & ~second])


def _drawn(cells: NDArray[np.bool_], ids: Sequence[str], resampling: Resampling) -> Replicates:
    """Shares of items in cells [m, n], with their bootstrap by id; ValueError without items."""
    if not len(ids):
        raise ValueError("no items")
    panel = Panel.stack([Part("", list(ids), np.zeros(len(ids), bool))])
    return replicate("rate", cells.astype(np.float64), panel, resampling)


def kappa(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's κ of shares [4, …] as `CELLS`; NaN where chance alone agrees always."""
    both, one, other, neither = shares
    first, second = both + one, both + other
    chance = first * second + (1 - first) * (1 - second)
    return _ratio(both + neither - chance, 1 - chance)


def correlation(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """φ of shares [4, …] as `CELLS`; NaN where a rater always says the same."""
    both, one, other, _ = shares
    first, second = both + one, both + other
    return _ratio(both - first * second, np.sqrt(np.maximum(first * (1 - first) * second * (1 - second), 0)))


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    known = below > SAME
    found: NDArray[np.float64] = np.where(known, above / np.where(known, below, 1.0), np.nan)
    return found


def _coefficient(
    estimate: NDArray[np.float64], values: NDArray[np.float64], items: int, resampling: Resampling
) -> Interval:
    """Interval of a number between −1 and 1; Wilson's at its ends, where no resample varies."""
    if np.isnan(estimate):
        return Interval(np.nan, np.nan, np.nan, UNDEFINED)
    if 1 - abs(float(estimate)) < SAME:
        return few(float(estimate), items, resampling.confidence, (-1.0, 1.0))
    found = Replicates(np.atleast_2d(estimate), values[:, None, None], resampling.confidence)
    return logit_interval(found, 0, 0, items, (-1.0, 1.0))


@dataclass(frozen=True)
class Rated:
    """One language's items: `ids` [n], what the judge says (bool [n]) and what people say (float [n], NaN unasked)."""

    ids: Sequence[str]
    judge: NDArray[np.bool_]
    people: NDArray[np.float64]

    @property
    def labelled(self) -> int:
        """Number of items that people were asked about."""
        return int((~np.isnan(self.people)).sum())


FEWEST_LABELS = 6
"""With fewer labels in a language there is no correction: their spread says too little."""


def corrected(languages: Sequence[Rated], confidence: float) -> Interval | None:
    """The mean over languages of the rate that people would find, from the judge on all items and people on some.

    In each language: λ · mean of the judge where nobody was asked + mean of (people − λ · judge) where somebody was;
    λ is the weight of least variance, between 0 (people alone) and 1. The variance sums what each prompt id adds in
    all languages, so translations of one prompt are one item. None where a language has too few labels, or nobody to
    learn about beyond them; people asked about all items leave nothing to correct, and their rate is it.
    """
    parts = [_language(one) for one in languages]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    estimate = float(np.clip(np.mean([part[0] for part in known]), 0, 1))
    number = {name: i for i, name in enumerate(sorted({name for one in languages for name in one.ids}))}
    sums = np.zeros(len(number))
    for one, (_, influence) in zip(languages, known, strict=True):
        np.add.at(sums, [number[name] for name in one.ids], influence / len(known))
    items = min(one.labelled for one in languages)
    spread = float(np.sqrt((sums**2).sum() * items / (items - 1)))
    if min(estimate, 1 - estimate) < SAME or spread < SAME:
        return few(estimate, items, confidence)
    low, high = logit_ends(estimate, float(ndtri((1 + confidence) / 2)) * spread)
    return Interval(estimate, low, high, "prediction-powered")


def _language(one: Rated) -> tuple[float, NDArray[np.float64]] | None:
    """Estimate and what each item adds to its error, [n]."""
    asked = ~np.isnan(one.people)
    count, others = int(asked.sum()), int((~asked).sum())
    if count < FEWEST_LABELS:
        return None
    judge, people = one.judge.astype(np.float64), one.people[asked]
    weight = _weight(judge[asked], people, count, others)
    left = people - weight * judge[asked]
    beyond = weight * judge[~asked]
    influence = np.zeros(len(judge))
    influence[asked] = (left - left.mean()) / count
    if others:
        influence[~asked] = (beyond - beyond.mean()) / others
    return float(left.mean() + (beyond.mean() if others else 0.0)), influence


def _weight(judge: NDArray[np.float64], people: NDArray[np.float64], count: int, others: int) -> float:
    """λ of least variance, between 0 and 1; 0 without anything beyond the labels or a judge that never varies."""
    variance = float(np.var(judge, ddof=1))
    if not others or variance < SAME:
        return 0.0
    together = float(np.cov(judge, people, ddof=1)[0, 1])
    return float(np.clip(together / (variance * (1 + count / others)), 0, 1))
