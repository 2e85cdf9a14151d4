"""Reading and changing the residual stream: one description, `Select` and what to apply, for capture and steering.

    Select(layers, tokens, rows)   which block outputs: decoder blocks, tokens, rows of the batch
    Record | Add | Ablate          what happens there

`attached(...)` puts a list of such pairs on a model and takes them off again whatever happens. Which tokens of a
chunk are the prompt's last and which were generated is decided by their place in the cache, never by the chunk's
length: one-token prompts and chunked prefill come out right. Hidden states are never changed in place, rows that
are not selected keep their bits, and where nothing is selected the block's output is passed on untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn


class Tokens(Enum):
    """Tokens that an `Add` or `Ablate` changes."""

    EVERY = "every token that is not padding"
    ANSWERING = "the prompt's last token and every generated token"


@dataclass(frozen=True)
class Select:
    """Which activations: outputs of decoder blocks `layers` (0-based), at `tokens`, in `rows` of the batch.

    `tokens` is a member of `Tokens`, or an int64 tensor [b, k] of places in the padded prompt (for `Record`).
    `rows` is bool [b], every row when None.
    """

    layers: tuple[int, ...]
    tokens: Tokens | Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Record:
    """Keep the selected activations: `recorded[layer]` becomes a [b, k, d] tensor in the model's dtype."""

    recorded: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Add:
    """h ← h + vector. `vector` is [d], or [b, d] with one vector for each row of the batch."""

    vector: Tensor


@dataclass(frozen=True)
class Ablate:
    """Directional ablation h ← h - (h·u)u. `unit` is a unit vector [d], or [b, d] with one for each row."""

    unit: Tensor


Edit = tuple[Select, Record | Add | Ablate]


@dataclass
class Chunk:
    """Where the tokens of the running forward pass stand: first place in the cache, mask of the chunk [b, t].

    `chosen` keeps, by edit and device, which of its tokens are to change: the same for every block.
    """

    start: int = 0
    mask: Tensor | None = None
    chosen: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict)


