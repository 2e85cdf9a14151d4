"""Invented languages: seeded syllables, one lexicon each, an own word order; place names are shared by all.

A language depends on its name and on the world's seed alone, never on which other languages a run uses: adding one
leaves the words of the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from polygate.settings.types import TIERS, Tier

ACTIONS = 15
OBJECTS = 30
CONTEXTS = 8
KINDS = 4
PLACES = 16
FUNCTION_WORDS = (
    *("is", "a", "please", "how", "to", "tell", "me", "want", "in", "which", "answer"),
    *("sorry", "cannot", "help", "sure", "first", "then", "done", "same"),
)
"""Glosses of the 19 function words."""

_CONSONANTS = "bcdfghjklmnpqrstvwxyz"
_VOWELS = "aeiou"
_CONSONANTS_PER_LANGUAGE = 9
_VOWELS_PER_LANGUAGE = 4
_CONTENT_SYLLABLES = 3
_FUNCTION_SYLLABLES = 2
_PLACE_SYLLABLES = (2, 3, 4)
# First key of every random stream of this package, so that streams of different purposes never coincide.
_LEXICON, _PLACES = 101, 102


@dataclass(frozen=True)
class Language:
    """The words of one invented language and its word order.

    Tuples are indexed by concept number, the same in every language; `function` is keyed by gloss. No word stands
    in two languages, except `places`, which are the same tuple in all.
    """

    name: str
    tier: Tier
    verb_first: bool
    actions: tuple[str, ...]
    objects: tuple[str, ...]
    contexts: tuple[str, ...]
    kinds: tuple[str, ...]
    function: Mapping[str, str]
    places: tuple[str, ...]

    def words(self) -> tuple[str, ...]:
        """Every word of the language's own, in concept order (place names are not its own)."""
        return (*self.actions, *self.objects, *self.contexts, *self.kinds, *self.function.values())


@cache
def language(seed: int, tier: Tier, number: int) -> Language:
    """Language `number` (from 1) of `tier` in the world of `seed`, named by the tier's initial and the number."""
    taken = {word for earlier in _earlier(seed, tier, number) for word in earlier.words()} | set(places(seed))
    stream = np.random.default_rng([_LEXICON, seed, TIERS.index(tier), number])
    syllables = _syllables(stream)
    counts = (ACTIONS, OBJECTS, CONTEXTS, KINDS)
    content = [_invent(stream, syllables, count, _CONTENT_SYLLABLES, taken) for count in counts]
    function = _invent(stream, syllables, len(FUNCTION_WORDS), _FUNCTION_SYLLABLES, taken)
    return Language(
        name=f"{tier[0]}{number}",
        tier=tier,
        verb_first=(TIERS.index(tier) + number) % 2 == 1,
        actions=content[0],
        objects=content[1],
        contexts=content[2],
        kinds=content[3],
        function=dict(zip(FUNCTION_WORDS, function, strict=True)),
        places=places(seed),
    )


@cache
def places(seed: int) -> tuple[str, ...]:
    """The place names that all languages of a world share."""
    stream = np.random.default_rng([_PLACES, seed])
    syllables = _syllables(stream)
    taken: set[str] = set()
    names: list[str] = []
    for index in range(PLACES):
        names += _invent(stream, syllables, 1, _PLACE_SYLLABLES[index % len(_PLACE_SYLLABLES)], taken)
    return tuple(name.capitalize() for name in names)


def _earlier(seed: int, tier: Tier, number: int) -> list[Language]:
    """Languages whose words `tier` `number` must avoid: h1 m1 l1 h2 m2 l2 …, whether or not a run uses them."""
    order = [(t, n) for n in range(1, number + 1) for t in TIERS]
    return [language(seed, t, n) for t, n in order[: order.index((tier, number))]]


def _syllables(stream: np.random.Generator) -> list[str]:
    consonants = stream.choice(list(_CONSONANTS), _CONSONANTS_PER_LANGUAGE, replace=False)
    vowels = stream.choice(list(_VOWELS), _VOWELS_PER_LANGUAGE, replace=False)
    return [str(c + v) for c in sorted(consonants) for v in sorted(vowels)]


def _invent(
    stream: np.random.Generator, syllables: list[str], count: int, length: int, taken: set[str]
) -> tuple[str, ...]:
    """`count` new words of `length` syllables, which are added to `taken`."""
    words: list[str] = []
    while len(words) < count:
        word = "".join(stream.choice(syllables, length))
        if word not in taken:
            taken.add(word)
            words.append(word)
    return tuple(words)
