"""Sweeps: the same prompts under every point of a grid, as one intervention.

- Layer sweep: directional ablation at all layers of the direction found at layer ℓ, for every ℓ, of v_en (the pivot's
  difference in means) and of v_HRL (pc1_of_diffs). Where refusal falls most is the dip.
- Strength sweep: h ← h + λ·gap·v_HRL at the model's layer, from the prompt's last token on, for every λ.

A row of the intervention is named `{prompt_id}@{point}`; the rows of all points go through one queue of batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.forward.interventions import POINT, Intervention, Part

ARM = "sweep"
"""What the sweeps' files are called beside the arms."""
Kind = Literal["layer", "strength"]
Direction = Literal["v_en", "v_hrl"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Point:
    """A point of a sweep: `layer` is where the direction is from, `strength` λ, 0 in a layer sweep."""

    kind: Kind
    direction: Direction
    layer: int
    strength: float = 0.0

    @property
    def name(self) -> str:
        """E.g. `layer:v_en:5:0.0`."""
        return f"{self.kind}:{self.direction}:{self.layer}:{self.strength!r}"

    @classmethod
    def of(cls, name: str) -> Point:
        """The point called `name`; `PolygateError` when it is none."""
        try:
            kind, direction, layer, strength = name.split(":")
            if kind in get_args(Kind) and direction in DIRECTIONS:
                return cls(kind, direction, int(layer), float(strength))  # type: ignore[arg-type]
        except ValueError:
            pass
        raise PolygateError(f"{name!r} is no point of a sweep")


def layer_points(depth: int) -> list[Point]:
    """Both directions at every layer."""
    return [Point("layer", direction, layer) for direction in DIRECTIONS for layer in range(depth)]


def strength_points(layer: int, strengths: Sequence[float]) -> list[Point]:
    """v_HRL at one layer, at every λ."""
    return [Point("strength", "v_hrl", layer, float(strength)) for strength in strengths]


def intervention(
    prompts: Mapping[Kind, Sequence[str]],
    points: Sequence[Point],
    vectors: Mapping[Direction, NDArray[np.float32]],
    gap: float,
) -> Intervention:
    """All points on their prompts, point by point.

    `prompts`: ids by kind of sweep; `vectors`: unit vectors [L, d] over layers; `gap` (the units of the residual
    stream) belongs to the strength sweep's layer. λ = 0 leaves its prompts alone.
    """
    names = [f"{prompt}{POINT}{point.name}" for point in points for prompt in prompts[point.kind]]
    starts = np.cumsum([0, *(len(prompts[point.kind]) for point in points)])
    parts: list[Part] = []
    for point, start, end in zip(points, starts, starts[1:], strict=False):
        if point.kind == "strength":
            continue
        every = vectors[point.direction]
        coefficients = np.zeros(len(names))
        coefficients[start:end] = 1.0
        vector = np.tile(every[point.layer], (len(every), 1))
        parts.append(Part(tuple(range(len(every))), vector, "ablate", "every", coefficients))
    strengths = [
        (point, start, end)
        for point, start, end in zip(points, starts, starts[1:], strict=False)
        if point.kind == "strength"
    ]
    if strengths:
        coefficients = np.zeros(len(names))
        for point, start, end in strengths:
            coefficients[start:end] = point.strength * gap
        layer = strengths[0][0].layer
        parts.append(Part((layer,), vectors["v_hrl"][layer][None], "add", "answering", coefficients))
    return Intervention(tuple(names), tuple(parts))
