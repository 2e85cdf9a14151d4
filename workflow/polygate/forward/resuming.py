"""Prompts that something acts on from one block on: what lies below that block is as it is unsteered, and read once.

Keys and values of the blocks up to there, and what the last of them passes on (the residual stream before anything is
done to it), are those of the prompt left alone. With these the other blocks go on: ablation at one layer, say, reads
its prompts through the blocks above it and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polygate.forward.prefixes import Prefix, with_room

_LEAST = 8
"""One of so many blocks at least must be saved for it to be worth a pass of its own."""


def worth(layer: int, layers: int) -> bool:
    """Whether going on after the block `layer` of so many `layers` saves much."""
    return (layer + 1) * _LEAST >= layers


@contextmanager
def standing_in(blocks: Sequence[nn.Module], stream: Tensor) -> Iterator[None]:
    """All of these blocks pass on `stream`, [b, t, d], and compute nothing; hooks on them act as ever."""

    def given(*_args: Any, **_more: Any) -> Tensor:
        return stream

    own = [block.__dict__.get("forward") for block in blocks]  # Accelerate puts one there.
    try:
        for block in blocks:
            block.forward = given
        yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            if before is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = before


def last_columns(trunks: Sequence[Prefix], layer: int, columns: int) -> Tensor:
    """What the block `layer` passes on of the last `columns` tokens of each prompt, left-padded with zeros.

    [b, columns, d].
    """
    like = trunks[0].streams[layer]
    stream = like.new_zeros((len(trunks), columns, like.shape[-1]))
    for row, trunk in enumerate(trunks):
        some = trunk.streams[layer][max(0, trunk.length - columns) :]
        stream[row, columns - len(some) :] = some
    return stream


def whole_streams(before: Prefix | None, recorded: dict[int, Tensor], row: int, length: int) -> dict[int, Tensor]:
    """By block, what it passes on of each of a prompt's `length` tokens, [length, d].

    `recorded` has the last columns of a left-padded batch, `before` what was read ahead of them; tokens of both are
    taken from the batch.
    """
    found = {}
    for layer, columns in recorded.items():
        own = columns[row, max(0, columns.shape[1] - length) :]
        earlier = [] if before is None else [before.streams[layer][: length - len(own)]]
        found[layer] = torch.cat([*earlier, own])
    return found


def nothing_yet(like: Prefix, rows: int, columns: int) -> Any:
    """A cache for so many rows with room for as many columns, none of which is there."""
    wholes = [one.new_zeros((one.shape[0], rows, one.shape[1], columns, one.shape[3])) for one in like.states]
    return with_room(like.layout, wholes, 0)


def put_below(above: Prefix, trunk: Prefix, layer: int) -> Prefix:
    """`above`, whose blocks up to `layer` computed nothing, with what the same tokens have there left alone."""
    states = []
    for names, mine, theirs in zip(above.layout.groups, above.states, trunk.states, strict=True):
        low = sum(number <= layer for number, _ in names)  # In the order of the blocks.
        if 0 < low < len(names):
            mine[:low] = theirs[:low]
        states.append(theirs if low == len(names) else mine)
    return replace(above, states=tuple(states))
