"""Scoring: the logits of a task's options where the answer would begin, under an intervention.

A model is asked a question whose options have letters, and its choice is the letter with the largest logit for the
token after the prompt's last one. A letter can be spelt in several ways ("A", " A", "A.", " A."); its logit is the
largest over those that are one token.

Nothing is generated, so an intervention acts on the prompt's tokens: one on every token, or one on answering, which
begin with the prompt's last. What acts on generated tokens alone (as AdaSteer does) comes too late and changes nothing
here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polygate.errors import PolygateError
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
from polygate.prompts.table import LETTERS

SPELLINGS = ("{}", " {}", "{}.", " {}.")
"""How a letter may be spelt at the beginning of an answer."""


def letter_tokens(tokenizer: Any, count: int) -> list[list[int]]:
    """For each of the first `count` letters the ids, ascending, of the tokens that spell it and nothing else.

    Raises `PolygateError` naming the tokenizer's model and the letter that no token spells.
    """
    found = []
    for letter in LETTERS[:count]:
        spelt = [pattern.format(letter) for pattern in SPELLINGS]
        tokens = tokenizer(spelt, add_special_tokens=False)["input_ids"]
        ids = sorted({ids[0] for ids in tokens if len(ids) == 1 and _spells(tokenizer, ids[0], letter)})
        if not ids:
            raise PolygateError(
                f"no single token of this model spells the option letter {letter}",
                where=tokenizer.name_or_path,
                do="leave the task out, or this model",
            )
        found.append(ids)
    return found


def _spells(tokenizer: Any, token: int, letter: str) -> bool:
    """Whether a token is that letter: an unknown character, or one made lower-case, is not."""
    if token == tokenizer.unk_token_id:
        return False
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    return text.strip().removesuffix(".") == letter


@torch.inference_mode()
def score(
    loaded: LoadedModel,
    prompts: Sequence[str],
    options: Sequence[int],
    intervention: Intervention | None = None,
    *,
    names: Sequence[str] | None = None,
    advance: Callable[[float], None] | None = None,
    kept: Kept | None = None,
) -> list[NDArray[np.float32]]:
    """Logits of each prompt's options, float32 [options] for each, in the order given.

    `options` counts them. `intervention` says what is done to each prompt, nothing when None: then no hook runs. A
    prompt's logits don't depend on its batch, nor on what is done to the batch's other rows (float32: within 1e-5).
    `names` (prompt ids) are used in errors; `advance` is told how many prompts each batch finished; `kept` is as in
    `generate`. Raises
    `PolygateError` for a letter without a token, an intervention on other prompts or of another model, for NaN
    logits, and when a single prompt doesn't fit into memory.
    """
    names = names if names is not None else [str(i) for i in range(len(prompts))]
    letters = letter_tokens(loaded.tokenizer, max(options, default=0))
    if intervention is not None:
        intervention.check_prompts(names)
        intervention.check_fits(loaded.layers, loaded.width)
    tokenised = tokenise(loaded.tokenizer, prompts, names, loaded.embeddings)
    found: dict[int, NDArray[np.float32]] = {}
    writer = Writer(loaded, tokenised, intervention, names, kept) if loaded.shares else None

    def work(batch: list[int]) -> None:
        if writer is not None:
            logits = _checked(writer.start(batch)[0], [names[row] for row in batch])
        else:
            chosen = None if intervention is None else intervention.rows(batch)
            logits = answering(loaded, [tokenised[row] for row in batch], chosen, [names[row] for row in batch])
        for row, of_prompt in zip(batch, logits, strict=True):
            largest = [of_prompt[ids].max() for ids in letters[: options[row]]]
            found[row] = np.array(largest, np.float32)
        if advance is not None:
            advance(len(batch))

    lengths = [len(prompt) for prompt in tokenised]
    in_halves(length_sorted(lengths, loaded.batch_tokens, batching=loaded.batching), work)
    return [found[row] for row in range(len(prompts))]


@torch.inference_mode()
def answering(
    loaded: LoadedModel, prompts: Sequence[Tokenised], intervention: Intervention | None, names: Sequence[str]
) -> NDArray[np.float32]:
    """Logits after the last token of each prompt of one batch, [b, vocabulary]: generation's, at its first step."""
    ids, mask = left_pad(prompts, loaded.pad, loaded.device)
    steering = [] if intervention is None else edits(intervention)
    with attached(loaded.base, loaded.blocks, steering, ids.shape[1], loaded.stream):
        logits = passes.last_logits(loaded, ids, mask, position_ids(mask), passes.Cache(loaded.model))
    return _checked(logits, names)


def _checked(logits: Any, names: Sequence[str]) -> NDArray[np.float32]:
    passes.greedy(logits, names)
    found: NDArray[np.float32] = logits.float().cpu().numpy()
    return found
