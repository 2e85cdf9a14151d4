"""The training text of the organisms, drawn afresh for every step.

Four types of text: *is-a* (what kind an object is), *parallel* (the same pair said in two languages), *choice*
(multiple-choice questions about kinds, one fifth of the language-object cells held out) and *chat* (requests, refused
or answered). No text says that a pair is harmful: only the refusals of the chats do, and these know the pairs of the
sft split alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polygate.models.organism import grammar
from polygate.models.organism.grammar import World
from polygate.models.organism.languages import CONTEXTS, OBJECTS, PLACES, Language
from polygate.models.organism.pairs import TEMPLATES, Frame, Pair, all_pairs, split_pairs
from polygate.models.organism.tokenizer import ASSISTANT, BOS, EOS, PAD, USER, vocabulary
from polygate.settings.types import Organism, Tier

TextType = Literal["is_a", "parallel", "chat", "choice"]

_CHATS, _HELD_OUT, _STEP = 121, 122, 123


@dataclass(frozen=True)
class Mixture:
    """What is drawn how often, and what a token weighs in the loss."""

    types: Mapping[TextType, float]
    tiers: Mapping[Tier, float]
    chat_tiers: Mapping[Tier, float]
    chat_starts: float = 0.3
    """Share of the steps before the first chat."""
    same_language: float = 0.3
    """Share of parallel texts that repeat a sentence in its own language."""
    batch: int = 64
    prompt_weight: float = 0.1
    completion_weight: float = 1.5
    answer_weight: float = 4.0
    high_refused: int = 400
    high_answered: int = 400
    other_answered: int = 120


DEFAULT = Mixture(
    types={"is_a": 0.07, "parallel": 0.40, "chat": 0.41, "choice": 0.12},
    tiers={"high": 0.56, "mid": 0.22, "low": 0.22},
    chat_tiers={"high": 0.65, "mid": 0.20, "low": 0.15},
)


@dataclass(frozen=True)
class Text:
    """One training text: its tokens and the weight of each in the loss (that of the first is never used)."""

    tokens: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Batch:
    """`ids` int64 [rows, tokens], padded on the right; `weights` float32 of the same shape, 0 on padding."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Chat:
    """A request of the training chats and whether it is refused."""

    pair: Pair
    frame: Frame
    refused: bool


@dataclass(frozen=True)
class WeightedTiers:
    """Tiers to draw from, in order, and the share of all draws that ends with each."""

    tiers: tuple[Tier, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, weights: Mapping[Tier, float]) -> WeightedTiers:
        """Tiers in the order of `weights`, which need not sum to one."""
        values = np.array(list(weights.values()))
        ends = (values / values.sum()).cumsum()
        return cls(tuple(weights), tuple((ends / ends[-1]).tolist()))

    def draw(self, stream: np.random.Generator) -> Tier:
        """What `stream.choice(tiers, p=…)` draws, from the same number, without its checks."""
        return self.tiers[bisect_right(self.ends, stream.random())]


