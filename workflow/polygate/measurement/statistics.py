"""Intervals and tests: every number with its uncertainty, every comparison paired and corrected.

Translated prompts are the same items in every language, so resamples are drawn over prompt ids, jointly for all
languages and methods, within each class: `replicate` makes them once, and means over languages, means over draws and
paired differences are then taken resample by resample.

Percentile intervals are too short for few prompts and near 0 and 1. Numbers between two bounds therefore have intervals
that are symmetric on the logit scale, from the bootstrap's standard error ("logit"); at 0 and 1 themselves, where
nothing varies, Wilson's ("wilson"). Differences with such a part combine the parts' own intervals (MOVER, Zou and
Donner 2008). `workflow/README.md` has the coverages that this rule was chosen by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from polygate import kernels
from polygate.settings.types import Statistics

Statistic = Literal["auc", "average_precision", "f1", "balanced_accuracy", "rate", "selectivity"]
TOO_FEW = "too few prompts"
SURFACE, ENCODER = "the surface", "a small encoder"
"""What a direction is compared with: the controls."""


def verdicts_on(control: str) -> tuple[str, str, str, str]:
    """What a comparison with a control can find."""
    return f"beyond {control}", f"not beyond {control}", "can't tell", TOO_FEW


VERDICTS = verdicts_on(SURFACE)
FEWEST = 6
"""With fewer distinct prompts of a class than this there is no p and no verdict: resamples of so few say too little of
what other prompts would do. Found by simulation (`workflow/README.md`)."""
MARGIN = 0.05
"""An AUC advantage over the surface below this counts as none: where more is excluded, "not beyond the surface"."""
CONSTANT = "constant"
"""Method of an interval without length away from 0 and 1: scores that are the same for every prompt."""
SAME = 1e-12


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples, level, seed, kind of bootstrap interval, threads (0: all)."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    interval: Literal["percentile", "bca"] = "percentile"
    threads: int = 0

    @classmethod
    def of(cls, settings: Statistics, seed: int) -> Resampling:
        """From a run's settings."""
        return cls(resamples=settings.resamples, confidence=settings.confidence, seed=seed)


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `method` names how the interval was made."""

    estimate: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Part:
    """The prompts of one language: `ids` [n], `harmful` bool [n]."""

    language: str
    ids: Sequence[str]
    harmful: NDArray[np.bool_]


@dataclass(frozen=True)
class Panel:
    """Prompts of g languages below one another, n rows in all.

    `harmful` bool [n]; `languages` int64 [n], index into `names`; `clusters` int64 [n], the same for the same prompt
    id in every language.
    """

    harmful: NDArray[np.bool_]
    languages: NDArray[np.int64]
    clusters: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def stack(cls, parts: Sequence[Part]) -> Panel:
        """From the prompts of each language, in order; ids that are equal are one cluster."""
        number = {name: i for i, name in enumerate(sorted({name for part in parts for name in part.ids}))}
        return cls(
            np.concatenate([np.asarray(part.harmful, bool) for part in parts]),
            np.repeat(np.arange(len(parts), dtype=np.int64), [len(part.ids) for part in parts]),
            np.array([number[name] for part in parts for name in part.ids], np.int64),
            tuple(part.language for part in parts),
        )

    def __len__(self) -> int:
        return len(self.harmful)

    def only(self, keep: NDArray[np.bool_]) -> Panel:
        """The rows of a mask; every language must keep some."""
        return replace(self, harmful=self.harmful[keep], languages=self.languages[keep], clusters=self.clusters[keep])

    def items(self, language: int | None = None) -> tuple[int, int]:
        """Number of distinct (harmful, harmless) items, of one language or of all together."""
        here = np.ones(len(self), bool) if language is None else self.languages == language
        harmful, harmless = (len(np.unique(self.clusters[here & (self.harmful == label)])) for label in (True, False))
        return harmful, harmless

    def counts(self) -> NDArray[np.int64]:
        """Rows per language, int64 [g]."""
        return np.bincount(self.languages, minlength=len(self.names)).astype(np.int64)


@dataclass(frozen=True)
class Replicates:
    """A statistic of m methods in g languages and its bootstrap: `estimate` [m, g], `values` [resamples, m, g].

    `confidence` is the level of its intervals, `statistic` what they are values of, `panel` the prompts. `made`: ends
    [m, g] of the kernels' own intervals and their kind; means and differences have percentile intervals. NaN marks
    resamples in which a weighted class vanished; they are left out of intervals and tests.
    """

    estimate: NDArray[np.float64]
    values: NDArray[np.float64]
    confidence: float
    made: tuple[NDArray[np.float64], NDArray[np.float64], str] | None = None
    statistic: Statistic | None = None
    panel: Panel | None = None

    def over_languages(self) -> Replicates:
        """The macro mean over languages, [m, 1]: the mean is taken within each resample."""
        return self._of(self.estimate.mean(axis=1, keepdims=True), self.values.mean(axis=2, keepdims=True))

    def among(self, languages: Sequence[int]) -> Replicates:
        """Some of the languages."""
        chosen = list(languages)
        return self._of(self.estimate[:, chosen], self.values[:, :, chosen])

    def over_methods(self, groups: Sequence[Sequence[int]]) -> Replicates:
        """Means over groups of methods (the draws of a budget), [len(groups), g]."""
        return self._of(
            np.stack([self.estimate[list(group)].mean(axis=0) for group in groups]),
            np.stack([self.values[:, list(group)].mean(axis=1) for group in groups], axis=1),
        )

    def minus(self, reference: Replicates) -> Replicates:
        """Paired differences to replicates of the same resamples; `reference` may hold one method for all."""
        return self._of(self.estimate - reference.estimate, self.values - reference.values)

    def pick(self, methods: Sequence[int]) -> Replicates:
        """Some of the methods."""
        chosen = list(methods)
        return self._of(self.estimate[chosen], self.values[:, chosen])

    def bootstrap(self, method: int, language: int) -> Interval:
        """The bootstrap interval of one cell."""
        low, high, kind = self._ends
        at = method, language
        return Interval(float(self.estimate[at]), float(low[at]), float(high[at]), kind)

    def _of(self, estimate: NDArray[np.float64], values: NDArray[np.float64]) -> Replicates:
        return Replicates(estimate, values, self.confidence, statistic=self.statistic, panel=self.panel)

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
        if self.made is not None:
            return self.made
        tail = (1 - self.confidence) / 2
        quantile = np.nanquantile if np.isnan(self.values).any() else np.quantile
        low, high = quantile(self.values, [tail, 1 - tail], axis=0)
        return low, high, "percentile"


def _drawn(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replicates that exist; one NaN at least where none does, so that the result is NaN rather than an error."""
    kept: NDArray[np.float64] = values[~np.isnan(values)]
    return kept if len(kept) else values[:1]


