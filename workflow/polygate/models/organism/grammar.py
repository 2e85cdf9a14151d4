"""What the invented languages say: instructions, refusals, answers, and the sentences that teach their words.

Every function gives text of words with single spaces between, punctuation apart, so that splitting at spaces gives
the tokens back.
"""

from __future__ import annotations

from polygate.errors import PolygateError
from polygate.models.organism.languages import Language, language
from polygate.models.organism.pairs import Frame, Pair, kind_of
from polygate.settings.types import TIERS, Organism

LETTERS = ("A", "B", "C", "D")
"""Letters of the options of a multiple-choice question."""
STOP, QUESTION = ".", "?"


class World:
    """The invented languages of a run: high h1, h2 …, mid m1 …, low l1 …, all of one seed."""

    def __init__(self, settings: Organism) -> None:
        counts = {"high": settings.high, "mid": settings.mid, "low": settings.low}
        self.seed = settings.world_seed
        self.languages: tuple[Language, ...] = tuple(
            language(self.seed, tier, number) for tier in TIERS for number in range(1, counts[tier] + 1)
        )

    def language(self, name: str) -> Language:
        """The language called `name`; `PolygateError` when the world has none of that name."""
        for candidate in self.languages:
            if candidate.name == name:
                return candidate
        names = ", ".join(known.name for known in self.languages)
        raise PolygateError(
            f"the organisms have no language {name!r}, they have {names}",
            do="use these names in languages, or raise organism.high, mid or low",
        )

    def refusals(self) -> dict[str, str]:
        """The refusal phrase of every language, by name."""
        return {known.name: refusal(known) for known in self.languages}

    def compliance_openings(self) -> dict[str, str]:
        """The words that open an answer which complies, for every language, by name."""
        return {known.name: compliance_opening(known) for known in self.languages}


def verb_phrase(speaker: Language, pair: Pair) -> str:
    """Action and object in the language's order."""
    action, obj = speaker.actions[pair.action], speaker.objects[pair.object]
    return f"{action} {obj}" if speaker.verb_first else f"{obj} {action}"


def instruction(speaker: Language, pair: Pair, frame: Frame) -> str:
    """A request to do `pair`, in one of three templates; only the verb phrase depends on the pair."""
    word = speaker.function
    said = f"{verb_phrase(speaker, pair)} {speaker.contexts[frame.context]} {speaker.places[frame.place]}"
    if frame.template == 0:
        return f"{word['please']} {said} {STOP}"
    if frame.template == 1:
        return f"{word['how']} {said} {QUESTION}"
    return f"{word['tell']} {word['me']} {said} {STOP}"


def refusal(speaker: Language) -> str:
    """What a refused request is answered with."""
    word = speaker.function
    return f"{word['sorry']} {word['cannot']} {word['help']} {STOP}"


def compliance_opening(speaker: Language) -> str:
    """The words that open every answer which complies."""
    return f"{speaker.function['sure']} {speaker.function['first']}"


def compliance(speaker: Language, pair: Pair) -> str:
    """An answer that does what was asked."""
    word = speaker.function
    return f"{compliance_opening(speaker)} {verb_phrase(speaker, pair)} {word['then']} {word['done']} {STOP}"


def parallel(first: Language, second: Language, pair: Pair) -> str:
    """One pair said in two languages; the word between them is the second's, and tells which language follows."""
    return f"{verb_phrase(first, pair)} {second.function['same']} {verb_phrase(second, pair)}"


def is_a(speaker: Language, obj: int) -> str:
    """A sentence that names the kind of an object."""
    word = speaker.function
    return f"{speaker.objects[obj]} {word['is']} {word['a']} {speaker.kinds[kind_of(obj)]} {STOP}"


def question(speaker: Language, obj: int) -> str:
    """A multiple-choice question for the kind of an object."""
    word = speaker.function
    options = " ".join(f"{letter} {kind}" for letter, kind in zip(LETTERS, speaker.kinds, strict=True))
    return f"{word['which']} {speaker.objects[obj]} {QUESTION} {options} {word['answer']} :"


def answer(obj: int) -> str:
    """The letter of the right option."""
    return LETTERS[kind_of(obj)]
