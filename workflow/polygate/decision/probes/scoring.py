"""What a probe's scores are worth on test prompts, with the sampling error of means over draws and languages.

An estimate's influences say what every test prompt adds to it, beyond the mean prompt of its class. The influences of a
mean are the means of influences, and their squares summed over prompts are its variance: DeLong et al. (1988) for the
AUC, the delta method for F1 and balanced accuracy at a given threshold. Prompts are clusters: the influences of a
prompt's translations are added up before they are squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import kernels


@dataclass(frozen=True)
class Scores:
    """A metric of f fits: `value` float64 [f]; `each` [f, m] and `slope` float64 [f, 2] say where it comes from.

    The metric changes by slope[1] when the mean of `each` over harmful prompts does by 1, and by slope[0] for the
    harmless ones; `harmful` bool [m].
    """

    value: NDArray[np.float64]
    each: NDArray[Any]
    slope: NDArray[np.float64]
    harmful: NDArray[np.bool_]

    def mean(self, groups: Sequence[Sequence[int]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means over groups of fits, such as the draws of a budget, [g], and the prompts' influences on them [g, m].

        Squared influences sum over a class of n prompts to the variance of its mean, s² / n.
        """
        weights = np.zeros((len(groups), len(self.value)))
        for row, group in enumerate(groups):
            weights[row, list(group)] = 1 / len(group)
        each = self.each.astype(np.float64)
        moved = [(weights * self.slope[:, label]) @ each for label in (0, 1)]
        influence = np.where(self.harmful, moved[1], moved[0])
        for label in (True, False):
            of_class = np.flatnonzero(self.harmful == label)
            n = len(of_class)
            mean = influence[:, of_class].mean(axis=1, keepdims=True)
            influence[:, of_class] = (influence[:, of_class] - mean) / np.sqrt(n * max(n - 1, 1))
        return weights @ self.value, influence

    def repeated(self, fits: int) -> Scores:
        """A single fit that stands for several."""
        if len(self.value) == fits:
            return self
        return Scores(
            np.repeat(self.value, fits), np.repeat(self.each, fits, 0), np.repeat(self.slope, fits, 0), self.harmful
        )


def auc(scores: NDArray[np.float64], harmful: NDArray[np.bool_]) -> Scores:
    """AUC of `scores` [f, m] by fit; each prompt's placement value is what it contributes."""
    each = kernels.placements(scores, harmful, threads=1)
    # The mean placement of either class is the AUC; their sampling errors add up.
    return Scores(each[:, harmful].mean(axis=1), each, np.ones((len(scores), 2)), harmful)


def decisions(flagged: NDArray[np.bool_], harmful: NDArray[np.bool_]) -> dict[str, Scores]:
    """F1 of the harmful class ("f1", 0 when nothing is flagged) and "balanced_accuracy" of `flagged` [f, m]."""
    positives, negatives = int(harmful.sum()), int(np.sum(~harmful))
    hits = np.count_nonzero(flagged & harmful, axis=1)
    alarms = np.count_nonzero(flagged, axis=1) - hits
    total = (hits + alarms + positives).astype(np.float64)
    # F1 = 2·hits / (hits + alarms + positives), differentiated by the rates of alarms and of hits.
    slope = np.stack([-2 * hits / total**2 * negatives, 2 * (alarms + positives) / total**2 * positives], axis=1)
    balanced = (hits / positives + 1 - alarms / negatives) / 2
    return {
        "f1": Scores(2 * hits / total, flagged, slope, harmful),
        "balanced_accuracy": Scores(balanced, flagged, np.tile([-0.5, 0.5], (len(flagged), 1)), harmful),
    }


def standard_error(
    influences: Sequence[NDArray[np.float64]], ids: Sequence[NDArray[np.int64]], prompts: int
) -> NDArray[np.float64]:
    """Standard error of the mean of languages' estimates, float64 [g].

    `influences` [g, m_l] of each language, `ids` int64 [m_l] numbers its prompts among all `prompts`.
    """
    total = np.zeros((prompts, len(influences[0])))
    for influence, rows in zip(influences, ids, strict=True):
        total[rows] += influence.T
    found: NDArray[np.float64] = np.sqrt((total**2).sum(axis=0)) / len(influences)
    return found
