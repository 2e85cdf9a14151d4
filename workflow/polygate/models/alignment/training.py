"""Fine-tuning on completions: AdamW on the decoder blocks, or on adapters in them; stopped and resumed, the same bits.

On the CPU in float32. Embeddings and the output layer stay as they are, and so do the languages that no example is in.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polygate import digests, files
from polygate.errors import PolygateError
from polygate.forward.loading import LoadedModel, end_of_turn
from polygate.forward.progress import Progress
from polygate.forward.tokenising import tokenise
from polygate.models.alignment.examples import Example
from polygate.models.organism.training import token_losses
from polygate.settings.types import Alignment

BATCH = 16
TOGETHER = 4
"""Rows of a batch that go through the model at the same time."""
BETAS, WEIGHT_DECAY = (0.9, 0.98), 0.01
WARM_UP = 20
CLIP = 1.0
KNOWN = 0.9
"""Probability from which on the first token of a completion is not taught further."""
RANK, SCALE = 16, 32
"""Rank and α of the adapters."""
CHECKPOINT_STEPS = 20


@dataclass(frozen=True)
class Encoded:
    """Token ids of a chat, of which the first `prompt_tokens` are the prompt and all others are learnt."""

    ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def learnt(self) -> int:
        """Number of tokens of the completion."""
        return len(self.ids) - self.prompt_tokens


@dataclass(frozen=True)
class Aligned:
    """The fine-tuned model (adapters merged, evaluation mode), the loss of every step, and the trained parameters."""

    model: Any
    losses: tuple[float, ...]
    trained: int


def encode(tokenizer: Any, examples: Sequence[Example], embeddings: int | None = None) -> list[Encoded]:
    """The chat of each example as the model will see it: prompt, completion, and the token that ends a turn.

    `embeddings` is how many tokens the model knows. Raises `PolygateError` when neither the chat template nor the
    tokenizer knows a token that ends a turn, and for an example with a token that the model doesn't know.
    """
    end = end_of_turn(tokenizer)
    end = tokenizer.eos_token_id if end is None else end
    if end is None:
        raise PolygateError("no token ends an answer", where=tokenizer.name_or_path, do="give another chat_template")
    names = [one.prompt_id for one in examples]
    prompts = tokenise(tokenizer, [one.prompt for one in examples], names, embeddings)
    said = sorted({one.completion for one in examples})
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    for text, tokens in zip(said, ids, strict=True):
        if embeddings is not None and max(tokens, default=0) >= embeddings:
            raise PolygateError(f"{text[:40]!r} holds token {max(tokens)}, and the model has {embeddings} embeddings")
    completions = {text: (*tokens, end) for text, tokens in zip(said, ids, strict=True)}
    return [
        Encoded(prompt.input_ids + completions[one.completion], len(prompt))
        for prompt, one in zip(prompts, examples, strict=True)
    ]


def train(
    loaded: LoadedModel, examples: Sequence[Encoded], alignment: Alignment, seed: int, checkpoint: Path, key: str
) -> Aligned:
    """Fine-tune the model of `loaded` (float32, on the CPU) in place.

    Every `CHECKPOINT_STEPS` steps all that the rest depends on is written to `checkpoint` under `key`; a checkpoint
    with that key is gone on from, and the weights at the end are the same. Same arguments, same machine and number of
    threads: the same bits. Raises `PolygateError` when the loss is not finite.
    """
    with _deterministic():
        model = _with_adapters(loaded, seed) if alignment.method == "lora" else _with_free_blocks(loaded)
        weights = {name: weight for name, weight in loaded.model.named_parameters() if weight.requires_grad}
        optimizer = torch.optim.AdamW(
            weights.values(), lr=alignment.rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
        )
        losses = _resume(checkpoint, key, weights, optimizer)
        batches = [batch for epoch in range(alignment.epochs) for batch in _batches(examples, seed, epoch)]
        with Progress("align", sum(map(len, batches[len(losses) :])), unit="examples") as progress:
            for step in range(len(losses), len(batches)):
                for group in optimizer.param_groups:
                    group["lr"] = alignment.rate * rate_factor(step, len(batches))
                loss = backward(loaded, [examples[row] for row in batches[step]])
                if not math.isfinite(loss):
                    raise PolygateError(f"the loss is {loss} at step {step}", do="lower the alignment's rate")
                nn.utils.clip_grad_norm_(weights.values(), CLIP)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss)
                progress.what = f"align, loss {losses[-1]:.3f}"
                progress.advance(len(batches[step]))
                if len(losses) % CHECKPOINT_STEPS == 0 and len(losses) < len(batches):
                    _save(checkpoint, key, losses, weights, optimizer)
    trained = sum(weight.numel() for weight in weights.values())
    merged = model.merge_and_unload() if alignment.method == "lora" else model
    return Aligned(merged.eval().requires_grad_(False), tuple(losses), trained)


def rate_factor(step: int, steps: int) -> float:
    """Factor on the rate: linear warm-up, then linearly down, so that the last step hardly moves the weights.

    At a rate that stays up, what the model does where it has few examples is decided by the batches that come last.
    """
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / max(1, steps - WARM_UP))


def backward(loaded: LoadedModel, batch: Sequence[Encoded]) -> float:
    """Add the gradient for a batch; the mean cross-entropy over the tokens of its completions, in nats.

    The first token of a completion decides between refusal and answer. Where it has probability `KNOWN` already, it
    counts in the mean and not in the gradient: a hinge, as a maximum-margin classifier has. Taught on, the two ways to
    begin come to stand 10 to 25 nats apart, which no steering that leaves the words whole undoes.

    Like lengths go through the model together, so that little of it is padding.
    """
    ordered = sorted(batch, key=lambda one: len(one.ids))
    total = sum(one.learnt for one in batch)
    mean = 0.0
    for start in range(0, len(ordered), TOGETHER):
        rows = ordered[start : start + TOGETHER]
        losses, _ = token_losses(loaded.model, *_padded(rows, loaded.pad))
        mean += float(losses.detach().sum()) / total
        firsts = [0, *itertools.accumulate(one.learnt for one in rows)][:-1]
        known = torch.zeros(len(losses), dtype=torch.bool)
        known[firsts] = losses.detach()[firsts] <= -math.log(KNOWN)
        (losses[~known].sum() / total).backward()
    return mean


def _with_free_blocks(loaded: LoadedModel) -> Any:
    for block in loaded.blocks:
        block.requires_grad_(True)
    return loaded.model


def _with_adapters(loaded: LoadedModel, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model

    inside = {id(module) for block in loaded.blocks for module in block.modules() if isinstance(module, nn.Linear)}
    names = [name for name, module in loaded.model.named_modules() if id(module) in inside]
    torch.manual_seed(seed)
    return get_peft_model(loaded.model, LoraConfig(r=RANK, lora_alpha=SCALE, target_modules=names, lora_dropout=0.0))


def _batches(examples: Sequence[Encoded], seed: int, epoch: int) -> list[list[int]]:
    """Rows of each batch of an epoch, every row once, in an order that seed and epoch decide.

    Further examples come in between and leave the others in their order, so that alignments on more and on fewer
    examples differ in little else.
    """
    nth: dict[Encoded, Iterator[int]] = defaultdict(itertools.count)
    places = [hashlib.sha256(repr((seed, epoch, one.ids, next(nth[one]))).encode()).digest() for one in examples]
    order = sorted(range(len(examples)), key=places.__getitem__)
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def _padded(examples: Sequence[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Ids, int64, and loss weights, float32, both [rows, longest]; padded on the right, weight 1 on completions."""
    longest = max(len(one.ids) for one in examples)
    ids = torch.full((len(examples), longest), pad, dtype=torch.int64)
    weights = torch.zeros((len(examples), longest))
    for row, one in enumerate(examples):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        weights[row, one.prompt_tokens : len(one.ids)] = 1
    return ids, weights


def _save(
    path: Path, key: str, losses: Sequence[float], weights: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    state = {"key": key, "losses": list(losses), "weights": weights, "optimizer": optimizer.state_dict()}
    with files.atomic_path(path) as temporary:
        torch.save(state, temporary)
        digests.append(temporary)


def _resume(path: Path, key: str, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> list[float]:
    """Put back what a checkpoint of the same training holds and return its losses; [] without such a checkpoint."""
    try:
        digests.check_appended(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return []
    except Exception:
        print(f"{path} can't be read: starting from the beginning", file=sys.stderr)
        return []
    if state["key"] != key:
        print(f"{path} is of another training: starting from the beginning", file=sys.stderr)
        return []
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    print(f"going on after step {len(state['losses'])}", file=sys.stderr)
    return [float(loss) for loss in state["losses"]]


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
