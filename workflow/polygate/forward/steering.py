"""Steering as the field describes it, prompt by prompt. Needs numpy only.

- addition: h ← h + α·v at one block, on the prompt's last token and on every generated token;
- directional ablation: h ← h - (h·v)v on every token, at that block, at every block or nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from polygate import files

Action = Literal["none", "add", "ablate"]
ACTIONS: tuple[Action, ...] = ("none", "add", "ablate")
Scope = Literal["layer", "all", "none"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, eq=False)
class Steering:
    """A direction and how it is used.

    `vector`, [d], is made a unit vector here, in float64, so `alpha` is in units of the residual stream;
    `layer` is a 0-based decoder block; `scope` says where ablation acts: at that "layer", at "all" blocks, or at
    "none", which leaves the prompt alone.
    ValueError for a zero or non-finite vector, a non-finite strength, or another scope.
    """

    vector: NDArray[Any]
    layer: int
    alpha: float
    scope: Scope

    def __post_init__(self) -> None:
        wide = np.asarray(self.vector, dtype=np.float64).reshape(-1)
        norm = float(np.linalg.norm(wide))
        if not np.isfinite(norm) or norm == 0.0 or not np.isfinite(self.alpha) or self.scope not in SCOPES:
            raise ValueError(f"steering with a vector of norm {norm}, α {self.alpha}, scope {self.scope!r}")
        object.__setattr__(self, "vector", wide / norm)

    def blocks(self, action: Action, count: int) -> tuple[int, ...]:
        """The decoder blocks at which `action` acts, in a model with `count`."""
        return tuple(range(count)) if action == "ablate" and self.scope == "all" else (self.layer,)


@dataclass(frozen=True)
class RowSteering:
    """What happens to one prompt; `steering` is None when the action is none."""

    action: Action
    steering: Steering | None


def per_row(
    steering: Steering | Sequence[Steering | None] | None, actions: Sequence[Action] | None, rows: int
) -> list[RowSteering]:
    """One `RowSteering` per prompt; ablation of scope "none" is no action.

    ValueError for lengths that differ, an unknown action, an action without steering, or steering without actions.
    """
    if actions is None:
        if steering is not None:
            raise ValueError("steering needs an action per prompt: none, add or ablate")
        actions = ["none"] * rows
    given = [steering] * rows if steering is None or isinstance(steering, Steering) else list(steering)
    if len(actions) != rows or len(given) != rows:
        raise ValueError(f"{rows} prompts, {len(actions)} actions, {len(given)} steerings")
    result = []
    for action, one in zip(actions, given, strict=True):
        if action not in ACTIONS:
            raise ValueError(f"unknown action {action!r}")
        if action != "none" and one is None:
            raise ValueError(f"action {action} without steering")
        idle = action == "none" or one is None or (action == "ablate" and one.scope == "none")
        result.append(RowSteering("none", None) if idle else RowSteering(action, one))
    return result


def read_steering(path: str | Path, **wanted: object) -> Steering:
    """The steering vector of a language: tensor `v` [d], metadata `layer`, `alpha`, `ablation` (a scope).

    Raises `PolygateError` when the file is broken, foreign, or of something else (`wanted`).
    """
    tensors, metadata = files.read_safetensors(path)
    files.expect(path, metadata, **wanted)
    with files.understood(path, "a steering file"):
        scope = metadata["ablation"]
        return Steering(tensors["v"], int(metadata["layer"]), float(metadata["alpha"]), scope)  # type: ignore[arg-type]
