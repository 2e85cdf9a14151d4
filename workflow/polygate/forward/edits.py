"""Steering of single prompts, put together as edits of a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from polygate.forward.hooks import Ablate, Add, Edit, Select, Tokens
from polygate.forward.steering import Action, RowSteering, Steering


def edits(rows: Sequence[RowSteering], count: int) -> list[Edit]:
    """Edits of the batch made of these rows, for a model with `count` blocks.

    One edit per action and set of blocks, with one vector per row; none for rows that are left alone.
    """
    groups: dict[tuple[Action, tuple[int, ...]], dict[int, Steering]] = defaultdict(dict)
    for index, row in enumerate(rows):
        if row.steering is not None:
            groups[row.action, row.steering.blocks(row.action, count)][index] = row.steering
    result: list[Edit] = []
    for (action, layers), members in groups.items():
        width = len(next(iter(members.values())).vector)
        chosen, vectors = np.zeros(len(rows), dtype=bool), np.zeros((len(rows), width))
        for index, steering in members.items():
            chosen[index] = True
            vectors[index] = steering.vector * (steering.alpha if action == "add" else 1.0)
        tokens = Tokens.ANSWERING if action == "add" else Tokens.EVERY
        apply = Add(torch.from_numpy(vectors)) if action == "add" else Ablate(torch.from_numpy(vectors))
        result.append((Select(layers, tokens, torch.from_numpy(chosen)), apply))
    return result
