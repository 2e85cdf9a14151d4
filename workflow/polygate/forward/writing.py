"""Greedy writing of many prompts: each prompt's tokens are read once, and rows that finish make room for others.

A prompt is read up to its last token, unsteered but for what acts on every token; who needs the same again takes it
from `Kept`, and what all prompts begin with is read once for all. Where something acts on every token, but from some
block on, the blocks below have done their part when the prompt was read alone (`forward/resuming.py`). The last token
is a step of its own, from which the arms part. Then rows of whatever prompts are written together, and once a quarter
of them have finished, those that wait take their places. Per step one small transfer from the device says what was
written.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polygate.forward import passes, resuming
from polygate.forward.batching import left_pad, length_sorted, position_ids
from polygate.forward.device import fits, in_halves, smaller
from polygate.forward.edits import edits
from polygate.forward.hooks import Edit, Record, Select, attached
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel
from polygate.forward.prefixes import (
    NO_TOKENS,
    Kept,
    Prefix,
    behind,
    no_states,
    preamble_key,
    prefix_key,
    put_together,
    shared_length,
    taken_apart,
)
from polygate.forward.tokenising import Tokenised

_REFILL_AT = 0.75
"""Below this share of rows still being written, finished ones leave and others take their places."""
_MOST_ROWS = {"cpu": 256, "cuda": 512}
_Key = tuple[tuple[int, ...], tuple[tuple[str, float], ...]]
"""A prompt's tokens but the last, and what acts on all of them: digests of parts with their coefficients."""


@dataclass
class _Row:
    """A prompt that is being written: `prefix` is of the prompt and all written `tokens` but the last."""

    number: int
    tokens: list[int]
    prefix: Prefix


