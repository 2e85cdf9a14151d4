"""Greedy generation under an intervention, exact under left padding and with a key-value cache.

A prompt's text depends on nothing but the prompt and what is done to it: the same alone and in any batch, whatever is
done to the batch's other rows (float32; an exact tie of two logits aside). So the completion of a routed prompt *is*
its `addition` or its `ablation` completion, and routed arms can be assembled from those by selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from polygate.forward import passes
from polygate.forward.batching import left_pad, length_sorted, position_ids
from polygate.forward.device import in_halves
from polygate.forward.edits import edits
from polygate.forward.hooks import attached
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel
from polygate.forward.prefixes import Kept
from polygate.forward.tokenising import Tokenised, tokenise
from polygate.forward.writing import Writer

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
    kept: Kept | None = None,
) -> list[Completion]:
    """Greedy completions of instructions, in the order given.

    `intervention` says what is done to each prompt, nothing when None: then no hook runs. `names` (prompt ids) are
    used in errors; `advance` is told of finished prompts, in fractions; `kept` is what earlier passes over the same
    prompts have left, and what this one leaves. Raises `PolygateError` for an intervention on
    other prompts or of another model, for NaN logits, and when a single prompt doesn't fit into memory.
    """
    names = names if names is not None else [str(i) for i in range(len(prompts))]
    if intervention is not None:
        intervention.check_prompts(names)
        intervention.check_fits(loaded.layers, loaded.width)
    # Whoever compares ways of steering gives each prompt many times.
    first = dict(zip(reversed(prompts), reversed(names), strict=True))
    distinct = tokenise(loaded.tokenizer, list(first), list(first.values()), loaded.embeddings)
    once = dict(zip(first, distinct, strict=True))
    tokenised = [once[prompt] for prompt in prompts]
    completions: dict[int, Completion] = {}

    def finish(index: int, tokens: list[int]) -> None:
        completions[index] = _completion(loaded, tokenised[index], tokens)

    told = advance or _ignore
    if loaded.shares:
        Writer(loaded, tokenised, intervention, names, kept).write(max_new_tokens, told, finish)
        return [completions[i] for i in range(len(prompts))]

    def work(batch: list[int]) -> None:
        chosen = None if intervention is None else intervention.rows(batch)
        written = write(loaded, [tokenised[i] for i in batch], chosen, max_new_tokens, [names[i] for i in batch], told)
        for index, tokens in zip(batch, written, strict=True):
            finish(index, tokens)

    lengths = [len(prompt) for prompt in tokenised]
    in_halves(length_sorted(lengths, loaded.written_tokens, max_new_tokens, loaded.batching), work)
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
    """Generated token ids of each row of one batch, up to and with the one that ended it; see `generate`.

    The plain way, for models whose cache can't be taken apart: all rows are read and written together.
    """
    ids, mask = left_pad(prompts, loaded.pad, loaded.device)
    positions = position_ids(mask)
    cache = passes.Cache(loaded.model)
    written: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    done = [False] * len(prompts)
    steering = [] if intervention is None else edits(intervention)
    with attached(loaded.base, loaded.blocks, steering, ids.shape[1], loaded.stream) as steered:
        for step in range(max_new_tokens):
            logits = passes.last_logits(loaded, ids, mask, positions, cache)
            ids, told = passes.greedy(logits, [names[i] for i in alive])
            for row, token in enumerate(told):
                if not done[row]:
                    written[alive[row]].append(token)
                    done[row] = token in loaded.stop
                    advance((max_new_tokens - step if done[row] else 1) / max_new_tokens)
            left = [row for row, finished in enumerate(done) if not finished]
            if not left:
                break
            mask, positions = passes.one_more(mask), positions[:, -1:] + 1
            if len(left) < _DROP_BELOW * len(alive):
                keep = torch.tensor(left, device=loaded.device)
                cache.keep(keep)
                steered.keep(keep)
                ids, mask, positions = ids[keep], mask[keep], positions[keep]
                alive, done = [alive[row] for row in left], [False] * len(left)
    return written