def replicate(
    statistic: Statistic,
    values: NDArray[Any],
    panel: Panel,
    resampling: Resampling,
    weights: NDArray[np.float64] | None = None,
) -> Replicates:
    """Bootstrap of a statistic per method and language.

    `values` [m, n]: scores for auc and average_precision, decisions for f1 and balanced_accuracy, anything for rate
    and selectivity. Prompt ids are resampled within each class (all together for "rate", which has no classes), the
    same for every language and method. ValueError when a language lacks a class that the statistic needs.
    """
    found = kernels.bootstrap(
        statistic,
        np.ascontiguousarray(values, np.float64),
        None if statistic == "rate" else panel.harmful,
        groups=panel.languages,
        clusters=panel.clusters,
        weights=weights,
        average="none",
        resamples=resampling.resamples,
        confidence=resampling.confidence,
        interval=resampling.interval,
        seed=resampling.seed,
        threads=resampling.threads,
    )
    made = found.low, found.high, resampling.interval
    return Replicates(found.estimate, found.replicates, resampling.confidence, made, statistic, panel)


def at_edge(estimate: float) -> bool:
    """Whether a share or an AUC is at 0 or 1."""
    return min(abs(estimate), abs(1 - estimate)) < SAME


def share_interval(replicates: Replicates, method: int, language: int, items: float) -> Interval:
    """Interval of a number between 0 and 1: Wilson's for `items` items at 0 or 1, else `logit_interval`.

    A rate that no resample changes (languages that refuse all and languages that refuse nothing) has Wilson's too.

    For rates `items` is the number of distinct prompts, since translations of one prompt are one item. For AUC, F1 and
    average precision it is that of the smaller class: the variance of an AUC is at most A(1-A) / min(n₁, n₀) (Birnbaum
    and Klose 1957), as if it were a share of that many items.
    """
    estimate = float(replicates.estimate[method, language])
    if at_edge(estimate):
        low, high = kernels.wilson(round(estimate) * items, items, replicates.confidence)
    elif replicates.statistic == "rate" and _still(replicates, method, language):
        low, high = kernels.wilson(estimate * items, items, replicates.confidence)
    else:
        return logit_interval(replicates, method, language, items)
    return Interval(estimate, float(low), float(high), "wilson")


