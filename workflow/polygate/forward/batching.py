"""Batches of prompts of about the same length, left-padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from polygate.forward.tokenising import Tokenised

if TYPE_CHECKING:
    import torch


Batching = Literal["padded", "equal", "single"]
"""Which prompts may share a batch without changing each other: any, those of equal length, or none.

A recurrent state may see padding, and some caches can't let go of rows that have ended.
"""


def length_sorted(
    lengths: Sequence[int], budget: int, extra: int = 0, batching: Batching = "padded"
) -> list[list[int]]:
    """Indices of prompts in batches: longest first, each batch of at most `budget` padded tokens (or one prompt).

    `batching` may allow less. `extra` tokens are added to every row (those to be generated). Longest first, so that a
    batch that doesn't fit into memory fails at once. The result depends on the lengths alone.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        longest = lengths[batches[-1][0]] if batches else 0
        allowed = batching == "padded" or (batching == "equal" and longest == lengths[index])
        if batches and allowed and (len(batches[-1]) + 1) * (longest + extra) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def left_pad(prompts: Sequence[Tokenised], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, int64 [b, longest]; every prompt's last token is in the last column."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad, dtype=torch.int64)
    mask = torch.zeros((len(prompts), longest), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt.input_ids)
        mask[row, longest - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Positions of left-padded tokens, int64 [b, t]: the cumulative sum of the mask less one, as `generate` does."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
