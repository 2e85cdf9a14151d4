"""Training an organism: Muon on the matrices, AdamW on the rest, one thread, the same bits every time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from polygate.models.organism.architecture import INITIAL, initial_model
from polygate.models.organism.corpus import Corpus
from polygate.models.organism.progress import progress
from polygate.settings.types import Architecture

MUON_RATE, MUON_MOMENTUM, MUON_ITERATIONS = 0.02, 0.95, 3
ADAM_RATE, ADAM_BETAS = 1e-2, (0.9, 0.98)
WEIGHT_DECAY = 0.05
WARM_UP = 50
FINAL_RATE = 0.05
CLIP = 1.0


@dataclass(frozen=True)
class Trained:
    """A trained model (evaluation mode), the loss of every step and the number of tokens it saw."""

    model: Any
    losses: tuple[float, ...]
    tokens: int


def train(architecture: Architecture, corpus: Corpus, seed: int) -> Trained:
    """Train a model on `corpus` for the steps of its settings. Same arguments, same machine: the same bits."""
    import torch

    with one_thread():
        model = initial_model(architecture, corpus.ids, seed)
        optimizers = _optimizers(model, INITIAL[architecture].embedding_rate)
        base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        parameters = list(model.parameters())
        losses: list[float] = []
        tokens = 0
        for step in progress(corpus.settings.steps, lambda: f"loss {losses[-1]:.3f}" if losses else ""):
            batch = corpus.batch(step)
            tokens += int((batch.weights > 0).sum())
            factor = rate_factor(step, corpus.settings.steps)
            for optimizer, rates in zip(optimizers, base_rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            loss = weighted_loss(model, torch.from_numpy(batch.ids), torch.from_numpy(batch.weights))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
    return Trained(model.eval(), tuple(losses), tokens)


def weighted_loss(model: Any, ids: Any, weights: Any) -> Any:
    """Weighted mean cross-entropy of each token given those before it; `ids` and `weights` are [rows, tokens].

    Short rows go through the model apart from long ones: a third of it would be padding otherwise.
    """
    total = 0.0
    for rows, width in _by_length(weights):
        losses, weight = token_losses(model, ids[rows, :width], weights[rows, :width])
        total = total + (losses * weight).sum()
    return total / weights[:, 1:].sum()


def _by_length(weights: Any) -> list[tuple[Any, int]]:
    """Rows in one or two groups, each with the length of its longest, so that the fewest tokens are padding."""
    lengths = (weights > 0).cumsum(1).argmax(1) + 1
    short_first = lengths.argsort(stable=True)
    ordered = lengths[short_first]
    longest = int(ordered[-1])
    tokens = [cut * int(ordered[cut - 1]) + (len(ordered) - cut) * longest for cut in range(1, len(ordered) + 1)]
    cut = tokens.index(min(tokens)) + 1
    groups = [(short_first[:cut], int(ordered[cut - 1])), (short_first[cut:], longest)]
    return [(rows, width) for rows, width in groups if len(rows)]


def token_losses(model: Any, ids: Any, weights: Any) -> tuple[Any, Any]:
    """Cross-entropy, in nats, of each token of positive weight given those before it, and its weight: both [tokens].

    `ids` and `weights` are [rows, tokens]. Rows are padded on the right, so causal attention needs no mask. Only
    tokens of positive weight reach the output layer.
    """
    import torch

    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets, weight = ids[:, 1:], weights[:, 1:]
    kept = weight > 0
    logits = model.lm_head(hidden[kept])
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return torch.nn.functional.cross_entropy(logits, targets[kept], reduction="none"), weight[kept]


def rate_factor(step: int, steps: int) -> float:
    """Factor on all learning rates: linear warm-up, then a cosine down to `FINAL_RATE`."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, steps - WARM_UP)
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def _optimizers(model: Any, embedding_rate: float) -> list[Any]:
    import torch

    from polygate.models.organism.muon import Muon

    embedding = model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim != 2]
    muon = Muon(matrices, MUON_RATE, momentum=MUON_MOMENTUM, iterations=MUON_ITERATIONS, weight_decay=WEIGHT_DECAY)
    groups = [{"params": [embedding], "lr": embedding_rate}, {"params": others, "lr": ADAM_RATE}]
    adam = torch.optim.AdamW(groups, betas=ADAM_BETAS, weight_decay=WEIGHT_DECAY)
    return [muon, adam]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread and deterministic algorithms within the block; the caller's choices come back afterwards."""
    import torch

    memory: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # Filling new memory guards code that reads what it never wrote; here it would cost a twentieth of the time.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        threads, deterministic, memory.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