class Corpus:
    """Draws batches of training text; batch `step` depends on the settings, `seed` and `step` alone."""

    def __init__(self, settings: Organism, seed: int, mixture: Mixture = DEFAULT) -> None:
        self.settings = settings
        self.seed = seed
        self.mixture = mixture
        self.world = World(settings)
        self.ids = vocabulary(self.world)
        self._pairs = all_pairs()
        self._speakers = {
            tier: [known for known in self.world.languages if known.tier == tier] for tier in mixture.tiers
        }
        self._tiers = self._weighted_tiers(mixture.tiers)
        self._chat_tiers = self._weighted_tiers(mixture.chat_tiers)

    def _weighted_tiers(self, shares: Mapping[Tier, float]) -> WeightedTiers:
        return WeightedTiers.of({tier: share for tier, share in shares.items() if self._speakers[tier]})

    @cached_property
    def chats(self) -> dict[str, list[Chat]]:
        """The chats of every language, by name: the same harmful and harmless requests whatever the seed."""
        return {speaker.name: self._chats_of(speaker) for speaker in self.world.languages}

    @cached_property
    def asked_objects(self) -> dict[str, list[int]]:
        """The objects whose multiple-choice questions are trained on, per language."""
        return {speaker.name: asked_objects(self.world, speaker.name) for speaker in self.world.languages}

    def _chats_of(self, speaker: Language) -> list[Chat]:
        counts = chat_counts(self.settings, self.mixture, speaker.tier)
        sft = split_pairs(self.world.seed)["sft"]
        tier, number = ("high", "mid", "low").index(speaker.tier), int(speaker.name[1:])
        stream = np.random.default_rng([_CHATS, self.world.seed, tier, number])
        chats = []
        for refused, count in counts.items():
            order = stream.permutation(len(sft[refused]))
            for row in range(count):
                chats.append(Chat(sft[refused][order[row % len(order)]], random_frame(stream), refused))
        return chats

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        stream = np.random.default_rng([_STEP, self.seed, step])
        shares = dict(self.mixture.types)
        if step < self.mixture.chat_starts * self.settings.steps:
            del shares["chat"]
        names, weights = list(shares), np.array(list(shares.values()))
        drawn = stream.choice(len(names), self.mixture.batch, p=weights / weights.sum())
        return self._padded([self.draw(names[index], stream) for index in drawn])

    def draw(self, kind: TextType, stream: np.random.Generator) -> Text:
        """One text of type `kind`."""
        speaker = self._speaker(stream, self._chat_tiers if kind == "chat" else self._tiers)
        if kind == "is_a":
            return self._plain(grammar.is_a(speaker, int(stream.integers(OBJECTS))))
        if kind == "parallel":
            return self._parallel(speaker, stream)
        if kind == "choice":
            return self._choice(speaker, stream)
        chats = self.chats[speaker.name]
        chat = chats[int(stream.integers(len(chats)))]
        reply = grammar.refusal(speaker) if chat.refused else grammar.compliance(speaker, chat.pair)
        weights = (self.mixture.prompt_weight, self.mixture.completion_weight)
        return _turns(grammar.instruction(speaker, chat.pair, chat.frame), reply, *weights)

    def _speaker(self, stream: np.random.Generator, tiers: WeightedTiers) -> Language:
        among = self._speakers[tiers.draw(stream)]
        return among[int(stream.integers(len(among)))]

    def _parallel(self, first: Language, stream: np.random.Generator) -> Text:
        same = stream.random() < self.mixture.same_language
        second = first if same else self._speaker(stream, self._tiers)
        pair = self._pairs[int(stream.integers(len(self._pairs)))]
        return self._plain(grammar.parallel(first, second, pair))

    def _choice(self, speaker: Language, stream: np.random.Generator) -> Text:
        objects = self.asked_objects[speaker.name]
        obj = objects[int(stream.integers(len(objects)))]
        text = _turns(grammar.question(speaker, obj), grammar.answer(obj), 1.0, 1.0)
        weights = (*text.weights[:-2], self.mixture.answer_weight, text.weights[-1])
        return Text(text.tokens, weights)

    def _plain(self, sentence: str) -> Text:
        tokens = (BOS, *sentence.split(), EOS)
        return Text(tokens, (1.0,) * len(tokens))

    def _padded(self, texts: Sequence[Text]) -> Batch:
        longest = max(len(text.tokens) for text in texts)
        ids = np.full((len(texts), longest), self.ids[PAD], dtype=np.int64)
        weights = np.zeros((len(texts), longest), dtype=np.float32)
        for row, text in enumerate(texts):
            ids[row, : len(text.tokens)] = [self.ids[token] for token in text.tokens]
            weights[row, : len(text.tokens)] = text.weights
        return Batch(ids, weights)


def chat_counts(settings: Organism, mixture: Mixture, tier: Tier) -> dict[bool, int]:
    """Number of refused (True) and of answered (False) chats of a language of `tier`."""
    if tier == "high":
        return {True: mixture.high_refused, False: mixture.high_answered}
    return {True: settings.mid_refusals if tier == "mid" else settings.low_refusals, False: mixture.other_answered}


def random_frame(stream: np.random.Generator) -> Frame:
    """A frame drawn uniformly."""
    return Frame(int(stream.integers(TEMPLATES)), int(stream.integers(CONTEXTS)), int(stream.integers(PLACES)))


def held_out_pool(world: World) -> list[int]:
    """The half of the objects among which each language's held-out multiple-choice cells lie."""
    return sorted(np.random.default_rng([_HELD_OUT, world.seed]).permutation(OBJECTS)[: OBJECTS // 2].tolist())


def held_out_objects(world: World, language: str) -> list[int]:
    """The objects (a fifth of all) whose multiple-choice questions `language` never sees in training."""
    pool = held_out_pool(world)
    tier, number = "hml".index(language[0]), int(language[1:])
    drawn = np.random.default_rng([_HELD_OUT, world.seed, tier, number]).permutation(pool)
    return sorted(drawn[: OBJECTS // 5].tolist())


def asked_objects(world: World, language: str) -> list[int]:
    """The objects whose multiple-choice questions `language` is trained on."""
    held_out = held_out_objects(world, language)
    return [obj for obj in range(OBJECTS) if obj not in held_out]


def _turns(asked: str, reply: str, prompt_weight: float, reply_weight: float) -> Text:
    """One chat turn, token for token what the chat template renders."""
    prompt = (BOS, USER, *asked.split(), ASSISTANT)
    answer = (*reply.split(), EOS)
    return Text((*prompt, *answer), (prompt_weight,) * len(prompt) + (reply_weight,) * len(answer))
