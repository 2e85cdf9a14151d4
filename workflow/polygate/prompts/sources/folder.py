"""A data set of one's own: a folder with one `{language}.csv`, `.jsonl` or `.parquet` per language.

Columns are those of the prompt tables (see `extra`), with ids of the split test alone. The columns `options` (a list,
in CSV a JSON list) and `answer` (the letter of the right one, or its place counted from 0) make it a task.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.prompts.sources import extra, plain
from polygate.prompts.sources.plain import Columns
from polygate.prompts.sources.published import Published
from polygate.prompts.table import LETTERS, OPTIONS, Prompt
from polygate.settings.types import Dataset, Organism

PUBLISHED: Published | None = None
COLUMNS = Columns(extra.COLUMNS.required, (*extra.COLUMNS.optional, *OPTIONS))


def languages(dataset: Dataset, _organism: Organism) -> Sequence[str]:
    """The languages that it has a file of."""
    folder = dataset.folder or Path()
    return sorted({path.stem for path in folder.iterdir() if plain.find(folder, path.stem) is not None})


def is_task(dataset: Dataset) -> bool:
    """Whether its files have options."""
    folder = dataset.folder or Path()
    found = [plain.find(folder, path.stem) for path in sorted(folder.iterdir())]
    first = next((path for path in found if path is not None), None)
    return first is not None and any(row.get("options") for row, _ in plain.rows(first, COLUMNS))


def files(folder: Path, language: str) -> list[Path]:
    """The file of a language."""
    path = plain.find(folder, language)
    if path is None:
        raise PolygateError(f"there is no file for {language} in it", where=folder, do=f"add {language}{plain.FORMATS}")
    return [path]


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """Its prompts in a language."""
    (path,) = files(folder or Path(), language)
    prompts = []
    for row, place in plain.rows(path, COLUMNS):
        prompt = extra.prompt_of(row, place, path)
        if row["split"] != "test":
            raise PolygateError(
                f"{place} is of split {row['split']!r}",
                where=path,
                do="a data set is only tested on: call it test",
            )
        options = _options(row.get("options"), place, path)
        prompts.append(replace(prompt, options=options, answer=_answer(row.get("answer"), options, place, path)))
    return prompts


def _options(value: Any, place: str, path: Path) -> tuple[str, ...]:
    """The options of a row, none when it has none."""
    try:
        given = json.loads(value) if isinstance(value, str) and value.strip() else value
    except ValueError:
        given = value
    if given is None or given == "" or given != given:
        return ()
    if not isinstance(given, list) or not all(isinstance(option, str) and option.strip() for option in given):
        raise PolygateError(f"{place} has options {value!r}", where=path, do='give a list of text, like ["yes", "no"]')
    return tuple(given)


def _answer(value: Any, options: Sequence[str], place: str, path: Path) -> int | None:
    """The place of the right option, from it or from its letter; None when there are no options."""
    if not options:
        return None
    text = str(value).strip()
    known = [*map(str, range(len(options))), *LETTERS[: len(options)]]
    if text not in known:
        raise PolygateError(
            f"{place} has answer {value!r} to {len(options)} options",
            where=path,
            do=f"give its letter, A to {LETTERS[len(options) - 1]}, or its place counted from 0",
        )
    return known.index(text) % len(options)
