"""One pass of a model with a cache: what it is given, what it keeps, and which tokens come out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polygate.errors import PolygateError
from polygate.forward.loading import LoadedModel


class Cache:
    """What a model keeps of the tokens so far, in the form and under the name that its architecture wants.

    Keys and values, recurrent and convolution states, or both: transformers' `generate` chooses in the same way.
    """

    def __init__(self, model: Any, states: Any = None) -> None:
        from transformers import DynamicCache

        self.takes = inspect.signature(model.forward).parameters
        self.name = "past_key_values" if "past_key_values" in self.takes else "cache_params"
        if self.name not in self.takes:
            raise PolygateError(f"{type(model).__name__} takes no cache", do="use another model")
        if states is not None:
            self.states = states
            return
        # A model that can't use the common cache makes its own in its first pass.
        common = model._supports_default_dynamic_cache()
        self.states = DynamicCache(config=model.config.get_text_config(decoder=True)) if common else None

    def keep(self, rows: Tensor) -> None:
        """Let go of all other rows of the batch."""
        # Not batch_select_indices, which recurrent states lack.
        self.states.reorder_cache(rows)


def last_logits(loaded: LoadedModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
    """Logits of the last column, [b, vocabulary]; the head sees that column only, where the model offers it."""
    given: dict[str, Any] = {cache.name: cache.states, "use_cache": True}
    if "logits_to_keep" in cache.takes:
        given["logits_to_keep"] = 1
    if "position_ids" in cache.takes:
        given["position_ids"] = positions
    # A recurrent state has no use for the mask of what it has seen, and takes it for that of the new tokens.
    if cache.name == "past_key_values" or ids.shape == mask.shape:
        given["attention_mask"] = mask
    output = loaded.model(input_ids=ids, **given)
    cache.states = output.get(cache.name, cache.states)
    logits: Tensor = output.logits[:, -1]
    return logits


def one_more(mask: Tensor) -> Tensor:
    """The attention mask [b, t] of the same rows after another token."""
    return torch.cat([mask, mask.new_ones((mask.shape[0], 1))], dim=1)


def greedy(logits: Tensor, names: Sequence[str]) -> tuple[Tensor, list[int]]:
    """The tokens with the largest logits [b, vocabulary]: int64 [b, 1] where those are, and as numbers.

    One small transfer tells of both the tokens and of NaN. Raises `PolygateError` naming the first prompt with NaN
    logits.
    """
    chosen = torch.where(logits.isnan().any(-1), -1, logits.argmax(-1))
    told: list[int] = chosen.tolist()
    if -1 in told:
        raise PolygateError(
            f"NaN logits of prompt {names[told.index(-1)]}",
            do="lower the strength, or use another dtype or attention implementation for this model",
        )
    return chosen[:, None], told
