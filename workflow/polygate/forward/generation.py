"""Greedy generation under an intervention, exact under left padding and with a key-value cache.

A prompt's text depends on nothing but the prompt and what is done to it: the same alone and in any batch, whatever is
done to the batch's other rows (float32; an exact tie of two logits aside). So the completion of a routed prompt *is*
its `addition` or its `ablation` completion, and routed arms can be assembled from those by selection.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polygate.errors import PolygateError
from polygate.forward.batching import left_pad, length_sorted, position_ids
from polygate.forward.device import in_halves
from polygate.forward.edits import edits
from polygate.forward.hooks import attached
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import Tokenised, tokenise

# Below this share of rows still being written, finished ones are dropped from the batch.
_DROP_BELOW = 0.75


@dataclass(frozen=True)
class Completion:
    """What the model wrote after one prompt.

    `text` is without special tokens; `prompt_tokens` counts the whole chat; `new_tokens` counts what was generated,
    the token that ended the answer included; `finished` is False when `max_new_tokens` cut it off.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    finished: bool


def generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    intervention: Intervention | None = None,
    *,
    max_new_tokens: int,
    names: Sequence[str] | None = None,
    advance: Callable[[float], None] | None = None,
) -> list[Completion]:
    """Greedy completions of instructions, in the order given.

    `intervention` says what is done to each prompt, nothing when None: then no hook runs. `names` (prompt ids) are
    used in errors; `advance` is told of finished prompts, in fractions. Raises `PolygateError` for an intervention on
    other prompts or of another model, for NaN logits, and when a single prompt doesn't fit into memory.
    """
    names = names if names is not None else [str(i) for i in range(len(prompts))]
    if intervention is not None:
        intervention.check_prompts(names)
        intervention.check_fits(loaded.layers, loaded.width)
    # Whoever compares ways of steering gives each prompt many times.
    first = dict(zip(reversed(prompts), reversed(names), strict=True))
    once = dict(zip(first, tokenise(loaded.tokenizer, list(first), list(first.values())), strict=True))
    tokenised = [once[prompt] for prompt in prompts]
    completions: dict[int, Completion] = {}

    def work(batch: list[int]) -> None:
        written = write(
            loaded,
            [tokenised[i] for i in batch],
            None if intervention is None else intervention.rows(batch),
            max_new_tokens,
            [names[i] for i in batch],
            advance or _ignore,
        )
        for index, tokens in zip(batch, written, strict=True):
            completions[index] = _completion(loaded, tokenised[index], tokens)

    lengths = [len(prompt) for prompt in tokenised]
    in_halves(length_sorted(lengths, loaded.batch_tokens, max_new_tokens, loaded.batching), work)
    return [completions[i] for i in range(len(prompts))]


def _ignore(_prompts: float) -> None:
    return None


def _completion(loaded: LoadedModel, prompt: Tokenised, tokens: Sequence[int]) -> Completion:
    # No clean-up of spaces: it changes the text of languages it wasn't made for.
    text = loaded.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Completion(text, len(prompt), len(tokens), bool(tokens) and tokens[-1] in loaded.stop)


@torch.inference_mode()
def write(
    loaded: LoadedModel,
    prompts: Sequence[Tokenised],
    intervention: Intervention | None,
    max_new_tokens: int,
    names: Sequence[str],
    advance: Callable[[float], None] = _ignore,
) -> list[list[int]]:
    """Generated token ids of each row of one batch, up to and with the one that ended it; see `generate`."""
    ids, mask = left_pad(prompts, loaded.pad, loaded.device)
    positions = position_ids(mask)
    cache = Cache(loaded.model)
    stop = torch.tensor(sorted(loaded.stop), dtype=torch.int64, device=loaded.device)
    written: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    done = torch.zeros(len(prompts), dtype=torch.bool, device=loaded.device)
    steering = [] if intervention is None else edits(intervention)
    with attached(loaded.base, loaded.blocks, steering, ids.shape[1], loaded.stream) as steered:
        for step in range(max_new_tokens):
            logits = last_logits(loaded, ids, mask, positions, cache)
            check_finite(logits, [names[i] for i in alive])
            chosen = logits.argmax(-1)
            was_done, now_done = done.tolist(), (done | torch.isin(chosen, stop)).tolist()
            for row, token in enumerate(chosen.tolist()):
                if not was_done[row]:
                    written[alive[row]].append(token)
                    advance((max_new_tokens - step if now_done[row] else 1) / max_new_tokens)
            done = torch.tensor(now_done, device=loaded.device)
            left = [row for row, finished in enumerate(now_done) if not finished]
            if not left:
                break
            ids, mask, positions = chosen[:, None], one_more(mask), positions[:, -1:] + 1
            if len(left) < _DROP_BELOW * len(alive):
                keep = torch.tensor(left, device=loaded.device)
                cache.keep(keep)
                steered.keep(keep)
                ids, mask, positions, done = ids[keep], mask[keep], positions[keep], done[keep]
                alive = [alive[row] for row in left]
    return written


class Cache:
    """What a model keeps of the tokens so far, in the form and under the name that its architecture wants.

    Keys and values, recurrent and convolution states, or both: transformers' `generate` chooses in the same way.
    """

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self.takes = inspect.signature(model.forward).parameters
        self.name = "past_key_values" if "past_key_values" in self.takes else "cache_params"
        if self.name not in self.takes:
            raise PolygateError(f"{type(model).__name__} takes no cache", do="use another model")
        # A model that can't use the common cache makes its own in its first pass.
        common = model._supports_default_dynamic_cache()
        self.states = DynamicCache(config=model.config.get_text_config(decoder=True)) if common else None

    def keep(self, rows: Tensor) -> None:
        """Let go of all other rows of the batch."""
        # Not batch_select_indices, which recurrent states lack.
        self.states.reorder_cache(rows)  # type: ignore[union-attr]


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


def check_finite(logits: Tensor, names: Sequence[str]) -> None:
    """`PolygateError` naming the first prompt whose logits [b, vocabulary] hold NaN."""
    broken = logits.isnan().any(-1)
    if bool(broken.any()):
        raise PolygateError(
            f"NaN logits of prompt {names[int(broken.nonzero()[0, 0])]}",
            do="lower the strength, or use another dtype or attention implementation for this model",
        )
