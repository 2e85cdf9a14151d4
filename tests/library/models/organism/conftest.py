"""One world for all tests of the organisms, and its prompt tables."""

from __future__ import annotations

import pytest

from polygate.models.organism.corpus import Corpus
from polygate.models.organism.prompts import prompt_table
from polygate.prompts.table import PromptTable
from polygate.settings.types import Organism, Prompts


@pytest.fixture(scope="package")
def corpus() -> Corpus:
    """The corpus of the default settings, seed 0."""
    return Corpus(Organism(), seed=0)


@pytest.fixture(scope="package")
def tables(corpus: Corpus) -> dict[str, PromptTable]:
    """The prompt table of every language."""
    prompts = Prompts(source="organism")
    return {known.name: prompt_table(corpus.settings, known.name, prompts) for known in corpus.world.languages}
