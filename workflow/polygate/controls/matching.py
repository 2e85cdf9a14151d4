"""Separability on matched prompts: what is left when harmful and harmless prompts are equally long and end alike.

Two ways. Strata of token count × final punctuation × question form are weighted so that both classes have the same
distribution over them. And, without bins, the AUC over only those harmful-harmless pairs whose log lengths differ by
less than a caliper and whose final punctuation is of one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygate import kernels
from polygate.controls.surface import FINAL_CLASSES
from polygate.measurement.statistics import Panel, Replicates, Resampling

CALIPER = 0.2
"""Pairs whose log lengths differ by at most this count as equally long (a factor of 1.22)."""
BINS = 5
"""Quantile bins of the token count that strata are made of."""
FEWEST_EFFECTIVE = 10.0
"""Below this effective number of prompts in a class, matched prompts overlap too little to say anything."""


@dataclass(frozen=True)
class Matched:
    """Weights that give both classes the same distribution over strata.

    `weights` float64 [n], zero where a prompt's stratum lacks the other class; each class's weights sum to its number
    of prompts, so the base rate stays. `n_effective`: Kish's effective sample size of (harmful, harmless).
    """

    weights: NDArray[np.float64]
    n_effective: tuple[float, float]

    @property
    def sufficient(self) -> bool:
        """Whether enough of both classes overlap for an estimate to mean something."""
        return min(self.n_effective) >= FEWEST_EFFECTIVE


def strata(
    token_count: NDArray[np.integer], punctuation: Sequence[str], question: Sequence[bool], bins: int = BINS
) -> NDArray[np.int64]:
    """Stratum of each prompt, int64 [n]: quantile bin of its token count × final punctuation × question form."""
    counts = np.asarray(token_count, np.float64)
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, bins + 1)[1:-1])) if len(counts) else np.empty(0)
    length = np.searchsorted(edges, counts, side="left")
    final = np.array([FINAL_CLASSES.index(name) for name in punctuation], np.int64)
    form = np.asarray(question, np.int64)
    return np.asarray((length * len(FINAL_CLASSES) + final) * 2 + form, np.int64)


def match(stratum: NDArray[np.int64], harmful: NDArray[np.bool_]) -> Matched:
    """Weights over strata [n] that make harmful and harmless prompts alike in them.

    The common distribution is proportional to n₁n₀/(n₁+n₀) per stratum: of all, the one with the least variance
    (overlap weights; Li, Morgan and Zaslavsky 2018).
    """
    _, index = np.unique(stratum, return_inverse=True)
    count = {
        label: np.bincount(index[harmful == label], minlength=index.max(initial=-1) + 1) for label in (True, False)
    }
    total = count[True] + count[False]
    target = count[True] * count[False] / np.maximum(total, 1)
    weights = np.zeros(len(stratum))
    if target.sum() > 0:
        target = target / target.sum()
        for label in (True, False):
            of_class = harmful == label
            share = target / np.maximum(count[label], 1)
            weights[of_class] = share[index[of_class]] * of_class.sum()
    return Matched(weights, (kish(weights[harmful]), kish(weights[~harmful])))


def kish(weights: NDArray[np.float64]) -> float:
    """Kish's effective sample size (Σw)²/Σw², 0 for no weight at all."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class CaliperAuc:
    """AUC over close pairs: `replicates` of m methods in g languages, `pairs` int64 [g]."""

    replicates: Replicates
    pairs: NDArray[np.int64]


def caliper_auc(
    scores: NDArray[np.float64],
    panel: Panel,
    log_length: NDArray[np.float64],
    punctuation: NDArray[np.int64],
    resampling: Resampling,
    caliper: float = CALIPER,
) -> CaliperAuc:
    """AUC of `scores` [m, n] over pairs of like length and punctuation, per language, with its bootstrap.

    `log_length` float64 [n], `punctuation` int64 [n] (class). Resamples draw prompt ids within each class, jointly over
    languages, as all others do: a pair then counts as often as its two prompts were drawn together. NaN in a resample
    that leaves a language no close pair. ValueError when a language has no close pair at all.
    """
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    languages = [np.flatnonzero(panel.languages == i) for i in range(len(panel.names))]
    found = []
    for rows in languages:
        arguments = panel.harmful[rows], log_length[rows], punctuation[rows], caliper
        close = close_pairs(*arguments)
        if not close.any():
            raise ValueError("a language has no harmful-harmless pair within the caliper")
        estimate, pairs = kernels.caliper_auc(np.ascontiguousarray(scores[:, rows]), *arguments)
        found.append((np.atleast_1d(np.asarray(estimate, np.float64)), int(pairs), close))
    times = _multiplicities(panel, resampling)
    estimates = np.stack([estimate for estimate, _, _ in found], axis=1)
    values = np.empty((resampling.resamples, *estimates.shape))
    for column, (rows, (_, _, close)) in enumerate(zip(languages, found, strict=True)):
        values[:, :, column] = _resampled(scores[:, rows], panel.harmful[rows], close, times[:, rows])
    return CaliperAuc(
        Replicates(estimates, values, resampling.confidence), np.array([pairs for _, pairs, _ in found], np.int64)
    )


def close_pairs(
    harmful: NDArray[np.bool_], log_length: NDArray[np.float64], punctuation: NDArray[np.int64], caliper: float
) -> NDArray[np.bool_]:
    """Which harmful-harmless pairs are alike, bool [n₁, n₀]."""
    apart = np.abs(log_length[harmful][:, None] - log_length[~harmful][None])
    alike: NDArray[np.bool_] = (apart <= caliper) & (punctuation[harmful][:, None] == punctuation[~harmful][None])
    return alike


def _multiplicities(panel: Panel, resampling: Resampling) -> NDArray[np.float32]:
    """How often each row is drawn in each resample, [resamples, n]: by prompt id, within each class."""
    times = np.zeros((resampling.resamples, len(panel)), np.float32)
    for label in (True, False):
        rows = np.flatnonzero(panel.harmful == label)
        items, index = np.unique(panel.clusters[rows], return_inverse=True)
        random = np.random.default_rng([resampling.seed, 0x0CA11, int(label)])
        drawn = random.multinomial(len(items), np.full(len(items), 1 / len(items)), size=resampling.resamples)
        times[:, rows] = drawn[:, index]
    return times


def _resampled(
    scores: NDArray[np.float64],
    harmful: NDArray[np.bool_],
    close: NDArray[np.bool_],
    times: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Pair-weighted AUC of every resample, [resamples, m].

    float32 matrix products are exact here: they sum halves up to the number of prompts, far below 2²³.
    """
    of_harmful, of_harmless = times[:, harmful], times[:, ~harmful]
    weight = ((of_harmful @ close.astype(np.float32)) * of_harmless).sum(axis=1, dtype=np.float64)
    values = np.empty((len(times), len(scores)))
    for method, row in enumerate(scores):
        a, b = row[harmful][:, None], row[~harmful][None]
        ordered = np.where(close, (a > b) + 0.5 * (a == b), 0).astype(np.float32)
        won = ((of_harmful @ ordered) * of_harmless).sum(axis=1, dtype=np.float64)
        values[:, method] = np.where(weight > 0, won / np.maximum(weight, 1), np.nan)
    return values
