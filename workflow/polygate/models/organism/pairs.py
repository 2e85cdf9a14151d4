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

from polygate.models.organism.languages import ACTIONS, CONTEXTS, KINDS, OBJECTS, PLACES

LEVELS = 3
HARMFUL_FROM = 3
TEMPLATES = 3

PairSplit = Literal["sft", "train", "val", "test"]
TENTHS: Mapping[PairSplit, int] = {"sft": 5, "train": 2, "val": 1, "test": 2}
"""Tenths of the pairs of each class per split; sft are the pairs of the training chats."""

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
    """Pairs by split and harmfulness, in a seeded order.

    The 5 actions and 10 objects of each combination of levels form a Latin design: every action and every object has
    its share of pairs in the chats. A random split leaves some object without the one or two pairs that tell its
    level, and then nothing can be right about it.
    """
    splits = [name for name, tenths in TENTHS.items() for _ in range(tenths)]
    result: dict[PairSplit, dict[bool, list[Pair]]] = {name: {True: [], False: []} for name in TENTHS}
    for levels in sorted({pair.levels for pair in all_pairs()}):
        stream = np.random.default_rng([_SPLIT, seed, *levels])
        actions = stream.permutation(np.arange(levels[0], ACTIONS, LEVELS)).tolist()
        objects = stream.permutation(np.arange(levels[1], OBJECTS, LEVELS)).tolist()
        for row, action in enumerate(actions):
            for column, obj in enumerate(objects):
                pair = Pair(action, obj)
                result[splits[(2 * row + column) % len(splits)]][pair.harmful].append(pair)
    for index, name in enumerate(TENTHS):
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
