"""An intervention on single prompts, put together as edits of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from polygate.forward.hooks import Ablate, Add, Edit, Select, Tokens
from polygate.forward.interventions import Intervention, Part

_TOKENS = {"every": Tokens.EVERY, "answering": Tokens.ANSWERING, "generated": Tokens.GENERATED}


@dataclass
class _Group:
    """Parts that become one edit: they do the same at the same blocks, each to other rows (`acting`, bool [b])."""

    key: tuple[object, ...]
    acting: NDArray[np.bool_]
    parts: list[Part] = field(default_factory=list)


def edits(intervention: Intervention) -> list[Edit]:
    """Edits of the batch whose rows are the intervention's prompts, in the order of its parts.

    None for parts that leave all these rows alone. A part is one edit for all of its blocks: its vectors are shared
    by the rows, which differ in their coefficients. Parts that differ in nothing but vectors and rows share an edit.
    """
    groups: list[_Group] = []
    for part in intervention.parts:
        acting = part.coefficients != 0
        if not acting.any():
            continue
        group = _earlier(groups, _key(part), acting)
        if group is None:
            group = _Group(_key(part), np.zeros_like(acting))
            groups.append(group)
        group.parts.append(part)
        group.acting |= acting
    return [_edit(group) for group in groups]


def _key(part: Part) -> tuple[object, ...]:
    return part.layers, part.operation, part.tokens


def _earlier(groups: list[_Group], key: tuple[object, ...], acting: NDArray[np.bool_]) -> _Group | None:
    """The group that a part may join: no row of the part sees its edits in another order."""
    for group in reversed(groups):
        if (group.acting & acting).any():
            return None
        if group.key == key:
            return group
    return None


def _edit(group: _Group) -> Edit:
    first = group.parts[0]
    apply = Add if first.operation == "add" else Ablate
    coefficients = np.sum([part.coefficients for part in group.parts], axis=0)
    rows = None if group.acting.all() else torch.from_numpy(group.acting)
    select = Select(first.layers, _TOKENS[first.tokens], rows)
    given = None if (coefficients[group.acting] == 1).all() else torch.from_numpy(coefficients)
    vectors = _vectors(group.parts)
    if len(group.parts) == 1:
        return select, apply(vectors[..., 0, :], given)
    which = np.sum([number * (part.coefficients != 0) for number, part in enumerate(group.parts)], axis=0)
    return select, apply(vectors, given, torch.from_numpy(which.astype(np.int64)))


def _vectors(parts: list[Part]) -> torch.Tensor:
    """The parts' vectors, float64 [layers, k, d], unit vectors to ablate; [k, d] where all layers have the same."""
    same = all((part.vectors == part.vectors[0]).all() for part in parts)
    wide = [part.units() if part.operation == "ablate" else part.vectors.astype(np.float64) for part in parts]
    return torch.from_numpy(np.stack([vectors[0] for vectors in wide] if same else wide, axis=0 if same else 1))