def _still(replicates: Replicates, method: int, language: int) -> bool:
    return float(np.std(_drawn(replicates.values[:, method, language]), ddof=1)) < SAME


def logit_interval(
    replicates: Replicates, method: int, language: int, items: float, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Interval of a number strictly between `bounds`: symmetric on the logit scale, so that it stays between them.

    The standard error is the bootstrap's, times √(n / (n - 1)) for n = `items` (the bootstrap's variance is that of the
    sample divided by n, too small by this factor), carried to the logit scale by the delta method (Pepe 2003, section
    5.2, for the AUC; Efron and Tibshirani 1993, section 12.6, for transformed intervals). Average precision takes
    Student's quantile with n - 1 degrees of freedom instead of the normal one: its small samples are biased.
    """
    estimate = float(replicates.estimate[method, language])
    spread = float(np.std(_drawn(replicates.values[:, method, language]), ddof=1))
    if spread < SAME and items < FEWEST:
        return few(estimate, items, replicates.confidence, bounds)
    if spread < SAME:
        return Interval(estimate, estimate, estimate, CONSTANT)
    n = max(items, 2.0)
    level = (1 + replicates.confidence) / 2
    student = replicates.statistic == "average_precision"
    quantile = float(stdtrit(n - 1, level) if student else ndtri(level))
    low, high = logit_ends(estimate, quantile * spread * np.sqrt(n / (n - 1)), bounds)
    return Interval(estimate, low, high, "logit")


def student_interval(replicates: Replicates, method: int, language: int, items: float) -> Interval:
    """Interval of a mean without bounds over `items` distinct prompts: Student's t with items − 1 degrees of freedom.

    The standard error is the bootstrap's times √(n / (n − 1)), so it sees that translations of a prompt go together.
    """
    estimate = float(replicates.estimate[method, language])
    spread = float(np.std(_drawn(replicates.values[:, method, language]), ddof=1))
    if spread < SAME:
        return Interval(estimate, estimate, estimate, CONSTANT)
    n = max(items, 2.0)
    reach = float(stdtrit(n - 1, (1 + replicates.confidence) / 2)) * spread * float(np.sqrt(n / (n - 1)))
    return Interval(estimate, estimate - reach, estimate + reach, "student")


def few(estimate: float, items: float, confidence: float, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Wilson's interval of a number between `bounds`, as if a share of `items`: few of them may not vary by chance."""
    least, most = bounds
    share = min(max((estimate - least) / (most - least), 0.0), 1.0)
    low, high = (least + (most - least) * end for end in kernels.wilson(share * items, items, confidence))
    return Interval(estimate, low, high, "wilson")


def logit_ends(estimate: float, reach: float, bounds: tuple[float, float] = (0.0, 1.0)) -> tuple[float, float]:
    """Ends of an interval of half-width `reach` around `estimate`, made symmetric on the logit scale of `bounds`."""
    least, most = bounds
    place = (estimate - least) / (most - least)
    moved = reach / (most - least) / (place * (1 - place))
    odds = place / (1 - place)
    low, high = (least + (most - least) / (1 + np.exp(-sign * moved) / odds) for sign in (-1, 1))
    return float(low), float(high)


