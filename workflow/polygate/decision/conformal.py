"""Thresholds with a guarantee, and thresholds from less than labels: what a handful of prompts lets one promise.

A prompt is flagged when score > threshold (`calibration.decide`). A *miss* is a harmful prompt that is not flagged, a
*false flag* a harmless one that is. With b calibration prompts of a class that are exchangeable with those to come, and
scores that were fitted without them:

- split conformal (Vovk, Gammerman and Shafer 2005; Papadopoulos et al. 2002): the rate is at most k/(b+1) on average
  over calibration prompts and new ones, k = ⌊α(b+1)⌋. Nothing below 1/(b+1) can be promised.
- PAC (Wilks 1941; Vovk 2012): with probability 1 − δ over the calibration prompts the rate is at most α. The share of
  new scores below the k-th smallest of b is Beta(k, b+1−k) when there are no ties, and less with ties, so k is the
  largest with P(Binomial(b, α) < k) ≤ δ. Nothing below 1 − δ^(1/b) can be promised.

The bound on false flags needs harmless prompts alone, which any deployment has; it says nothing of misses. Other rules
promise nothing: they hold as far as their assumptions do, which stand with each function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Rate = Literal["miss", "false_flags"]

_ROUNDING = 1e-9
"""α(b+1) may fall short of a whole number by rounding alone: .05 · 20 must count as 1."""
_STEPS = 200
_NARROWEST = 1e-3
_SETTLED = 1e-6


def conformal_rank(examples: int, alpha: float) -> int:
    """k = ⌊α(b+1)⌋ for b `examples`; 0 where α can't be promised with so few. ValueError unless 0 < α < 1."""
    _check(examples, alpha)
    return min(math.floor(alpha * (examples + 1) + _ROUNDING), examples)


def pac_rank(examples: int, alpha: float, delta: float) -> int:
    """The largest k with P(Binomial(b, α) < k) ≤ δ; 0 where α can't be promised with probability 1 − δ."""
    from scipy.special import bdtr

    _check(examples, alpha)
    _check(examples, delta)
    if not examples:
        return 0
    return int((bdtr(np.arange(examples), examples, alpha) <= delta * (1 + _ROUNDING)).sum())


def conformal_floor(examples: int) -> float:
    """The lowest rate that can be promised on average with b `examples`: 1/(b+1)."""
    return 1 / (examples + 1)


def pac_floor(examples: int, delta: float) -> float:
    """The lowest rate that can be promised with probability 1 − δ: 1 − δ^(1/b), and 1 without examples."""
    return 1 - delta ** (1 / examples) if examples else 1.0


def conformal_examples(alpha: float) -> int:
    """The fewest examples with which α can be promised on average."""
    _check(0, alpha)
    return max(1, math.ceil(1 / alpha - 1 - _ROUNDING))


def pac_examples(alpha: float, delta: float) -> int:
    """The fewest examples with which α can be promised with probability 1 − δ."""
    _check(0, alpha)
    _check(0, delta)
    return max(1, math.ceil(math.log(delta) / math.log1p(-alpha) - _ROUNDING))


def _check(examples: int, share: float) -> None:
    if examples < 0 or not 0 < share < 1:
        raise ValueError(f"{examples} examples, share {share}: shares lie between 0 and 1")


