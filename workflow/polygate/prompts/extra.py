"""Prompts of one's own: one plain file per language, in the schema of the prompt tables.

`{language}.csv`, `.jsonl` or `.parquet` with the columns prompt_id, split, subset and text, and optionally category
and reference; other columns are ignored. A language that translates the pivot's prompts uses the pivot's ids, which
stand in `results/{run}/prompts/{pivot}.parquet`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import normalise, table
from polygate.prompts.checks import check_texts
from polygate.prompts.table import ALIGN, MULTIPLE_CHOICE, SUBSETS, TABLE_SPLITS, Prompt, PromptTable
from polygate.settings import Prompts

REQUIRED = ("prompt_id", "split", "subset", "text")
SUFFIXES = (".csv", ".jsonl", ".parquet")


def read(path: Path, language: str, settings: Prompts, pivot: PromptTable | None = None) -> PromptTable:
    """The prompt table of `language` from a plain file, checked against the pivot's table when one is given.

    Ids must be the pivot's; a split and subset without any row is a hole, which `settings.allow_missing` permits.
    Categories are taken from the pivot where the file has none.

    Raises `PolygateError` naming file and row for a missing column, a malformed row, an unknown or missing id,
    and text that is empty or looks untranslated.
    """
    given = [_prompt(row, place, path, settings) for row, place in _rows(path)]
    prompts = _limited([_as_in(pivot, prompt) for prompt in given], language, settings)
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
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            mine, theirs = result.select(split, subset), pivot.select(split, subset)
            if len(mine):
                texts = [result.texts[row] for row in mine]
                check_texts(
                    language, f"{path} ({subset} {split})", texts, [pivot.texts[row] for row in theirs], pivot.language
                )
    return result


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


def _limited(prompts: list[Prompt], language: str, settings: Prompts) -> list[Prompt]:
    ordered = table.build(language, prompts)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    chosen: list[Prompt] = []
    for split in TABLE_SPLITS:
        limit = getattr(settings.limit, split, None)
        for subset in SUBSETS:
            chosen.extend(by_id[ordered.ids[row]] for row in ordered.select(split, subset)[:limit])
    chosen.extend(prompt for prompt in prompts if prompt.category == MULTIPLE_CHOICE)
    return chosen


def _prompt(row: dict[str, Any], place: str, path: Path, settings: Prompts) -> Prompt:
    for name in REQUIRED:
        if not isinstance(row.get(name), str):
            raise PolygateError(f"{place} has no text in column {name!r}", where=path)
    prompt = Prompt(
        prompt_id=row["prompt_id"].strip(),
        text=normalise.apply(row["text"], settings.normalise),
        category=str(row.get("category") or ""),
        source=f"{path.name} {place}",
        reference=str(row.get("reference") or ""),
    )
    if not prompt.prompt_id.startswith(f"{row['subset']}-{row['split']}-"):
        raise PolygateError(
            f"{place}: prompt id {prompt.prompt_id!r} contradicts split {row['split']!r} and subset {row['subset']!r}",
            where=path,
            do="ids look like harmful-test-0007: subset, split, number",
        )
    return prompt


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a plain file with their place in it ("row 3", counted from 0 without the header)."""
    if path.suffix not in SUFFIXES:
        raise PolygateError(f"can't read {path.suffix or 'a file without suffix'}", where=path, do=f"use {SUFFIXES}")
    if path.suffix == ".parquet":
        rows = files.read_parquet(path, list(REQUIRED)).to_pylist()
    else:
        text = _decoded(path)
        rows = list(_csv(text, path)) if path.suffix == ".csv" else list(_jsonl(text, path))
    if not rows:
        raise PolygateError("no prompts", where=path)
    for number, row in enumerate(rows):
        yield row, f"row {number}"


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except UnicodeDecodeError as error:
        raise PolygateError(f"not UTF-8 (byte {error.start})", where=path, do="save it as UTF-8") from None


def _csv(text: str, path: Path) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        absent = [name for name in REQUIRED if name not in (reader.fieldnames or [])]
        if absent:
            raise PolygateError(f"column {absent[0]!r} is missing", where=path, do=f"columns are {', '.join(REQUIRED)}")
        yield from reader
    except csv.Error as error:
        raise PolygateError(f"not valid CSV ({error}, line {reader.line_num})", where=path) from None


def _jsonl(text: str, path: Path) -> Iterator[dict[str, Any]]:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise PolygateError(f"line {number} is not JSON ({error})", where=path) from None
        if not isinstance(row, dict):
            raise PolygateError(f"line {number} is not a JSON object", where=path)
        yield row