class Writer:
    """Prompts of one model and what is done to them, ready to be read and written; see `generate` and `score`.

    `kept` may hold what earlier passes over the same prompts have left.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[Tokenised],
        intervention: Intervention | None,
        names: Sequence[str],
        kept: Kept | None = None,
    ) -> None:
        self.loaded, self.prompts, self.intervention, self.names = loaded, prompts, intervention, names
        self.kept = Kept() if kept is None else kept
        parts = () if intervention is None else intervention.parts
        # A part's digest without its coefficients: those stand beside it.
        self._acting = [
            (replace(part, coefficients=part.coefficients[:0]).digest(), part.coefficients)
            for part in parts
            if part.tokens == "every"
        ]
        reading = tuple(part for part in parts if part.tokens == "every")
        self._reading = None if intervention is None else Intervention(intervention.prompt_ids, reading)
        self._keys = [self._key(number) for number in range(len(prompts))]
        self._uses = Counter(self._keys)
        self._shared = shared_length(prompts)
        self._most = _MOST_ROWS[loaded.device.type]
        self._begins = [self._beginning(number, reading) for number in range(len(prompts))]
        self.kept.wanted |= {layer for layer in self._begins if layer is not None}
        self._saved = Counter[tuple[int, ...]]()
        for (prompt, _), layer in dict(zip(self._keys, self._begins, strict=True)).items():
            self._saved[prompt] += 0 if layer is None else layer + 1

    def _key(self, number: int) -> _Key:
        """What the keys and values of a prompt's tokens but the last depend on."""
        acting = tuple((part, float(c[number])) for part, c in self._acting if c[number])
        return prefix_key(self.prompts[number]), acting

    def _beginning(self, number: int, reading: Sequence[Part]) -> int | None:
        """The block from which on a prompt's tokens are acted on, where going on from there is worth it."""
        first = min((part.layers[0] for part in reading if part.coefficients[number]), default=None)
        goes = first is not None and self.loaded.resumes and resuming.worth(first, self.loaded.layers)
        return first if goes and len(self.prompts[number]) > 1 else None

    def order(self) -> list[int]:
        """Longest first, prompts that share a prefix after each other."""
        order = range(len(self.prompts))
        return sorted(order, key=lambda number: (-len(self.prompts[number]), repr(self._keys[number]), number))

    def _steering(self, intervention: Intervention | None, rows: Sequence[int]) -> list[Edit]:
        return [] if intervention is None else edits(intervention.rows(rows))

    def prefixes(self, rows: Sequence[int]) -> list[Prefix]:
        """All tokens but the last of these prompts: kept ones, and others read now, each once."""
        found: dict[_Key, Prefix] = {}
        missing: dict[_Key, int] = {}
        for number in rows:
            key = self._keys[number]
            known = NO_TOKENS if len(self.prompts[number]) == 1 else self.kept.get(key)
            if known is None:
                missing.setdefault(key, number)
            else:
                found[key] = known
        alone = {key: number for key, number in missing.items() if not key[1]}
        acted: dict[int | None, list[int]] = {}
        for key, number in missing.items():
            if key[1]:
                layer = self._begins[number]
                known_below = layer is not None and self._is_below(number, layer, found, alone)
                acted.setdefault(layer if known_below else None, []).append(number)
        self._read_all(list(alone.values()), None, found, alone=True)
        for layer, numbers in acted.items():
            self._read_all(numbers, layer, found)
        return [found[self._keys[number]] for number in rows]

    def _is_below(self, number: int, layer: int, found: dict[_Key, Prefix], alone: dict[_Key, int]) -> bool:
        """Whether the prompt left alone is there to go on from, or is to be read now.

        That is, if it is asked for too, or the blocks that it saves all ways of acting on the prompt are more than it
        takes.
        """
        key: _Key = (self._keys[number][0], ())
        if key in alone:
            return True
        known = found.get(key) or self.kept.get(key)
        if known is not None and layer in known.streams:
            found[key] = known
            return True
        needed = (self._uses[key] and known is None) or self._saved[key[0]] > self.loaded.layers
        if needed:
            alone[key] = number
        return bool(needed)

    def _read_all(
        self, numbers: Sequence[int], layer: int | None, found: dict[_Key, Prefix], alone: bool = False
    ) -> None:
        """Read these prompts into `found`: `alone`, or acted on, from the block `layer` on where it is given."""
        lengths = [len(self.prompts[number]) - 1 - self._shared for number in numbers]

        def work(batch: list[int]) -> None:
            chosen = [numbers[i] for i in batch]
            keys: list[_Key] = [(self._keys[number][0], ()) if alone else self._keys[number] for number in chosen]
            trunks = None if layer is None else [found[prompt, ()] for prompt, _ in keys]
            for key, prefix in zip(keys, self._read(chosen, keys, layer, trunks), strict=True):
                found[key] = prefix
                if alone or self._uses[key] > 1:
                    self.kept.put(key, prefix)

        in_halves(length_sorted(lengths, self.loaded.batch_tokens), work)

    def _read(
        self, rows: Sequence[int], keys: Sequence[_Key], layer: int | None, trunks: Sequence[Prefix] | None
    ) -> list[Prefix]:
        loaded = self.loaded
        given = [replace(self.prompts[row], input_ids=self.prompts[row].input_ids[:-1]) for row in rows]
        alone, cache, before = not keys[0][1], None, None
        if self._shared:
            preambles = self._preambles(rows, [acting for _, acting in keys])
            number = {acting: place for place, acting in enumerate(preambles)}
            which = [number[acting] for _, acting in keys]
            left = behind(list(preambles.values()), which, given, loaded.pad, loaded.device)
            ids, mask, cache = left.ids, left.mask, left.cache
            before = preambles[()] if alone else None
        else:
            ids, mask = left_pad(given, loaded.pad, loaded.device)
            cache = None if trunks is None else resuming.nothing_yet(trunks[0], len(rows), ids.shape[1])
        if layer is None or trunks is None:
            return self._pass(rows, ids, mask, cache, alone=alone, before=before)
        stream = resuming.last_columns(trunks, layer, ids.shape[1])
        with resuming.standing_in(loaded.blocks[: layer + 1], stream):
            after = self._pass(rows, ids, mask, cache)
        return [resuming.put_below(prefix, trunk, layer) for prefix, trunk in zip(after, trunks, strict=True)]

    def _preambles(self, rows: Sequence[int], actings: Sequence[Hashable]) -> dict[Hashable, Prefix]:
        """What these prompts begin with, once for each way in which it is acted on."""
        first = self.prompts[rows[0]]
        one = dict(zip(actings, rows, strict=True))
        keys = {acting: preamble_key(first, self._shared, acting) for acting in one}
        found: dict[Hashable, Prefix] = {}
        for acting, key in keys.items():
            known = self.kept.get(key)
            if known is not None and (acting or known.streams.keys() >= self.kept.wanted):
                found[acting] = known
        missing = [acting for acting in one if acting not in found]
        # On its own, so that prompts that are left alone keep their bits whatever is done to others.
        alone = [acting for acting in missing if not acting]
        for together in filter(None, (alone, [acting for acting in missing if acting])):
            given = torch.tensor([first.input_ids[: self._shared]] * len(together), device=self.loaded.device)
            numbers = [one[acting] for acting in together]
            made = self._pass(numbers, given, torch.ones_like(given), alone=not together[0])
            for acting, prefix in zip(together, made, strict=True):
                known = None if acting else self.kept.get(keys[acting])
                # A capture's has the sums of its layers too.
                found[acting] = prefix if known is None else replace(known, streams=prefix.streams)
                self.kept.put(keys[acting], found[acting])
        return {acting: found[acting] for acting in one}

    def _pass(
        self,
        rows: Sequence[int],
        ids: Tensor,
        mask: Tensor,
        cache: Any = None,
        *,
        alone: bool = False,
        before: Prefix | None = None,
    ) -> list[Prefix]:
        """Read the last columns of a batch, the others being in the cache; the rows' tokens, all of them.

        Prompts that are left `alone` come with the streams that are wanted, of the columns ahead those of `before`.
        """
        loaded, width, record = self.loaded, mask.shape[1], Record()
        cache = no_states() if cache is None else cache
        steering, wanted = [] if alone else self._steering(self._reading, rows), tuple(sorted(self.kept.wanted))
        if alone and wanted:
            places = torch.arange(width - ids.shape[1], width, device=mask.device).expand(len(rows), -1)
            steering = [(Select(wanted, places), record)]
        with attached(loaded.base, loaded.blocks, steering, width + 1, loaded.stream):
            loaded.base(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position_ids(mask)[:, -ids.shape[1] :],
                past_key_values=cache,
                use_cache=True,
            )
        lengths = mask.sum(1).tolist()
        found = taken_apart(cache, lengths, width)
        if not record.recorded:
            return found
        streams = [resuming.whole_streams(before, record.recorded, row, length) for row, length in enumerate(lengths)]
        return [replace(prefix, streams=own) for prefix, own in zip(found, streams, strict=True)]

    def start(self, rows: Sequence[int], more: bool = False) -> tuple[Tensor, list[Prefix]]:
        """Logits after these prompts' last tokens, [b, vocabulary], and their prefixes with that token (if `more`)."""
        loaded, before = self.loaded, self.prefixes(rows)
        states, mask = put_together(before, 1)
        mask = mask.to(loaded.device)
        width = mask.shape[1] - 1
        ids = torch.tensor([[self.prompts[row].input_ids[-1]] for row in rows], device=loaded.device)
        steering = self._steering(self.intervention, rows)
        with attached(loaded.base, loaded.blocks, steering, width + 1, loaded.stream):
            logits = passes.last_logits(
                loaded, ids, mask, position_ids(mask)[:, -1:], passes.Cache(loaded.model, states)
            )
        after = taken_apart(states, [prefix.length + 1 for prefix in before], width + 1) if more else []
        return logits, after

    @torch.inference_mode()
    def write(
        self, max_new_tokens: int, advance: Callable[[float], None], finish: Callable[[int, list[int]], None]
    ) -> None:
        """Write every prompt; `finish` is told its number and tokens, up to and with the one that ended them."""
        waiting, parked, running = deque(self.order()), list[_Row](), list[_Row]()

        def done(row: _Row) -> bool:
            advance(
                (max_new_tokens - len(row.tokens) + 1 if row.tokens[-1] in self.loaded.stop else 1) / max_new_tokens
            )
            if row.tokens[-1] not in self.loaded.stop and len(row.tokens) < max_new_tokens:
                return False
            finish(row.number, row.tokens)
            return True

        def begin(numbers: list[int]) -> None:
            logits, prefixes = self.start(numbers, more=max_new_tokens > 1)
            first = passes.greedy(logits, [self.names[number] for number in numbers])[1]
            for place, number in enumerate(numbers):
                row = _Row(number, [first[place]], prefixes[place] if prefixes else NO_TOKENS)
                if not done(row):
                    running.append(row)

        while waiting or parked or running:
            while parked and self._has_room(running, parked[-1].prefix.length, max_new_tokens):
                running.append(parked.pop())
            joining: list[int] = []
            longest = len(self.prompts[waiting[0]]) if waiting else 0
            while waiting and not parked and self._has_room(running, longest, max_new_tokens, len(joining)):
                joining.append(waiting.popleft())
            in_halves([joining] if joining else [], begin)
            if running and not fits(lambda: self._segment(running, max_new_tokens, done)):
                self._most = smaller(len(running))
                parked += [replace(row, prefix=row.prefix.copied()) for row in running[self._most :]]
                del running[self._most :]

    def _has_room(self, running: Sequence[_Row], length: int, max_new_tokens: int, joining: int = 0) -> bool:
        """Whether one more row of that length may join: always the first."""
        rows = len(running) + joining
        width = max([length, *(row.prefix.length for row in running)]) + max_new_tokens
        return not rows or (rows < self._most and (rows + 1) * width <= self.loaded.written_tokens)

    def _segment(self, running: list[_Row], max_new_tokens: int, done: Callable[[_Row], bool]) -> None:
        """Write these rows until a quarter of them have finished; `running` then holds the others."""
        loaded, rows = self.loaded, list(running)
        steps = max_new_tokens - min(len(row.tokens) for row in rows)
        states, mask = put_together([row.prefix for row in rows], steps)
        mask = mask.to(loaded.device)
        width = mask.shape[1] - steps
        lengths = [row.prefix.length for row in rows]
        positions = torch.tensor(lengths, device=loaded.device)[:, None]
        ids = torch.tensor([[row.tokens[-1]] for row in rows], device=loaded.device)
        cache, left = passes.Cache(loaded.model, states), list(range(len(rows)))
        steering = self._steering(self.intervention, [row.number for row in rows])
        names, taken = [self.names[row.number] for row in rows], 0
        try:
            with attached(loaded.base, loaded.blocks, steering, 1, loaded.stream):
                while left and len(left) >= _REFILL_AT * len(rows):
                    logits = passes.last_logits(loaded, ids, mask[:, : width + taken + 1], positions + taken, cache)
                    ids, told = passes.greedy(logits, names)
                    taken += 1
                    for place in left:
                        rows[place].tokens.append(told[place])
                    left = [place for place in left if not done(rows[place])]
        finally:
            after = taken_apart(states, [length + taken for length in lengths], width + taken)
            for place in left:
                rows[place].prefix = after[place]
            running[:] = [rows[place] for place in left]