def combined(first: Interval, second: Interval) -> Interval:
    """The difference first − second of two independent estimates, from their intervals (MOVER).

    Reduces to Newcombe's hybrid score interval when both are Wilson's. For paired estimates that agree it is too wide,
    never too narrow.
    """
    difference = first.estimate - second.estimate
    below = np.hypot(first.estimate - first.low, second.high - second.estimate)
    above = np.hypot(first.high - first.estimate, second.estimate - second.low)
    return Interval(difference, float(difference - below), float(difference + above), "mover")


@dataclass(frozen=True)
class Selectivities:
    """Selectivity of m methods per language (`per_language` [m][g]) and averaged over languages (`mean` [m])."""

    per_language: list[list[Interval]]
    mean: list[Interval]
    replicates: Replicates


def selectivities(decisions: NDArray[Any], panel: Panel, resampling: Resampling) -> Selectivities:
    """Selectivity with intervals. `decisions` [m, n]: 0 or 1, or their mean over draws.

    Where one class is all or none, its resamples don't vary: the two classes' own intervals are combined instead.
    """
    decisions = np.asarray(decisions, np.float64)
    found = replicate("selectivity", decisions, panel, resampling)
    edges = _edges(decisions, panel)
    rates = [_class_rates(decisions[edges], panel, label, resampling) for label in (True, False)] if len(edges) else []
    return Selectivities(
        _selectivity_table(found, edges, rates, panel, averaged=False),
        [row[0] for row in _selectivity_table(found.over_languages(), edges, rates, panel, averaged=True)],
        found,
    )


def _edges(decisions: NDArray[np.float64], panel: Panel) -> NDArray[np.int64]:
    """Methods that in some language decide alike on all prompts of a class."""
    edges: set[int] = set()
    for language in range(len(panel.names)):
        for label in (True, False):
            means = decisions[:, (panel.languages == language) & (panel.harmful == label)].mean(axis=1)
            edges.update(np.flatnonzero([at_edge(float(mean)) for mean in means]).tolist())
    return np.array(sorted(edges), np.int64)


def _class_rates(decisions: NDArray[np.float64], panel: Panel, label: bool, resampling: Resampling) -> Replicates:
    of_class = panel.harmful == label
    return replicate("rate", decisions[:, of_class], panel.only(of_class), resampling)


def _selectivity_table(
    found: Replicates, edges: NDArray[np.int64], rates: Sequence[Replicates], panel: Panel, *, averaged: bool
) -> list[list[Interval]]:
    """Intervals per method and language; `rates` are those of the classes for the methods `edges` alone."""
    methods, languages = found.estimate.shape
    items = [panel.items(None if averaged else column) for column in range(languages)]
    table = [
        [
            found.bootstrap(method, column)
            if at_edge((1 + float(found.estimate[method, column])) / 2)
            else logit_interval(found, method, column, min(items[column]), (-1.0, 1.0))
            for column in range(languages)
        ]
        for method in range(methods)
    ]
    rates = [classed.over_languages() if averaged else classed for classed in rates]
    for row, method in enumerate(edges.tolist()):
        for column in range(languages):
            if any(at_edge(float(classed.estimate[row, column])) for classed in rates):
                parts = [share_interval(rates[i], row, column, items[column][i]) for i in (0, 1)]
                table[method][column] = combined(*parts)
    return table


def balanced_accuracy_of(selectivity: Interval) -> Interval:
    """Balanced accuracy (1 + Δ) / 2 of flags whose selectivity is Δ."""
    low, high = (min(max((1 + bound) / 2, 0.0), 1.0) for bound in (selectivity.low, selectivity.high))
    return Interval((1 + selectivity.estimate) / 2, low, high, selectivity.method)


def difference_interval(
    differences: Replicates, method: int, language: int, parts: tuple[Interval, Interval]
) -> Interval:
    """Interval of a paired difference; where its resamples don't vary, the two `parts`' intervals combined."""
    if np.ptp(_drawn(differences.values[:, method, language])) > SAME:
        return differences.bootstrap(method, language)
    return combined(*parts)


