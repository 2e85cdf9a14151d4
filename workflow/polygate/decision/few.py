"""A gate for a language from prompts of one's own: few of them, of both classes, of one, or without labels.

The gate of the source languages is there already; what a user's prompts decide is the threshold (and, by the paper's
rule, a little of the fit). They are taken to be like the prompts to come, and no translations of prompts that the
sources were fitted on: those would make promises look better than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polygate.decision import calibration, conformal
from polygate.decision.calibration import Threshold
from polygate.decision.conformal import Reference
from polygate.decision.fitting import Examples, Fit, SourceRows, fit_examples, fit_source, settled
from polygate.decision.guarantees import RULES
from polygate.errors import PolygateError
from polygate.settings.types import Gate

CALIBRATORS = tuple(name for name in RULES if name != "parallel")
"""Rules that a user's own prompts can be calibrated by; `parallel` wants labels carried over."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    "both classes": ("harmful", "harmless"),
    "harmful": ("harmful",),
    "harmless": ("harmless",),
    "no labels": (),
}


@dataclass(frozen=True)
class Own:
    """A user's prompts: `features` float64 [n, R] on the sources' subspace, `labels` bool [n], or None without."""

    features: NDArray[np.float64]
    labels: NDArray[np.bool_] | None

    def count(self, subset: str) -> int:
        """Prompts of a class; 0 where nothing is labelled."""
        return 0 if self.labels is None else int((self.labels == (subset == "harmful")).sum())


@dataclass(frozen=True)
class Calibrated:
    """A gate's fit with its threshold, and what may be said of it."""

    fit: Fit
    said: str


def calibrate(
    source: SourceRows,
    own: Own,
    rule: str,
    settings: Gate,
    *,
    rank: int,
    alpha: float,
    delta: float,
    seed: int,
    reference: Callable[[], Reference],
) -> Calibrated:
    """The gate of `source` calibrated on `own` by a rule of `CALIBRATORS`.

    `reference` makes the sources' scores, where a rule needs them. Raises `PolygateError` for prompts without the
    classes that the rule needs, and where α can't be promised with so few.
    """
    for subset in NEEDS[RULES[rule].sees]:
        if not own.count(subset) and rule != "prior":
            raise PolygateError(
                f"rule {rule} needs {subset} prompts",
                do=f"label them (subset: {subset}), or take a rule that goes without",
            )
    if not len(own.features):
        raise PolygateError("no prompts to calibrate on")
    if rule == "paper":
        assert own.labels is not None
        examples = [Examples(own.features[:, :rank], own.labels)]
        (fit,) = fit_examples(source, examples, rank, solver=settings.solver, objective=settings.objective, seed=seed)
        # A user's prompts are examples all: there are no val prompts.
        said = f"the threshold is the best on these prompts by {settings.objective}; promises nothing"
        return Calibrated(settled(fit, None, settings), said)
    fit = fit_source(source, rank, solver=settings.solver, objective=settings.objective, seed=seed)
    scores = fit.score(own.features)
    found, said = _threshold(scores, own, rule, settings, alpha, delta, reference)
    return Calibrated(replace(fit, threshold=found), said)


def _threshold(
    scores: NDArray[np.float64],
    own: Own,
    rule: str,
    settings: Gate,
    alpha: float,
    delta: float,
    reference: Callable[[], Reference],
) -> tuple[Threshold, str]:
    if rule == "macro_f1":
        assert own.labels is not None
        found = calibration.example_threshold(scores, own.labels, settings.objective)
        return found, f"the threshold is the best on these prompts by {settings.objective}; promises nothing"
    bounds = RULES[rule].bounds
    if bounds and rule != "prior":
        return _promised(scores, own, rule, alpha, delta)
    known = reference()
    assumed = f"no promise: it assumes {RULES[rule].assumes}"
    if rule == "prior":
        prior = conformal.prior(known)
        if prior is None:
            raise PolygateError("rule prior needs two source languages or more")
        harmful = scores[own.labels] if own.labels is not None else np.empty(0)
        at = prior.threshold(harmful, alpha)
    elif rule == "mixture":
        at = conformal.mixture(scores, known).threshold(alpha)
    else:
        share = conformal.mixture(scores, known).share if rule == "quantile_matching_shift" else known.share
        at = conformal.quantile_matching(scores, known, alpha, share)
    return Threshold(at, float("nan"), True, "examples"), f"aims at missing {alpha:g} of harmful prompts; {assumed}"


def _promised(scores: NDArray[np.float64], own: Own, rule: str, alpha: float, delta: float) -> tuple[Threshold, str]:
    """The threshold of a rule that bounds a rate, and its promise; `PolygateError` where it can promise nothing."""
    assert own.labels is not None
    rate: conformal.Rate = "miss" if rule.endswith("_miss") else "false_flags"
    subset = "harmful" if rate == "miss" else "harmless"
    of_class = scores[own.labels == (rate == "miss")]
    count, surely = len(of_class), rule.startswith("pac_")
    rank = conformal.pac_rank(count, alpha, delta) if surely else conformal.conformal_rank(count, alpha)
    at = conformal.threshold_at(rate, of_class, rank)
    if at is None:
        floor = conformal.pac_floor(count, delta) if surely else conformal.conformal_floor(count)
        need = conformal.pac_examples(alpha, delta) if surely else conformal.conformal_examples(alpha)
        raise PolygateError(
            f"{alpha:g} can't be promised with {count} {subset} example{'s' if count != 1 else ''}: no less than "
            f"{floor:.3g}",
            do=f"give {need} {subset} examples, or a larger --alpha",
        )
    what = "harmful prompts missed" if rate == "miss" else "harmless prompts flagged"
    if surely:
        bound = f"with probability {1 - delta:g} over such examples at most {alpha:g} of"
    else:
        bound = f"on average over such examples at most {rank / (count + 1):.3g} of"
    other = "false flags" if rate == "miss" else "misses"
    said = f"{bound} {what}, if the prompts to come are like the examples; nothing is said of {other}"
    return Threshold(at, float("nan"), True, "examples"), said