def threshold_at(rate: Rate, scores: Wide, rank: int) -> float | None:
    """The threshold that leaves `rank` − 1 of the calibration `scores` [b] of one class on its wrong side.

    For misses just below the k-th smallest score, so that this one is flagged; for false flags the k-th largest, which
    isn't. None for rank 0: no threshold can be promised to do. ValueError for a rank beyond the scores, or NaN.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    if not 0 <= rank <= len(ordered) or np.isnan(ordered).any():
        raise ValueError(f"rank {rank} of {len(ordered)} scores, which must be numbers")
    if rank == 0:
        return None
    if rate == "miss":
        return float(np.nextafter(ordered[rank - 1], -np.inf))
    return float(ordered[len(ordered) - rank])


@dataclass(frozen=True)
class Reference:
    """Scores of the source languages that target scores are matched to: `harmful` [n₁], `harmless` [n₀].

    Each language's are those of a gate that saw neither the language nor the prompts; `languages` int64 [n₁] tells the
    harmful ones' language apart.
    """

    harmful: Wide
    harmless: Wide
    languages: NDArray[np.int64]

    @property
    def share(self) -> float:
        """Share of harmful prompts."""
        return len(self.harmful) / (len(self.harmful) + len(self.harmless))

    def lowest(self, alpha: float) -> float:
        """The α-quantile of the harmful scores."""
        return float(np.quantile(self.harmful, alpha))


def quantile_matching(unlabelled: Wide, reference: Reference, alpha: float, share: float) -> float:
    """Threshold on unlabelled target scores [n] at the quantile that misses α of the reference's harmful prompts.

    Assumes that target scores are the reference's after some increasing map, the same for both classes, and that
    `share` of the target's prompts are harmful: the reference's own share, or one corrected for label shift.
    """
    threshold = reference.lowest(alpha)
    below = share * alpha + (1 - share) * float((reference.harmless <= threshold).mean())
    ordered = np.sort(np.asarray(unlabelled, np.float64))
    passed = math.floor(below * len(ordered) + _ROUNDING)
    return float(ordered[passed - 1] if passed else np.nextafter(ordered[0], -np.inf))


@dataclass(frozen=True)
class Mixture:
    """Two normal components of target scores: means and standard deviations of (harmless, harmful), `share` harmful."""

    means: tuple[float, float]
    deviations: tuple[float, float]
    share: float

    def threshold(self, alpha: float) -> float:
        """The α-quantile of the harmful component."""
        return self.means[1] + self.deviations[1] * NormalDist().inv_cdf(alpha)


def mixture(unlabelled: Wide, reference: Reference) -> Mixture:
    """The mixture that unlabelled target scores [n] are most likely from, by expectation maximisation.

    Assumes normal scores in each class, whose spreads have the reference's proportion; means, scale and share of
    harmful prompts are free (so label shift is corrected for). The reference counts as one pseudo-prompt per component
    and one for the scale, so that one or two prompts don't make a mixture of their own. Of two starts, the reference
    itself and the reference moved to the target's mean and spread, the likelier end is taken.
    """
    scores = np.asarray(unlabelled, np.float64)
    classes = (reference.harmless, reference.harmful)
    means = np.array([values.mean() for values in classes])
    # A class whose scores hardly differ (a few prompts) is no more than a thousand times narrower than all together.
    narrowest = _NARROWEST * float(np.concatenate(classes).std()) or 1.0
    spreads = np.array([max(float(values.std()), narrowest) for values in classes])
    shares = np.array([1 - reference.share, reference.share])
    centre = float(shares @ means)
    whole = math.sqrt(float(shares @ (spreads**2 + (means - centre) ** 2)))
    moved = max(float(scores.std()) / whole, _SETTLED)
    starts = [(means, 1.0), (scores.mean() + moved * (means - centre), moved)]
    ends = [_maximised(scores, start, scale, means, spreads, shares) for start, scale in starts]
    return max(ends, key=lambda end: end[0])[1]


def _maximised(
    scores: Wide, start: Wide, scale: float, prior_means: Wide, spreads: Wide, prior_shares: Wide
) -> tuple[float, Mixture]:
    """Log posterior and mixture at the end of one start; all arrays are of (harmless, harmful)."""
    means, shares, reached = start, prior_shares, -math.inf
    for _ in range(_STEPS):
        deviations = scale * spreads
        terms = np.log(shares) - np.log(deviations) - ((scores[:, None] - means) / deviations) ** 2 / 2
        joint = np.logaddexp(terms[:, 0], terms[:, 1])
        penalty = float((((means - prior_means) / spreads) ** 2).sum()) / 2 + math.log(scale) + 0.5 / scale**2
        posterior = float(joint.sum()) - penalty + 2 * float(prior_shares @ np.log(shares))
        if posterior - reached < _SETTLED:
            break
        reached = posterior
        weights = np.exp(terms - joint[:, None])
        count = weights.sum(axis=0)
        means = (scale**2 * prior_means + weights.T @ scores) / (scale**2 + count)
        shares = (2 * prior_shares + count) / (2 + len(scores))
        squares = float((weights * ((scores[:, None] - means) / spreads) ** 2).sum())
        scale = math.sqrt((1 + squares) / (1 + len(scores)))
    low, high = (scale * spreads).tolist()
    return posterior, Mixture((float(means[0]), float(means[1])), (low, high), float(shares[1]))


@dataclass(frozen=True)
class Prior:
    """What source languages, each left out in turn, say of where a new language's harmful scores lie.

    The means of languages are normal around `mean` with variance `between`; scores around their language's mean have
    variance `within` and the distribution of `residuals` [n₁].
    """

    mean: float
    between: float
    within: float
    residuals: Wide

    def threshold(self, harmful: Wide, alpha: float) -> float:
        """The predictive α-quantile of harmful scores, given those of b ≥ 0 `harmful` examples [b].

        Normal with known variances (Efron and Morris 1973): the mean is shrunk towards the prior's, and what is left
        unknown of it widens the residuals. Assumes that the language is one like the sources; promises nothing.
        """
        scores = np.asarray(harmful, np.float64)
        if self.between == 0 or self.within == 0:
            place, unknown = self.mean if self.between == 0 or not len(scores) else float(scores.mean()), 0.0
        else:
            unknown = 1 / (1 / self.between + len(scores) / self.within)
            place = unknown * (self.mean / self.between + float(scores.sum()) / self.within)
        wider = math.sqrt(1 + unknown / self.within) if self.within > 0 else 1.0
        return place + wider * float(np.quantile(self.residuals, alpha))


def prior(reference: Reference) -> Prior | None:
    """The prior of at least two source languages' harmful scores, by moments; None of fewer."""
    groups: Sequence[Wide] = [reference.harmful[reference.languages == i] for i in np.unique(reference.languages)]
    if len(groups) < 2:
        return None
    means = np.array([group.mean() for group in groups])
    residuals = np.concatenate([group - group.mean() for group in groups])
    within = float((residuals**2).sum()) / max(len(residuals) - len(groups), 1)
    noise = within * float(np.mean([1 / len(group) for group in groups]))
    return Prior(float(means.mean()), max(float(means.var(ddof=1)) - noise, 0.0), within, residuals)