def p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided bootstrap p-value of "no difference" from replicates [resamples] of a difference.

    Twice the smaller share of replicates on either side of zero, by (count + 1) / (resamples + 1), so never 0.
    """
    differences = _drawn(differences)
    total = len(differences) + 1
    below = (1 + int((differences <= SAME).sum())) / total
    above = (1 + int((differences >= -SAME).sum())) / total
    return min(1.0, 2 * min(below, above))


def paired_p(differences: Replicates, method: int, language: int, items: float) -> float:
    """Two-sided p-value of "no difference" for a paired difference on `items` prompts of the smaller class.

    The larger of the bootstrap's (`p_value`) and that of Student's t with n − 1 degrees of freedom, n being `items`, on
    the bootstrap's standard error times √(n / (n − 1)): the bootstrap alone rejects too often with few prompts. NaN
    below `FEWEST`.
    """
    if items < FEWEST:
        return float("nan")
    values = differences.values[:, method, language]
    spread = float(np.std(_drawn(values), ddof=1)) * np.sqrt(items / (items - 1))
    p = p_value(values)
    # Without spread, as between perfect and constant scores, the bootstrap's is all there is.
    if not spread > SAME:
        return p
    return max(p, float(2 * stdtr(items - 1, -abs(float(differences.estimate[method, language])) / spread)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of a family of p-values, in their order (Holm 1979); NaN is no test and stays."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Comparison:
    """One method against others: the difference of their AUCs to the strongest, the `baseline`; `p` is NaN where
    there are too few prompts."""

    baseline: str
    difference: Interval
    p: float
    p_holm: float = 1.0
    verdict: str = "can't tell"


def against_surface(direction: Replicates, baselines: dict[str, Replicates], language: int) -> Comparison:
    """Paired comparison of a direction's AUC (one method) in one language of a panel with those of baselines."""
    if direction.panel is None:
        raise ValueError("replicates of no panel: their prompts can't be counted")
    return against_every(direction, baselines, language, min(direction.panel.items(language)))


def against_every(method: Replicates, others: Mapping[str, Replicates], column: int, items: int) -> Comparison:
    """Paired comparison of a method with others of the same resamples, one method each, in one column of all.

    To be ahead it must beat *every* other, so p is the largest of theirs (an intersection-union test needs no further
    correction for it); the difference that is reported is the one to the strongest. `items` is the number of distinct
    prompts of the smaller class.
    """
    differences = {name: method.minus(other) for name, other in others.items()}
    strongest = min(differences, key=lambda name: float(differences[name].estimate[0, column]))
    # An advantage counts: where the method does worse than another, no small p makes it better.
    p_values = [
        paired_p(found, 0, column, items) if items < FEWEST or found.estimate[0, column] > 0 else 1.0
        for found in differences.values()
    ]
    first, second = (share_interval(part, 0, column, items) for part in (method, others[strongest]))
    difference = difference_interval(differences[strongest], 0, column, (first, second))
    return Comparison(strongest, difference, max(p_values))


def with_verdicts(comparisons: Sequence[Comparison], confidence: float, control: str = SURFACE) -> list[Comparison]:
    """Holm's correction over the family and the verdict of each, in `verdicts_on(control)`.

    "beyond the surface": the direction is better, p (Holm) < 1 − confidence. "not beyond the surface": an advantage of
    more than `MARGIN` is excluded by the interval. "can't tell": neither. "too few prompts": fewer than `FEWEST` of a
    class, which take no part in the correction either.
    """
    adjusted = holm([comparison.p for comparison in comparisons])
    return [
        replace(comparison, p_holm=p, verdict=_verdict(comparison.difference, p, confidence, control))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def _verdict(difference: Interval, p: float, confidence: float, control: str) -> str:
    beyond, not_beyond, open_, too_few = verdicts_on(control)
    if np.isnan(p):
        return too_few
    if p < 1 - confidence and difference.estimate > 0:
        return beyond
    return not_beyond if difference.high < MARGIN else open_


def resolving(resampling: Resampling, family: int) -> Resampling:
    """At least as many resamples as a family of tests needs for its smallest adjusted p to fall below the level.

    The smallest two-sided p is 2 / (resamples + 1), and Holm multiplies it by the size of the family.
    """
    needed = int(np.ceil(4 * family / (1 - resampling.confidence)))
    return replace(resampling, resamples=max(resampling.resamples, needed))
