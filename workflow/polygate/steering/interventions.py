"""The two arms that gates route to, as parts of an intervention: towards refusal along v, or away from it.

- addition: h ← h + α·v at one block, on the prompt's last token and on every generated token;
- directional ablation: h ← h - (h·v)v on every token, at that block, at every block or nowhere (`Scope`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate.forward.interventions import Part

if TYPE_CHECKING:
    from polygate.settings.types import Scope


def addition(v: NDArray[np.float32], layer: int, alphas: NDArray[Any]) -> Part:
    """Add α·v after block `layer`: `v` [d] of unit length, `alphas` [n] in the units of the residual stream."""
    return Part((layer,), v[None], "add", "answering", alphas)


def ablation(
    v: NDArray[np.float32], layer: int, scope: Scope, depth: int, coefficients: NDArray[Any]
) -> tuple[Part, ...]:
    """Remove what lies along `v` [d] at block `layer`, or at all of the model's `depth`; no part at scope "none".

    `coefficients` [n] are 1 for the prompts that it is removed from, 0 for those left alone.
    """
    layers = {"layer": (layer,), "all": tuple(range(depth)), "none": ()}[scope]
    if not layers:
        return ()
    return (Part(layers, np.tile(v, (len(layers), 1)), "ablate", "every", coefficients),)
