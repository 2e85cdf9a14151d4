"""Multiplying by a model's head, which is wide and low: a row for every token of the vocabulary.

On a CPU torch has MKL multiply in float32. For few rows by so many columns oneDNN, which torch brings along, takes
less: one AVX2 core did 37 instead of 23·10⁹ FLOP/s for 24 rows by Gemma 3's 262,144 tokens, 46 instead of 30 by
SmolLM2's 49,152 and 39 instead of 28 by Qwen2.5's 151,936. From some 200 rows on it takes as much or more, as it does
for the matrices of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_MOST_ROWS = 128
_LEAST_TOKENS = 8192
"""Below a vocabulary of this many tokens the head takes little time."""
_OURS = "by_onednn"


def quicken(model: Any) -> None:
    """Have oneDNN multiply by the model's head where that is faster; what comes out differs by rounding alone."""
    head = model.get_output_embeddings()
    wide = isinstance(head, nn.Linear) and head.out_features >= _LEAST_TOKENS
    # Where one is its own already, accelerate has put it there, to bring inputs to the head's device.
    if not wide or not _suits(head.weight) or "forward" in head.__dict__ or not _there():
        return

    def forward(states: Tensor) -> Tensor:
        weight = head.weight
        if not (_suits(weight) and _suits(states)) or states.numel() > _MOST_ROWS * weight.shape[1]:
            return linear(states, weight, head.bias)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, head.bias, "none", [], "")
        return found

    forward.__dict__[_OURS] = True
    head.__dict__["forward"] = forward


@contextmanager
def as_loaded(model: Any) -> Iterator[None]:
    """The model's head as it was before, for as long as the context is open."""
    head = model.get_output_embeddings()
    quick = None if head is None else head.__dict__.get("forward")
    if not hasattr(quick, _OURS):
        yield
        return
    del head.__dict__["forward"]
    try:
        yield
    finally:
        head.__dict__["forward"] = quick


def _suits(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _there() -> bool:
    """Whether this build of torch has oneDNN and the operator, which its compiler uses."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
