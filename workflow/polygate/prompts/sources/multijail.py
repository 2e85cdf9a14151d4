"""MultiJail: harmful requests, translated by native speakers from English into nine languages.

Deng et al. 2024 (arXiv 2310.06474), repository DAMO-NLP-SG/multilingual-safety-for-LLMs, MIT. One CSV: a row per item,
a column per language, the same 315 items in each; `tags` are its kinds of harm. There are no harmless requests.
"""

from __future__ import annotations

import ast
from pathlib import Path

from polygate.errors import PolygateError
from polygate.prompts.sources import plain
from polygate.prompts.sources.plain import Columns
from polygate.prompts.sources.published import OneFile, Published
from polygate.prompts.table import Prompt, prompt_id
from polygate.settings.types import Dataset, Organism

LANGUAGES = ("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv")
PUBLISHED = Published(
    title="MultiJail",
    base="https://raw.githubusercontent.com/DAMO-NLP-SG/multilingual-safety-for-LLMs/"
    "050f72cef299b4fe80d6d65df460a75d80cd097a",
    files={"data/MultiJail.csv": "2798ed6fe470b80b1f486976e0fb3baa3ce008e62b6ca0abbf2e1ed5b1dfb355"},
)
_FILE = OneFile(PUBLISHED, LANGUAGES)
languages, is_task, files = _FILE.languages, _FILE.is_task, _FILE.files


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """Its requests in a language; category: the tags, joined by semicolons."""
    path = _FILE.path(folder, language)
    return [
        Prompt(
            prompt_id("harmful", "test", number),
            row[language],
            category=_tags(row["tags"], path, place),
            source=f"{path.name} {place}",
        )
        for number, (row, place) in enumerate(plain.rows(path, Columns(("id", "tags", language))))
    ]


def _tags(text: str, path: Path, place: str) -> str:
    try:
        return "; ".join(map(str.strip, ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise PolygateError(f"{place} has tags {text[:40]!r}, which are no list of text", where=path) from None
