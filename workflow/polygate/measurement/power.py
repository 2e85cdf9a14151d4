"""How small a difference n prompts, m languages and k draws can show: from a finished run's own variances.

Two results of a run on the same prompts are a pilot of any comparison of two results that are as much alike. New
experiments are drawn from it: n prompts a class, the same in every language, since translations of a prompt are one
item; k draws of examples, of every language by itself. The spread of a language's difference over these experiments and
how far languages go together give the standard error of a mean over any number of languages,

    SE² = v / m + c · (m − 1) / m,    v the mean variance of a language, c the mean covariance of two,

and a two-sided test at level α (Student's t on n prompts, as the tables' own, see `statistics.paired_p`) finds a
difference of (t(1 − α/2; n − 1) + z(power)) · SE · √(n / (n − 1)) with probability `power`. Which languages there are
is given, not drawn: a statement is about those, as the tables' are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from polygate.errors import PolygateError
from polygate.measurement.statistics import FEWEST

Quantity = Literal["refused", "selectivity", "f1", "auc"]
SIMULATIONS = 1000


@dataclass(frozen=True)
class Pilot:
    """Two results of one model on the same prompts of g languages: `first` and `second`, per language [draws, n].

    For refused and selectivity 1 where a prompt is refused, for f1 where it is flagged, for auc its score. `harmful`
    bool [n]. Raises `PolygateError` where a class that the quantity needs has fewer than `FEWEST` prompts.
    """

    quantity: Quantity
    harmful: NDArray[np.bool_]
    first: Mapping[str, NDArray[np.float64]]
    second: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        classes = [int(self.harmful.sum())] + ([int((~self.harmful).sum())] if self.quantity != "refused" else [])
        if min(classes) < FEWEST:
            raise PolygateError(f"{min(classes)} prompts of a class are too few to learn variances from")

    def differences(self, prompts: int, draws: int, simulations: int, seed: int) -> NDArray[np.float64]:
        """Differences, second less first, of simulated experiments, [g, simulations]."""
        random = np.random.default_rng([seed, prompts, draws])
        weights = np.zeros((simulations, len(self.harmful)))
        for label in (True, False):
            rows = np.flatnonzero(self.harmful == label)
            if len(rows):
                weights[:, rows] = random.multinomial(prompts, np.full(len(rows), 1 / len(rows)), simulations)
        found = []
        for name in self.first:
            values = []
            for of in (self.first[name], self.second[name]):
                per_draw = np.stack([self._statistic(one, weights, prompts) for one in of])
                chosen = random.integers(len(per_draw), size=(draws, simulations))
                values.append(np.take_along_axis(per_draw, chosen, axis=0).mean(axis=0))
            found.append(values[1] - values[0])
        return np.stack(found)

    def _statistic(
        self, values: NDArray[np.float64], weights: NDArray[np.float64], prompts: int
    ) -> NDArray[np.float64]:
        """The quantity of one draw's `values` [n] in every simulated experiment: prompts count `weights` times."""
        harmful, harmless = weights[:, self.harmful], weights[:, ~self.harmful]
        above, below = values[self.harmful], values[~self.harmful]
        if self.quantity == "auc":
            order = (above[:, None] > below).astype(np.float64) + 0.5 * (above[:, None] == below)
            return np.asarray(((harmful @ order) * harmless).sum(axis=1) / prompts**2)
        hits = harmful @ above
        if self.quantity == "refused":
            return np.asarray(hits / prompts)
        alarms = harmless @ below
        if self.quantity == "selectivity":
            return np.asarray((hits - alarms) / prompts)
        return np.asarray(2 * hits / (hits + alarms + prompts))


@dataclass(frozen=True)
class Spread:
    """Mean variance of a language's difference, and mean covariance of two languages' (0 where there is one)."""

    variance: float
    covariance: float

    @classmethod
    def of(cls, differences: NDArray[np.float64]) -> Spread:
        """From differences [g, simulations]."""
        matrix = np.atleast_2d(np.cov(differences))
        count = len(matrix)
        between = (matrix.sum() - np.trace(matrix)) / (count * (count - 1)) if count > 1 else 0.0
        return cls(float(np.trace(matrix) / count), float(between))

    @classmethod
    def mean(cls, spreads: Sequence[Spread]) -> Spread:
        """Of several models."""
        return cls(float(np.mean([s.variance for s in spreads])), float(np.mean([s.covariance for s in spreads])))

    def error(self, languages: int) -> float:
        """Standard error of a mean over `languages`."""
        return float(np.sqrt(max(self.variance / languages + self.covariance * (languages - 1) / languages, 0.0)))


def detectable(error: float, prompts: int, *, level: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest difference that a two-sided test at `level` finds with probability `power`.

    None where nothing varied in the pilot, which says nothing of how others would.
    """
    if not error > 0:
        return None
    reach = float(stdtrit(prompts - 1, 1 - level / 2)) + float(ndtri(power))
    return reach * error * float(np.sqrt(prompts / (prompts - 1)))


def prompts_for(
    difference: float, errors: Mapping[int, float], *, level: float = 0.05, power: float = 0.8
) -> int | None:
    """The fewest of the simulated numbers of prompts (number → standard error) that show `difference`; None if none."""
    seen = {n: detectable(error, n, level=level, power=power) for n, error in errors.items()}
    return min((n for n, least in seen.items() if least is not None and least <= difference), default=None)