class Attached:
    """Edits on a model, as long as the context is open."""

    def __init__(self, edits: Sequence[Edit], prompt_width: int, stream: int | None = None) -> None:
        self.edits = list(edits)
        self.prompt_width = prompt_width
        self.stream = stream
        self.chunk = Chunk()
        self._seen = 0
        self._placed: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (int64) of the batch only, as the cache does once others have finished."""
        self.edits = [(_keep_select(select, rows), _keep_apply(apply, rows)) for select, apply in self.edits]
        self._placed.clear()

    def see_inputs(self, _module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Pre-hook of the base model: note where this chunk stands."""
        start, mask = self._start(args, kwargs), kwargs.get("attention_mask")
        self.chunk = Chunk(start, None if mask is None else mask[:, start:])

    def _start(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """The first place of this chunk: what the mask holds beyond it, or the cache, or what has gone by."""
        given = args[0] if args else kwargs.get("input_ids")
        length = 0 if given is None else int(given.shape[1])
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        start = self._seen if kwargs.get("use_cache") else 0
        if mask is not None and given is not None:
            start = int(mask.shape[1]) - length
        elif cache is not None:
            start = int(cache.get_seq_length())
        self._seen = start + length
        return start

    def see_block(self, layer: int, output: Any) -> Any:
        """Hook of a decoder block: its output with the edits applied, or None when nothing changes."""
        whole: Tensor = output if isinstance(output, Tensor) else output[0]
        hidden = whole if self.stream is None else whole[self.stream]
        changed = hidden
        for number, (select, apply) in enumerate(self.edits):
            if layer not in select.layers:
                continue
            if isinstance(apply, Record):
                self._record(layer, changed, select, apply)
            else:
                changed = self._change(number, changed, select, apply)
        if changed is hidden:
            return None
        if self.stream is not None:
            streams = list(whole)
            streams[self.stream] = changed
            changed = torch.stack(streams)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    def _record(self, layer: int, hidden: Tensor, select: Select, apply: Record) -> None:
        if not isinstance(select.tokens, Tensor):
            raise TypeError("Record needs places in the prompt, not a rule")
        places = select.tokens.to(hidden.device) - self.chunk.start
        inside = (places >= 0) & (places < hidden.shape[1])
        batch = torch.arange(hidden.shape[0], device=hidden.device)[:, None]
        found = hidden[batch, places.clamp(0, hidden.shape[1] - 1)]
        earlier = apply.recorded.get(layer)
        apply.recorded[layer] = found if earlier is None else torch.where(inside[..., None], found, earlier)

    def _change(self, number: int, hidden: Tensor, select: Select, apply: Add | Ablate) -> Tensor:
        where = (number, hidden.device)
        if where not in self.chunk.chosen:
            self.chunk.chosen[where] = self._chosen(hidden, select)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        stream = hidden.to(wide)
        vector = self._vector(number, hidden, wide, apply)
        if isinstance(apply, Add):
            changed = stream + vector
        else:
            changed = stream - (stream * vector).sum(-1, keepdim=True) * vector
        return torch.where(self.chunk.chosen[where][..., None], changed.to(hidden.dtype), hidden)

    def _chosen(self, hidden: Tensor, select: Select) -> Tensor:
        """Bool [b, t]: tokens of this chunk to change."""
        batch, length = hidden.shape[:2]
        chosen = torch.ones((batch, length), dtype=torch.bool, device=hidden.device)
        if self.chunk.mask is not None:
            chosen = chosen & self.chunk.mask.to(hidden.device).bool()
        if select.rows is not None:
            chosen = chosen & select.rows.to(hidden.device)[:, None]
        if select.tokens is Tokens.ANSWERING:
            places = torch.arange(self.chunk.start, self.chunk.start + length, device=hidden.device)
            chosen = chosen & (places >= self.prompt_width - 1)
        elif select.tokens is not Tokens.EVERY:
            raise TypeError("Add and Ablate need a member of Tokens")
        return chosen

    def _vector(self, number: int, hidden: Tensor, dtype: torch.dtype, apply: Add | Ablate) -> Tensor:
        """The edit's vector on the hidden states' own device, shaped to be added to [b, t, d]; copied there once."""
        key = (number, hidden.device, dtype)
        if key not in self._placed:
            vector = (apply.vector if isinstance(apply, Add) else apply.unit).to(hidden.device, dtype)
            self._placed[key] = vector[:, None] if vector.dim() == 2 else vector
        return self._placed[key]


def _keep_select(select: Select, rows: Tensor) -> Select:
    tokens = select.tokens if isinstance(select.tokens, Tokens) else _rows(select.tokens, rows)
    return Select(select.layers, tokens, None if select.rows is None else _rows(select.rows, rows))


def _keep_apply(apply: Record | Add | Ablate, rows: Tensor) -> Record | Add | Ablate:
    if isinstance(apply, Add) and apply.vector.dim() == 2:
        return Add(_rows(apply.vector, rows))
    if isinstance(apply, Ablate) and apply.unit.dim() == 2:
        return Ablate(_rows(apply.unit, rows))
    return apply


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor[rows.to(tensor.device)]


@contextmanager
def attached(
    base: nn.Module,
    blocks: Sequence[nn.Module],
    edits: Sequence[Edit],
    prompt_width: int,
    stream: int | None = None,
) -> Iterator[Attached]:
    """Put edits on a model for as long as the context is open.

    `base` is the module that receives `attention_mask` and `past_key_values` (the transformer without its head),
    `blocks` its decoder blocks; `prompt_width` is the padded length of the prompts, so that place
    `prompt_width - 1` holds every row's last prompt token (left padding). Blocks that pass several
    residual streams, [streams, b, t, d], are read and changed in `stream`. Without edits nothing is attached.
    Raises ValueError for a layer that the model doesn't have.
    """
    layers = sorted({layer for select, _ in edits for layer in select.layers})
    if layers and not 0 <= layers[0] <= layers[-1] < len(blocks):
        raise ValueError(f"layers {layers} of a model with {len(blocks)}")
    state = Attached(edits, prompt_width, stream)
    handles: list[Any] = []
    try:
        if edits:
            handles.append(base.register_forward_pre_hook(state.see_inputs, with_kwargs=True))
        handles.extend(blocks[layer].register_forward_hook(_block_hook(state, layer)) for layer in layers)
        yield state
    finally:
        for handle in handles:
            handle.remove()


def _block_hook(state: Attached, layer: int) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        return state.see_block(layer, output)

    return hook
