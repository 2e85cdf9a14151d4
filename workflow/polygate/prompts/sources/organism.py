"""Tests of the organisms in their invented languages: see `polygate.models.organism.evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polygate.models.organism import evaluation
from polygate.models.organism.grammar import World
from polygate.prompts.sources.published import Published
from polygate.prompts.table import Prompt
from polygate.settings.types import Dataset, Organism

PUBLISHED: Published | None = None


def languages(_dataset: Dataset, organism: Organism) -> Sequence[str]:
    """Every invented language."""
    return [language.name for language in World(organism).languages]


def is_task(dataset: Dataset) -> bool:
    """Whether it is the multiple-choice task."""
    return dataset.part == "utility"


def files(_folder: Path, _language: str) -> list[Path]:
    """None: they are made."""
    return []


def read(_folder: Path | None, language: str, dataset: Dataset, organism: Organism) -> list[Prompt]:
    """Its prompts in a language."""
    makers = {"ood": evaluation.ood, "over_refusal": evaluation.over_refusal, "utility": evaluation.utility}
    return makers[dataset.part or ""](World(organism), language)
