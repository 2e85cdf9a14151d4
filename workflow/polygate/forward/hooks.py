"""Reading and changing the residual stream: one description, `Select` and what to apply, for capture and steering.

    Select(layers, tokens, rows)     which block outputs: decoder blocks, tokens, rows of the batch
    Record | Total | Add | Ablate    what happens there

`attached(...)` puts a list of such pairs on a model and takes them off again whatever happens. Which tokens of a
chunk are the prompt's last and which were generated is decided by their place in the cache, never by the chunk's
length: one-token prompts and chunked prefill come out right. Hidden states are never changed in place, rows that
are not selected keep their bits, and where nothing is selected the block's output is passed on untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn


class Tokens(Enum):
    """Tokens that an `Add` or `Ablate` changes, or a `Total` sums."""

    EVERY = "every token that is not padding"
    ANSWERING = "the prompt's last token and every generated token"
    GENERATED = "every generated token, not the prompt's last"


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
class Total:
    """Sum the selected tokens: `sums[layer]` becomes a float64 [b, d] tensor."""

    sums: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Add:
    """h ← h + c·v. `vectors` is v, [d], or [layers, d] with one for each layer of its `Select`.

    `coefficients`, [b], is c of each row, 1 when None. `which`, int64 [b], gives rows vectors of their own: `vectors`
    is then [k, d] or [layers, k, d], and the row's is the one of that number.
    """

    vectors: Tensor
    coefficients: Tensor | None = None
    which: Tensor | None = None


@dataclass(frozen=True)
class Ablate:
    """h ← h - c·(h·u)u, directional ablation where c = 1. `vectors` are unit vectors u; the rest is as in `Add`."""

    vectors: Tensor
    coefficients: Tensor | None = None
    which: Tensor | None = None


Edit = tuple[Select, Record | Total | Add | Ablate]


@dataclass
class Chunk:
    """Where the tokens of the running forward pass stand: first place in the cache, mask of the chunk [b, t].

    `chosen` keeps, by edit and device, which of its tokens are to change, None for all: the same for every block.
    """

    start: int = 0
    mask: Tensor | None = None
    chosen: dict[tuple[int, torch.device], Tensor | None] = field(default_factory=dict)


class Attached:
    """Edits on a model, as long as the context is open."""

    def __init__(self, edits: Sequence[Edit], prompt_width: int, stream: int | None = None) -> None:
        self.edits = list(edits)
        self.prompt_width = prompt_width
        self.stream = stream
        self.chunk = Chunk()
        self._seen = 0
        self._placed: dict[tuple[int, int, torch.device, torch.dtype], tuple[Tensor, Tensor | None]] = {}
        self._rows: dict[tuple[int, torch.device], Tensor] = {}

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (int64) of the batch only, as the cache does once others have finished."""
        kept = [(_keep_select(select, rows), _keep_apply(apply, rows)) for select, apply in self.edits]
        self.edits = [edit for edit in kept if edit[0].rows is None or bool(edit[0].rows.any())]
        self._placed.clear()
        self._rows.clear()

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
            elif isinstance(apply, Total):
                self._add_up(layer, number, changed, select, apply)
            else:
                changed = self._change(layer, number, changed, select, apply)
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

    def _add_up(self, layer: int, number: int, hidden: Tensor, select: Select, apply: Total) -> None:
        first = self._first(select.tokens)
        if first >= hidden.shape[1]:
            return
        some, chosen = hidden[:, first:], self._chosen(number, hidden, select, first)
        if chosen is not None:
            some = some.masked_fill(~chosen[..., None], 0)
        total = some.sum(1, dtype=torch.float64)
        apply.sums[layer] = apply.sums[layer] + total if layer in apply.sums else total

    def _change(self, layer: int, number: int, hidden: Tensor, select: Select, apply: Add | Ablate) -> Tensor:
        first = self._first(select.tokens)
        if first >= hidden.shape[1]:
            return hidden
        some, chosen = hidden[:, first:], self._chosen(number, hidden, select, first)
        stream = some.to(torch.promote_types(hidden.dtype, torch.float32))
        vector, coefficients = self._place(number, select.layers.index(layer), stream, apply)
        if isinstance(apply, Ablate):
            along = (stream * vector).sum(-1, keepdim=True)
            scale = along if coefficients is None else along * coefficients
            changed = torch.addcmul(stream, scale, vector, value=-1)
        elif coefficients is None:
            changed = stream + vector
        else:
            changed = torch.addcmul(stream, coefficients, vector)
        changed = changed.to(hidden.dtype)
        if chosen is not None:
            changed = torch.where(chosen[..., None], changed, some)
        return changed if first == 0 else torch.cat([hidden[:, :first], changed], dim=1)

    def _first(self, tokens: Tokens | Tensor) -> int:
        """The first of this chunk's tokens that may be among `tokens`; as many as it has, or more, when none is."""
        if not isinstance(tokens, Tokens):
            raise TypeError("Total, Add and Ablate need a member of Tokens")
        place = {Tokens.EVERY: 0, Tokens.ANSWERING: self.prompt_width - 1, Tokens.GENERATED: self.prompt_width}
        return max(0, place[tokens] - self.chunk.start)

    def _chosen(self, number: int, hidden: Tensor, select: Select, first: int) -> Tensor | None:
        """Bool [b, t - first] or [b, 1]: which of this chunk's tokens from `first` on to change; None for all."""
        where = (number, hidden.device)
        if where not in self.chunk.chosen:
            chosen = None
            if select.rows is not None:
                if where not in self._rows:  # Copied there once, not at every token.
                    self._rows[where] = select.rows.to(hidden.device)[:, None]
                chosen = self._rows[where]
            # From the last token of the prompt on there is no padding.
            if self.chunk.mask is not None and self.chunk.start + first < self.prompt_width - 1:
                real = self.chunk.mask[:, first:].to(hidden.device).bool()
                chosen = real if chosen is None else real & chosen
            self.chunk.chosen[where] = chosen
        return self.chunk.chosen[where]

    def _place(self, number: int, place: int, stream: Tensor, apply: Add | Ablate) -> tuple[Tensor, Tensor | None]:
        """The edit's vector at the layer of that place and its coefficients, on the stream's device and in its dtype.

        Shaped to go with [b, t, d]; copied there once.
        """
        per_layer = apply.vectors.dim() == (2 if apply.which is None else 3)
        key = (number, place if per_layer else -1, stream.device, stream.dtype)
        if key not in self._placed:
            vector = (apply.vectors[place] if per_layer else apply.vectors).to(stream.device, stream.dtype)
            if apply.which is not None:
                vector = _rows(vector, apply.which)[:, None]
            given = apply.coefficients
            coefficients = None if given is None else given.to(stream.device, stream.dtype)[:, None, None]
            self._placed[key] = (vector, coefficients)
        return self._placed[key]


def _keep_select(select: Select, rows: Tensor) -> Select:
    tokens = select.tokens if isinstance(select.tokens, Tokens) else _rows(select.tokens, rows)
    kept = None if select.rows is None else _rows(select.rows, rows)
    return Select(select.layers, tokens, None if kept is None or bool(kept.all()) else kept)


def _keep_apply(apply: Record | Total | Add | Ablate, rows: Tensor) -> Record | Total | Add | Ablate:
    if isinstance(apply, Record | Total):
        return apply
    coefficients = None if apply.coefficients is None else _rows(apply.coefficients, rows)
    return replace(apply, coefficients=coefficients, which=None if apply.which is None else _rows(apply.which, rows))


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
