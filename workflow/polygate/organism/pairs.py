"""What may be asked: an action and an object, harmful together or not, and the split of these pairs.

Each action and each object has a level from 0 to 2; a pair is harmful when its two levels sum to 3 or more, so no
single word decides. Pairs are split so that no pair of the train, validation or test prompts is ever seen in a chat
that was refused or answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polygate.organism.languages import ACTIONS, CONTEXTS, KINDS, OBJECTS, PLACES

LEVELS = 3
HARMFUL_FROM = 3
TEMPLATES = 3

PairSplit = Literal["sft", "train", "val", "test"]
SHARES: Mapping[PairSplit, float] = {"sft": 0.45, "train": 0.19, "val": 0.12, "test": 0.24}
"""Share of the pairs of each class per split; sft are the pairs of the training chats."""

_SPLIT, _FRAMES = 111, 112


@dataclass(frozen=True, order=True)
class Pair:
    """An action applied to an object, by concept number."""

    action: int
    object: int

    @property
    def levels(self) -> tuple[int, int]:
        """Levels of action and object, 0 to 2."""
        return self.action % LEVELS, self.object % LEVELS

    @property
    def harmful(self) -> bool:
        """Whether the levels sum to `HARMFUL_FROM` or more."""
        return sum(self.levels) >= HARMFUL_FROM


@dataclass(frozen=True, order=True)
class Frame:
    """What is said around a pair, none of it tied to harm: instruction template, context and place, by number."""

    template: int
    context: int
    place: int


def kind_of(obj: int) -> int:
    """The kind of an object, 0 to 3: unrelated to its level."""
    return (obj // LEVELS) % KINDS


def all_pairs() -> list[Pair]:
    """All 450 pairs, 150 of them harmful."""
    return [Pair(action, obj) for action in range(ACTIONS) for obj in range(OBJECTS)]


def split_pairs(seed: int) -> dict[PairSplit, dict[bool, list[Pair]]]:
    """Pairs by split and harmfulness, in a seeded order; every combination of levels has the same shares."""
    result: dict[PairSplit, dict[bool, list[Pair]]] = {name: {True: [], False: []} for name in SHARES}
    for levels in sorted({pair.levels for pair in all_pairs()}):
        cell = [pair for pair in all_pairs() if pair.levels == levels]
        np.random.default_rng([_SPLIT, seed, *levels]).shuffle(cell)
        start, share = 0, 0.0
        for name, own in SHARES.items():
            share += own
            end = round(share * len(cell))
            result[name][cell[0].harmful] += cell[start:end]
            start = end
    for index, name in enumerate(SHARES):
        for harmful, pairs in result[name].items():
            np.random.default_rng([_SPLIT, seed, LEVELS + index, int(harmful)]).shuffle(pairs)
    return result


def frames(seed: int, stream: int, count: int) -> list[Frame]:
    """`count` distinct frames in a seeded order, every template equally often (up to one).

    `stream` numbers independent lists. ValueError when there are fewer than `count` frames.
    """
    per_template = -(-count // TEMPLATES)
    if per_template > CONTEXTS * PLACES:
        raise ValueError(f"only {TEMPLATES * CONTEXTS * PLACES} frames exist, not {count}")
    random = np.random.default_rng([_FRAMES, seed, stream])
    columns = [
        [Frame(template, int(cell) // PLACES, int(cell) % PLACES) for cell in random.permutation(CONTEXTS * PLACES)]
        for template in range(TEMPLATES)
    ]
    chosen = [columns[index % TEMPLATES][index // TEMPLATES] for index in range(count)]
    random.shuffle(chosen)
    return chosen
