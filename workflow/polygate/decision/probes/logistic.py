"""Logistic regression on features of few dimensions, every budget and draw of a target in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polygate import kernels
from polygate.decision.fitting import initial_weights
from polygate.decision.probes.calibrated import Scored
from polygate.decision.probes.features import Group, Wide
from polygate.decision.probes.rows import Language, Setup
from polygate.settings.types import Gate


def logistic(
    target: Language,
    group: Group,
    features: Sequence[Wide],
    gate: Gate,
    seed: int,
    setups: Sequence[Setup] | None = None,
) -> Scored:
    """Fits on the group's rows and each setup's examples, of the target's `setups` or those given.

    `features`: [n, r] of the group's train rows, the target's train rows, its test rows.
    """
    source, own, test = features
    chosen = target.setups if setups is None else list(setups)
    counts = np.array([2 * budget for budget, _ in chosen], np.int64)
    extra = np.zeros((len(counts), counts.max(), source.shape[1]))
    labels = np.zeros(extra.shape[:2], bool)
    for fit, setup in enumerate(chosen):
        if counts[fit]:
            extra[fit, : counts[fit]] = own[target.examples[setup]]
            labels[fit, : counts[fit]] = target.labels(setup[0])
    fits = kernels.fit_logistic(
        np.ascontiguousarray(source),
        group.harmful,
        extra,
        labels,
        extra_rows=counts,
        solver=gate.solver,
        initial=initial_weights(gate.solver, source.shape[1], seed),
        threads=1,
    )
    slopes = fits.weights / fits.scale
    offsets = (fits.bias - (slopes * fits.mean).sum(axis=1))[:, None]
    scores: list[Wide] = [slopes @ part.T + offsets for part in (source, own, test)]
    return Scored(target, group, chosen, *scores)
