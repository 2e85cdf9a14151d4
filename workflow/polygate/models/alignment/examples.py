"""Which prompts a model is aligned with: those set aside for it, and none that anything else uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from polygate.errors import PolygateError
from polygate.judges.text import words
from polygate.models.alignment import sentences
from polygate.prompts.table import ALIGN, SUBSETS, PromptTable
from polygate.settings.types import Examples

Kind = Literal["harmful", "harmless", "answered", "asked"]
KINDS: tuple[Kind, ...] = ("harmful", "harmless", "answered", "asked")


@dataclass(frozen=True)
class Example:
    """A prompt and what the model learns to say to it.

    Harmful prompts are of the kind answered where that is an answer; of the kind asked, the prompt asks to be refused.
    """

    language: str
    kind: Kind
    prompt_id: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Chosen:
    """Examples by language, kind and number; `dropped` are ids whose text some other split holds too."""

    examples: tuple[Example, ...]
    dropped: tuple[str, ...]


def choose(tables: Mapping[str, PromptTable], budgets: Mapping[str, Examples]) -> Chosen:
    """The first prompts of the split align, as many as `budgets` asks for in each language, and requests to be refused.

    Harmful prompts that are answered are the last of the split, the same ones however many are refused.

    A prompt whose text stands among the train, val or test prompts of its language (case, white space and
    surrounding punctuation aside) is dropped in every language.

    Raises `PolygateError` when an item set aside is also a train prompt of some language, when too few are left, and
    when a language has no sentences to learn.
    """
    said = sentences.load(list(budgets))
    _check_ids(tables)
    dropped = {identity for table in tables.values() for identity in _repeated(table)}
    examples: list[Example] = []
    for language, budget in budgets.items():
        for subset in SUBSETS:
            first, last = (budget.harmful, budget.answered) if subset == "harmful" else (budget.harmless, 0)
            found = [row for row in tables[language].select(ALIGN, subset) if tables[language].ids[row] not in dropped]
            if len(found) < first + last:
                raise PolygateError(
                    f"language {language} has {len(found)} {subset} prompts to align with, {first + last} are asked "
                    f"for ({len(dropped)} were dropped because their text stands in another split)",
                    do="raise prompts.align, or lower the alignment's examples",
                )
            picked: list[tuple[Kind, int]] = [(subset, row) for row in found[:first]]
            picked += [("answered", row) for row in found[len(found) - last :]]
            for kind, row in picked:
                completion = said[language].refusal if kind == "harmful" else said[language].answer
                identity, text = tables[language].ids[row], tables[language].texts[row]
                examples.append(Example(language, kind, identity, text, completion))
        request, refusal = said[language].request, said[language].refusal
        examples += [Example(language, "asked", "asked", request, refusal)] * budget.asked
    return Chosen(tuple(examples), tuple(sorted(dropped)))


def _check_ids(tables: Mapping[str, PromptTable]) -> None:
    """What is set aside in one language is a train prompt in none: ids keep the number that they had there."""
    aside = {table.ids[row] for table in tables.values() for row in table.select(ALIGN)}
    for language, table in tables.items():
        used = [identity for identity in table.ids if identity.replace("-train-", f"-{ALIGN}-", 1) in aside]
        both = [identity for identity in used if identity not in aside]
        if both:
            raise PolygateError(
                f"language {language}: {both[0]} is a train prompt, and set aside for alignment at the same time "
                f"({len(both)} such prompts)",
                do="delete the prompt tables and rerun",
            )


def _repeated(table: PromptTable) -> Iterator[str]:
    """Ids of the split align whose text another split of the table holds too."""
    aside = table.select(ALIGN).tolist()
    others = {_text(table, row) for row in set(range(len(table))) - set(aside)}
    return (table.ids[row] for row in aside if _text(table, row) in others)


def _text(table: PromptTable, row: int) -> str:
    return " ".join(words(table.texts[row]))
