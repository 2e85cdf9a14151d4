"""Keys and values of prompts' tokens, taken out of one batch and put together in another.

A decoder's keys and values of a token depend on nothing behind it. So what a pass over a prompt has left in the cache
serves whatever begins with the same tokens and does the same to them: its capture, its unsteered text, every
addition from the last token on, the scores of its options. They are kept prompt by prompt, without padding.

Layers that attend to a window keep every token here: the mask lets them see what they may. Of a model on several
devices each layer's keys and values stay on that of its block.

All prompts of a chat model begin alike, with what its template writes before the instruction (a system prompt of
twenty to forty tokens in Llama's, Qwen's and SmolLM's, beside instructions of about as many). That preamble is read
once, and each prompt goes on from it (`behind`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Self

import torch
from torch import Tensor

from polygate.forward.batching import left_pad
from polygate.forward.sizes import KEPT_BYTES
from polygate.forward.tokenising import Tokenised


@dataclass(frozen=True)
class Layout:
    """Which of a cache's keys and values lie in one tensor: those of one shape on a GPU, of one layer on a CPU.

    `groups[g]` names them in order, each by its layer and 0 for keys, 1 for values. Of `depth` layers those without a
    cache of their own are in no group.
    """

    depth: int
    groups: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def complete(self) -> bool:
        """Whether every layer has keys and values of its own."""
        return len({layer for group in self.groups for layer, _ in group}) == self.depth


NOTHING = Layout(0, ())


@dataclass(frozen=True)
class Prefix:
    """The first `length` tokens of one prompt: keys and values of every layer of the cache.

    `states[g]` is [members of group g of the `layout`, heads, length, d]. On a GPU layers lie together, because a copy
    of a row costs a launch for every tensor that it is spread over. `streams` holds what some blocks pass on of these
    tokens left alone, [length, d] by block: what others go on from (`forward/resuming.py`).
    """

    length: int
    states: tuple[Tensor, ...]
    layout: Layout
    streams: Mapping[int, Tensor] = field(default_factory=dict, kw_only=True)

    def copied(self) -> Self:
        """The same in memory of its own, of no larger batch."""
        streams = {layer: tensor.clone() for layer, tensor in self.streams.items()}
        return replace(self, states=tuple(one.clone() for one in self.states), streams=streams)

    @property
    def bytes(self) -> int:
        """Size of all keys, values and streams."""
        return sum(one.nbytes for one in (*self.states, *self.streams.values()))


@dataclass(frozen=True)
class Preamble(Prefix):
    """What all prompts of a capture begin with, and the sums of its first 0, 1, 2 … tokens' residual streams.

    `sums[layer]` is float64 [length + 1, d].
    """

    sums: Mapping[int, Tensor]

    def copied(self) -> Self:
        """The same in memory of its own."""
        return replace(super().copied(), sums={layer: tensor.clone() for layer, tensor in self.sums.items()})

    @property
    def bytes(self) -> int:
        """Size of all keys, values, streams and sums."""
        return super().bytes + sum(tensor.nbytes for tensor in self.sums.values())


NO_TOKENS = Prefix(0, (), NOTHING)


class Kept:
    """Prefixes by what made them, up to `limit` bytes: the ones that were used longest ago make room.

    `wanted` names blocks that something has gone on from: what they pass on is kept with prompts that are left alone.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit, self.bytes = limit, 0
        self.wanted: set[int] = set()
        self._found: OrderedDict[Hashable, Prefix] = OrderedDict()

    def get(self, key: Hashable) -> Prefix | None:
        """What was put there, unless it had to make room."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, key: Hashable, prefix: Prefix) -> None:
        """Keep a copy, unless it is larger than the limit."""
        earlier = self._found.pop(key, None)
        self.bytes -= 0 if earlier is None else earlier.bytes
        if prefix.bytes > self.limit:
            return
        self._found[key] = prefix.copied()
        self.bytes += prefix.bytes
        while self.bytes > self.limit:
            self.bytes -= self._found.popitem(last=False)[1].bytes


def taken_apart(cache: Any, lengths: Sequence[int], end: int) -> list[Prefix]:
    """The prefixes in a cache of left-padded rows, whose last token stands before column `end`.

    `lengths` are those of the rows without padding. What `put_together` or `behind` made is not copied.
    """
    layout, wholes = getattr(cache, "together", None) or _stacked(cache)
    return [
        Prefix(length, tuple(whole[:, row, :, end - length : end] for whole in wholes), layout) if length else NO_TOKENS
        for row, length in enumerate(lengths)
    ]


def _stacked(cache: Any) -> tuple[Layout, list[Tensor]]:
    """The layout of a cache that transformers has filled, and its groups, [members, b, heads, columns, d]."""
    found: dict[Hashable, dict[tuple[int, int], Tensor]] = {}
    for number, layer in enumerate(cache.layers):
        if layer.is_initialized:
            for which, one in enumerate((layer.keys, layer.values)):
                # On a CPU a copy costs its bytes, and memory for all layers at once is fetched anew every time.
                alike = number if one.device.type == "cpu" else None
                found.setdefault((one.device, one.dtype, one.shape, alike), {})[number, which] = one
    layout = Layout(len(cache.layers), tuple(map(tuple, found.values())))
    return layout, [torch.stack(list(group.values())) for group in found.values()]


def put_together(prefixes: Sequence[Prefix], room: int) -> tuple[Any, Tensor]:
    """A cache for a batch of these rows, left-padded, with room for as many more columns; and their mask, int64.

    The mask [b, longest + room] is 1 from each row's first token on, on the CPU.
    """
    width = max(prefix.length for prefix in prefixes)
    mask = torch.ones((len(prefixes), width + room), dtype=torch.int64)
    for row, prefix in enumerate(prefixes):
        mask[row, : width - prefix.length] = 0
    if not width:
        return no_states(), mask
    like = max(prefixes, key=lambda prefix: prefix.length)
    wholes = []
    for group, one in enumerate(like.states):
        members, heads, _, d = one.shape
        whole = one.new_zeros((members, len(prefixes), heads, width + room, d))
        for row, prefix in enumerate(prefixes):
            if prefix.length:
                whole[:, row, :, width - prefix.length : width] = prefix.states[group]
        wholes.append(whole)
    return with_room(like.layout, wholes, width), mask


def with_room(layout: Layout, wholes: Sequence[Tensor], filled: int) -> Any:
    """A cache of these groups, [members, b, heads, columns, d], whose first `filled` columns are there already."""
    from transformers.cache_utils import DynamicLayer

    found = {
        name: whole[place]
        for names, whole in zip(layout.groups, wholes, strict=True)
        for place, name in enumerate(names)
    }
    made, cache = layerwith_room(), no_states()
    cache.layers = [
        made(found[number, 0], found[number, 1], filled) if (number, 0) in found else DynamicLayer()
        for number in range(layout.depth)
    ]
    cache.together = layout, wholes
    return cache


def shared_length(prompts: Sequence[Tokenised]) -> int:
    """How many tokens all of these prompts begin with, t_inst and the last token of each left out."""
    if not prompts:
        return 0
    # The first and the last in order differ where any two do.
    ends = min(prompt.input_ids for prompt in prompts), max(prompt.input_ids for prompt in prompts)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))
    return min(same, *(min(prompt.t_inst, len(prompt) - 2) for prompt in prompts))


@dataclass(frozen=True)
class Behind:
    """A left-padded batch of which the first columns are in the `cache` already.

    `ids` int64 [b, t - known] are the others, `mask` int64 [b, t] is of all; `lengths` int64 [b] says how many of a
    row's known columns are tokens of its own, the rest being padding. `cache` has room for all columns.
    """

    ids: Tensor
    mask: Tensor
    cache: Any
    lengths: Tensor


def behind(
    preambles: Sequence[Prefix],
    which: Sequence[int],
    prompts: Sequence[Tokenised],
    pad: int,
    device: torch.device,
) -> Behind:
    """These prompts, each behind the preamble of its number (`which`); all preambles have the same length.

    Where a prompt is shorter than the longest, the last tokens of its preamble are read again: they take the place
    of padding, so that all rows end in one column and none has padding between its tokens.
    """
    ids, mask = left_pad(prompts, pad, device)
    known, width = preambles[0].length, ids.shape[1]
    padding = torch.tensor([width - len(prompt) for prompt in prompts])
    lengths = (known - padding).clamp(min=0)
    columns = (torch.arange(known) - padding[:, None]).clamp(min=0)
    rows = torch.tensor(list(which))[:, None]
    place = rows.to(device), columns.to(device)
    wholes = []
    for ones in zip(*(preamble.states for preamble in preambles), strict=True):
        stacked = torch.stack(ones)
        found = stacked[place[0].to(stacked.device), :, :, place[1].to(stacked.device)].permute(2, 0, 3, 1, 4)
        whole = found.new_zeros((*found.shape[:3], width, found.shape[4]))
        whole[:, :, :, :known] = found
        wholes.append(whole)
    return Behind(ids[:, known:], mask, with_room(preambles[0].layout, wholes, known), lengths.to(device))


def no_states() -> Any:
    """A cache of no tokens, each of whose layers keeps all that it is given."""
    from transformers import DynamicCache

    return DynamicCache()


def layerwith_room() -> Any:
    """The class of a cache layer whose keys and values are there from the start, [b, heads, room, d].

    It is what a static cache is, but for its masked rest, which attention never reads here. CPU time of a step's 30
    layers (32 rows, 100 tokens before, 3 heads of 64, one AVX2 core): 2.4 ms to write and 40 ms of attention; of
    transformers' StaticLayer 4.2 and 42, of its DynamicLayer, which concatenates, 23 and 33. What a fixed width is made
    for, compiled steps and CUDA graphs, is not used: rows, width and hooks change from batch to batch.
    """
    from transformers.cache_utils import DynamicLayer

    class Layer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, keys: Tensor, values: Tensor, filled: int) -> None:
            super().__init__()
            self.dtype, self.device = keys.dtype, keys.device
            self.whole = (keys, values)
            self.is_initialized = True
            self._show(filled)

        def _show(self, filled: int) -> None:
            self.filled = filled
            self.keys, self.values = (one[:, :, :filled] for one in self.whole)

        def update(self, keys: Tensor, values: Tensor, *_args: Any, **_more: Any) -> tuple[Tensor, Tensor]:
            end = self.filled + keys.shape[2]
            for whole, new in zip(self.whole, (keys, values), strict=True):
                whole[:, :, self.filled : end] = new
            self._show(end)
            return self.keys, self.values

    return Layer


def prefix_key(prompt: Tokenised) -> tuple[int, ...]:
    """The tokens of a prompt but the last."""
    return prompt.input_ids[:-1]


def preamble_key(prompt: Tokenised, length: int, acting: Hashable = ()) -> Hashable:
    """Where `Kept` has a prompt's first `length` tokens, with what acts on them: nothing, as capture reads them."""
    return prompt.input_ids[:length], acting
