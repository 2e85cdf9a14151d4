"""Interventions to try, and the slow twin that applies them: one prompt, no padding, no cache, plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polygate.forward.generation import Completion
from polygate.forward.interventions import OPERATIONS, TOKENS, Intervention, Part
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import Tokenised


def names_of(count: int) -> list[str]:
    """The names that prompts have where nobody gives them any."""
    return [str(row) for row in range(count)]


def added(v: NDArray[Any], alpha: Sequence[float] | NDArray[Any], layer: int = 1, tokens: Any = "answering") -> Part:
    """A part that adds alpha times the unit vector along `v`."""
    return Part((layer,), np.asarray(v)[None] / np.linalg.norm(v), "add", tokens, np.asarray(alpha))


def ablated(v: NDArray[Any], chosen: Sequence[Any] | NDArray[Any], layers: Sequence[int]) -> Part:
    """A part that ablates `v` at `layers` for the chosen prompts."""
    return Part(tuple(layers), np.tile(v, (len(layers), 1)), "ablate", "every", np.asarray(chosen, float))


def arm(action: str, v: NDArray[Any], layers: int, count: int, alpha: float = 20.0, layer: int = 1) -> Intervention:
    """All of `count` prompts steered alike: none, add at one layer, or ablate at all."""
    parts = {
        "none": (),
        "add": (added(v, [alpha] * count, layer),),
        "ablate": (ablated(v, [1] * count, range(layers)),),
    }
    return Intervention(tuple(names_of(count)), parts[action])


def mixture(random: np.random.Generator, loaded: LoadedModel, count: int) -> Intervention:
    """Any parts at any layers, each on some of the prompts; about one prompt in five is left alone."""
    spared = random.random(count) < 0.2
    parts = []
    for _ in range(random.integers(1, 7)):
        layers = np.flatnonzero(random.random(loaded.layers) < 0.6)
        operation = OPERATIONS[random.integers(2)]
        coefficients = random.normal(size=count) if operation == "add" else random.uniform(0.2, 1.2, size=count)
        if operation == "ablate" and random.random() < 0.5:
            coefficients[:] = 1.0
        coefficients[spared | (random.random(count) < 0.4)] = 0.0
        parts.append(
            Part(
                tuple(layers.tolist() or [0]),
                random.normal(size=(max(1, len(layers)), loaded.width)),
                operation,
                TOKENS[random.integers(3)],
                coefficients,
            )
        )
    # The same at the same layers with another vector, for other prompts.
    more = parts[-1]
    others = np.where((more.coefficients == 0) & ~spared, random.uniform(0.2, 1.2, size=count), 0.0)
    parts.append(Part(more.layers, random.normal(size=more.vectors.shape), more.operation, more.tokens, others))
    return Intervention(tuple(names_of(count)), tuple(parts))


def single(
    loaded: LoadedModel, prompt: Tokenised, intervention: Intervention, row: int, max_new_tokens: int
) -> tuple[list[int], torch.Tensor]:
    """The slow twin on one prompt: token ids and logits [steps, vocabulary]; every step runs the whole text again.

    Its hooks know places by counting tokens, change one token after the other in float64, and share no code with the
    library's.
    """

    def hook(layer: int) -> Any:
        def change(_module: object, _args: object, hidden: torch.Tensor) -> torch.Tensor:
            changed = hidden.clone()
            for part in intervention.parts:
                if layer not in part.layers:
                    continue
                c = float(part.coefficients[row])
                v = torch.tensor(part.vectors[part.layers.index(layer)], dtype=torch.float64)
                u = v / v.norm()
                first = {"every": 0, "answering": len(prompt) - 1, "generated": len(prompt)}[part.tokens]
                for place in range(first, hidden.shape[1]):
                    h = changed[0, place].double()
                    new = h + c * v if part.operation == "add" else h - c * (h @ u) * u
                    changed[0, place] = new.to(hidden.dtype)
            return changed

        return hook_output(change)

    ids, logits = list(prompt.input_ids), []
    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(loaded.blocks)]
    try:
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                logits.append(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1])
            ids.append(int(logits[-1].argmax()))
            if ids[-1] in loaded.stop:
                break
    finally:
        for handle in handles:
            handle.remove()
    return ids[len(prompt) :], torch.stack(logits)


def hook_output(change: Any) -> Any:
    """A hook for blocks that return a tensor, or a tuple with it in front."""

    def hook(module: object, args: object, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return change(module, args, output)
        return (change(module, args, output[0]), *output[1:])

    return hook


def as_completion(loaded: LoadedModel, prompt: Tokenised, tokens: list[int]) -> Completion:
    """What `generate` returns for these tokens."""
    text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return Completion(text, len(prompt), len(tokens), tokens[-1] in loaded.stop)
