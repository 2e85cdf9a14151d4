"""How strongly to steer: α = λ · gap, in units of how far apart the classes lie along v, or α = λ where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError

if TYPE_CHECKING:
    from polygate.representation.directions import Directions
    from polygate.settings.types import Scope, Unit
    from polygate.steering.choice import Choice


def projection_gap(projections: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """75th percentile of the harmful less 25th percentile of the harmless `projections` [n] on v.

    Percentiles interpolate linearly. `labels` bool [n] says which are harmful. Raises `PolygateError` unless the gap
    is positive: α = λ · gap would steer the wrong way.
    """
    harmful, harmless = projections[labels], projections[~labels]
    gap = float(np.percentile(harmful, 75) - np.percentile(harmless, 25))
    if not gap > 0:
        raise PolygateError(
            f"harmful and harmless source prompts do not lie apart along the direction (gap {gap:.3g})",
            do="choose another layer",
        )
    return gap


def counted(gap: float, unit: Unit) -> float:
    """What one λ is, in the units of the residual stream: `gap`, or 1."""
    return gap if unit == "gap" else 1.0


@dataclass(frozen=True)
class SteeringVector:
    """How one target language is steered at `layer`.

    A flagged prompt: h ← h + α·v at the last prompt token and every generated one. Any other: h ← h − (h·v)v at every
    token, at `layer` alone, at all layers or nowhere (`scope`). `v` float32 [d] of unit length is the pooled
    difference in means of `sources`; `alpha` = `strength` · `gap`, in the units of the residual stream; with
    `unit` raw (`steering.unit`) the gap counts as 1.
    """

    v: NDArray[np.float32]
    layer: int
    strength: float
    gap: float
    scope: Scope
    language: str
    sources: tuple[str, ...]
    unit: Unit = "gap"

    @property
    def alpha(self) -> float:
        """α = λ · gap, or λ."""
        return self.strength * counted(self.gap, self.unit)


def for_target(directions: Directions, choice: Choice, gap: float) -> SteeringVector:
    """How `directions.target` is steered at the chosen layer, given its sources' projection gap there."""
    return SteeringVector(
        v=directions.pooled_dim[choice.layer],
        layer=choice.layer,
        strength=choice.strength_in(directions.target),
        gap=gap,
        scope=choice.scope,
        language=directions.target,
        sources=directions.sources,
        unit=choice.unit,
    )
