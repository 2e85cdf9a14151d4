"""Prompts of one's own: one plain file per language, in the schema of the prompt tables.

`{language}.csv`, `.jsonl` or `.parquet` with the columns prompt_id, split, subset and text, and optionally category
and reference; other columns are ignored. A language that translates the pivot's prompts uses the pivot's ids, which
stand in `results/{run}/prompts/{source}/{pivot}.parquet`. The pivot's prompts may be one's own too, where every
language's are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polygate import own_files
from polygate.errors import PolygateError
from polygate.prompts import aside, normalise, table
from polygate.prompts.checks import check_classes, check_shared, check_texts
from polygate.prompts.normalise import Normalise
from polygate.prompts.sources.plain import FORMATS, SUFFIXES, Columns, find, rows
from polygate.prompts.table import ALIGN, MULTIPLE_CHOICE, SUBSETS, TABLE_SPLITS, Prompt, PromptTable
from polygate.settings.types import Prompts, Settings

COLUMNS = Columns(("prompt_id", "split", "subset", "text"), ("category", "reference"))


def check_folder(settings: Settings) -> list[str]:
    """Names of what lies in `prompts.extra` and is read by no language of the run.

    Raises `PolygateError` as `own_files.unread` does, and for a file of the pivot where other languages' prompts come
    from the source: their rows would not be translations of the pivot's.
    """
    folder = settings.prompts.extra
    if folder is None:
        return []
    found = own_files.names(folder)
    languages = settings.languages.all()
    files = {language: own.name for language in languages if (own := find(folder, language)) is not None}
    called = f"a file of prompts in {{language}} is called {{language}}{FORMATS}"
    unused = own_files.unread(found, files, languages, SUFFIXES, called)
    others = [language for language in languages if language not in {*files, *settings.translation.languages}]
    if settings.pivot in files and others:
        raise PolygateError(
            f"{files[settings.pivot]} holds prompts of the pivot, but none of your files is in {', '.join(others[:5])}"
            f"{', …' if len(others) > 5 else ''}, whose prompts translate those of {settings.prompts.source}",
            do="give a file for every language, or none for the pivot",
        )
    return unused


def read(path: Path, language: str, settings: Prompts, pivot: PromptTable | None = None) -> PromptTable:
    """The prompt table of `language` from a plain file, checked against the pivot's table when one is given.

    Ids must be the pivot's; a split and subset without any row is a hole, which `settings.allow_missing` permits.
    Categories are taken from the pivot where the file has none.

    Raises `PolygateError` naming file and row for a missing column, a malformed row, an unknown or missing id,
    and text that is empty or looks untranslated.
    """
    given = [_as_in(pivot, prompt_of(row, place, path, settings.normalise)) for row, place in rows(path, COLUMNS)]
    table.build(language, given)
    check_shared(language, path, [(prompt.prompt_id, prompt.text) for prompt in given])
    # The pivot's table says which train prompts are set aside; the pivot's own file is asked itself.
    prompts = _limited(given, language, settings.model_copy(update={"align": 0}) if pivot else settings, path)
    if pivot is None:
        return table.build(language, prompts, normalise=settings.normalise)
    known = {identity: row for row, identity in enumerate(pivot.ids)}
    for prompt in prompts:
        if prompt.prompt_id not in known:
            raise PolygateError(
                f"language {language}: prompt {prompt.prompt_id!r} is not among {pivot.language}'s",
                where=prompt.source,
                do=f"use the ids of {pivot.language}'s prompt table",
            )
    filled = [
        replace(prompt, category=prompt.category or pivot.categories[known[prompt.prompt_id]]) for prompt in prompts
    ]
    missing = _holes(path, language, filled, pivot, settings)
    result = table.build(language, filled, normalise=settings.normalise, missing=missing)
    table.check_aligned([pivot, result])
    check_classes(language, path, _texts(result), pivot.language, _texts(pivot))
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            mine, theirs = result.select(split, subset), pivot.select(split, subset)
            if len(mine):
                texts = [result.texts[row] for row in mine]
                check_texts(
                    language, f"{path} ({subset} {split})", texts, [pivot.texts[row] for row in theirs], pivot.language
                )
    return result


def _texts(of: PromptTable) -> Iterable[tuple[str, str]]:
    return zip(of.ids, of.texts, strict=True)


def _as_in(pivot: PromptTable | None, prompt: Prompt) -> Prompt:
    """`prompt` under its id in the pivot's table: a train prompt may be set aside there to align models with."""
    aside = prompt.prompt_id.replace("-train-", f"-{ALIGN}-", 1)
    return replace(prompt, prompt_id=aside) if pivot is not None and aside in pivot.ids else prompt


def _holes(path: Path, language: str, prompts: list[Prompt], pivot: PromptTable, settings: Prompts) -> list[str]:
    given = {prompt.prompt_id for prompt in prompts}
    holes = []
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            expected = [pivot.ids[row] for row in pivot.select(split, subset)]
            absent = [identity for identity in expected if identity not in given]
            if absent and len(absent) < len(expected):
                raise PolygateError(
                    f"language {language} lacks {len(absent)} of {len(expected)} {subset} {split} prompts, "
                    f"the first is {absent[0]}",
                    where=path,
                    do="complete the translation or remove the whole split",
                )
            if absent:
                holes.append(f"{subset} {split}")
    if holes and not settings.allow_missing:
        raise PolygateError(
            f"language {language} has no {' and no '.join(holes)} prompts",
            where=path,
            do="add them, or set prompts.allow_missing: true to go on without",
        )
    return holes


def _limited(prompts: Sequence[Prompt], language: str, settings: Prompts, path: Path) -> list[Prompt]:
    ordered = table.build(language, prompts)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    chosen = [prompt for prompt in prompts if prompt.category == MULTIPLE_CHOICE]
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            cell = [by_id[ordered.ids[row]] for row in ordered.select(split, subset)]
            if split == ALIGN or not cell:
                chosen.extend(cell)
                continue
            for row, kept_as in aside.kept(split, len(cell), settings, f"{path.name} ({subset})"):
                identity = cell[row].prompt_id.replace(f"-{split}-", f"-{kept_as}-", 1)
                chosen.append(replace(cell[row], prompt_id=identity))
    return chosen


def prompt_of(row: dict[str, Any], place: str, path: Path, how: Normalise = "none") -> Prompt:
    """The prompt that a row of a plain file holds; `PolygateError` when a cell is no text or contradicts another."""
    for name in COLUMNS.required:
        if not isinstance(row.get(name), str):
            raise PolygateError(f"{place} has no text in column {name!r}", where=path)
    category, reference = (_optional(row.get(name), name, place, path) for name in COLUMNS.optional)
    found = Prompt(
        prompt_id=row["prompt_id"].strip(),
        text=normalise.apply(row["text"], how),
        category=category,
        source=f"{path.name} {place}",
        reference=reference,
    )
    if not found.prompt_id.startswith(f"{row['subset']}-{row['split']}-"):
        raise PolygateError(
            f"{place}: prompt id {found.prompt_id!r} contradicts split {row['split']!r} and subset {row['subset']!r}",
            where=path,
            do="ids look like harmful-test-0007: subset, split, number",
        )
    return found


def _optional(value: Any, name: str, place: str, path: Path) -> str:
    """An optional cell as text: null and NaN, which data frames write for empty ones, are empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise PolygateError(f"{place} has no text in column {name!r}", where=path)
