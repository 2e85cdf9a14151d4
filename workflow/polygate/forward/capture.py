"""Capture: the residual stream after every decoder block, at named token positions.

`t_inst` is the instruction's last token, `t_post_inst` the whole prompt's; `mean` is the mean over all of the prompt's
tokens, those of the chat template included, as published probes take it; `opening` is the mean over the tokens of an
answer's opening that stands after the prompt. Padding is no token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from polygate.errors import PolygateError
from polygate.forward.batching import left_pad, length_sorted, position_ids
from polygate.forward.device import in_halves
from polygate.forward.hooks import Edit, Record, Select, Tokens, Total, attached
from polygate.forward.loading import LoadedModel
from polygate.forward.prefixes import (
    Kept,
    Preamble,
    behind,
    no_states,
    preamble_key,
    prefix_key,
    shared_length,
    taken_apart,
)
from polygate.forward.tokenising import Tokenised, tokenise
from polygate.prompts.table import OPENING

MEAN = "mean"
POSITIONS = ("t_inst", "t_post_inst", MEAN)


@dataclass(frozen=True)
class Activations:
    """Residual stream of n prompts: `tensors[layer, position]` is [n, d] on the CPU, in the model's dtype.

    Rows are in the order of the prompts; `token_count` is int32 [n].
    """

    tensors: dict[tuple[int, str], Tensor]
    token_count: NDArray[np.int32]


def capture(
    loaded: LoadedModel,
    texts: Sequence[str],
    positions: Sequence[str] = POSITIONS,
    *,
    names: Sequence[str] | None = None,
    openings: Sequence[str] = (),
    layers: Sequence[int] | None = None,
    advance: Callable[[float], None] | None = None,
    kept: Kept | None = None,
    keep: Collection[int] = (),
) -> Activations:
    """Outputs of decoder blocks (`layers`, every one when None) for instructions, at `positions`.

    A prompt's activations don't depend on its batch (float32: within 1e-5). `names` (prompt ids) are used in errors;
    `openings` are read after the instructions (see `tokenise`), which position `opening` needs; `advance` is told how
    many prompts each batch finished. What the pass leaves in the cache of prompts number `keep` goes to `kept`, for
    what is then written after them. Raises `PolygateError` for NaN or infinite activations, naming prompt and layer,
    and when a single prompt doesn't fit into memory.
    """
    names = names if names is not None else [str(i) for i in range(len(texts))]
    chosen = tuple(range(loaded.layers)) if layers is None else tuple(layers)
    prompts = tokenise(loaded.tokenizer, texts, names, loaded.embeddings, openings)
    dtype = loaded.model.dtype
    tensors = {
        (layer, position): torch.empty((len(prompts), loaded.width), dtype=dtype)
        for layer in chosen
        for position in positions
    }

    def work(rows: list[int]) -> None:
        batch = [prompts[row] for row in rows]
        recorded, cache = read(loaded, batch, positions, chosen, preamble, not kept_rows.isdisjoint(rows))
        if kept is not None and cache is not None:
            longest = max(len(prompts[row]) for row in rows)
            prefixes = taken_apart(cache, [len(prompts[row]) - 1 for row in rows], longest - 1)
            for row, prefix in zip(rows, prefixes, strict=True):
                if row in kept_rows:
                    kept.put((prefix_key(prompts[row]), ()), prefix)
        # One transfer for all layers: each makes the host wait for the device.
        together = torch.stack([recorded[layer].to(loaded.device) for layer in chosen]).to("cpu")
        for layer, found in zip(chosen, together, strict=True):
            _check_finite(found, layer, [names[row] for row in rows])
            for place, position in enumerate(positions):
                tensors[layer, position][rows] = found[:, place]
        if advance is not None:
            advance(len(rows))

    kept_rows = frozenset(keep) if kept is not None and loaded.shares else frozenset()
    preamble = read_preamble(loaded, prompts, chosen, kept) if loaded.shares else None
    lengths = [len(prompt) - (0 if preamble is None else preamble.length) for prompt in prompts]
    in_halves(length_sorted(lengths, loaded.batch_tokens, batching=loaded.batching), work)
    return Activations(tensors, np.array([prompt.token_count for prompt in prompts], dtype=np.int32))


@torch.inference_mode()
def read_preamble(
    loaded: LoadedModel, prompts: Sequence[Tokenised], layers: tuple[int, ...], kept: Kept | None = None
) -> Preamble | None:
    """The tokens that all these prompts begin with, read or as `kept` has them; None where they have none in common.

    What is read goes to `kept`: for the next capture, and for what is written unsteered.
    """
    length = shared_length(prompts)
    if not length:
        return None
    key = preamble_key(prompts[0], length)
    known = None if kept is None else kept.get(key)
    if isinstance(known, Preamble) and known.sums.keys() >= set(layers):
        return known
    ids = torch.tensor([prompts[0].input_ids[:length]], device=loaded.device)
    mask, cache, record = torch.ones_like(ids), no_states(), Record()
    reading = [(Select(layers, torch.arange(length, device=loaded.device)[None]), record)]
    with attached(loaded.base, loaded.blocks, reading, length, loaded.stream):
        loaded.base(
            input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), past_key_values=cache, use_cache=True
        )
    sums = {layer: pad(found[0].double().cumsum(0), (0, 0, 1, 0)) for layer, found in record.recorded.items()}
    found = taken_apart(cache, [length], length)[0]
    streams = {} if known is None else known.streams
    preamble = Preamble(length, found.states, found.layout, sums, streams=streams)
    if kept is not None:
        kept.put(key, preamble)
    return preamble


@torch.inference_mode()
def read(
    loaded: LoadedModel,
    prompts: Sequence[Tokenised],
    positions: Sequence[str],
    layers: tuple[int, ...],
    preamble: Preamble | None = None,
    keep: bool = False,
) -> tuple[dict[int, Tensor], Any]:
    """Activations of one batch by layer, [b, positions, d], and its cache where that is to be kept.

    The head is never run. Prompts that begin with `preamble` go on from it. Means are summed in float64 and rounded
    once. Position `opening` needs a token of an opening in every row. See `capture`.
    """
    if preamble is None:
        ids, mask = left_pad(prompts, loaded.pad, loaded.device)
        cache = no_states() if keep else None
    else:
        left = behind([preamble], [0] * len(prompts), prompts, loaded.pad, loaded.device)
        ids, mask, cache = left.ids, left.mask, left.cache
    width = mask.shape[1]
    named = [name for name in positions if name not in (MEAN, OPENING)]
    places = torch.tensor([[width - len(p) + p.position(name) for name in named] for p in prompts], device=mask.device)
    record, total, begun = Record(), Total(), Record()
    # An opening stands last, and the rows' last tokens in the same column.
    counts = torch.tensor([p.opening for p in prompts], device=mask.device)
    last = torch.arange(width - max(p.opening for p in prompts), width, device=mask.device).expand(len(prompts), -1)
    reading: list[Edit] = [(Select(layers, places), record)] if named else []
    reading += [(Select(layers, Tokens.EVERY), total)] if MEAN in positions else []
    reading += [(Select(layers, last), begun)] if OPENING in positions else []
    given: dict[str, Any] = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    given["position_ids"] = position_ids(mask)[:, -ids.shape[1] :]
    with attached(loaded.base, loaded.blocks, reading, width, loaded.stream):
        loaded.base(input_ids=ids, attention_mask=mask, **given)

    def found(layer: int, position: str) -> Tensor:
        if position == OPENING:
            tokens = begun.recorded[layer]
            own = (last >= width - counts[:, None]).to(tokens.device)
            summed = tokens.masked_fill(~own[..., None], 0).sum(1, dtype=torch.float64)
            return (summed / counts[:, None].to(tokens.device)).to(loaded.model.dtype)
        if position != MEAN:
            return record.recorded[layer][:, named.index(position)]
        summed = total.sums[layer]
        if preamble is not None:
            summed = summed + preamble.sums[layer].to(summed.device)[left.lengths.to(summed.device)]
        return (summed / mask.sum(1, keepdim=True).to(summed.device)).to(loaded.model.dtype)

    stacked = {layer: torch.stack([found(layer, position) for position in positions], dim=1) for layer in layers}
    return stacked, cache if keep else None


def _check_finite(found: Tensor, layer: int, names: Sequence[str]) -> None:
    finite = found.isfinite().all(dim=-1).all(dim=-1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0, 0])
        raise PolygateError(
            f"NaN or infinite activations of prompt {names[first]} after block {layer}",
            do="use another dtype or attention implementation for this model (float16 overflows in many)",
        )
