"""Translations that somebody else made: one plain file per language in the folder that `translation.files` names.

`{language}.csv`, `.jsonl` or `.parquet` with the columns prompt_id, text and back_translation; other columns are
ignored. Ids are those of the pivot's prompt table. A language that is only checked needs back_translation alone, one
that a model translates back needs text alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from polygate.errors import PolygateError
from polygate.prompts.sources.plain import FORMATS, Columns, find, rows
from polygate.prompts.table import PromptTable
from polygate.prompts.translation.memory import Translated
from polygate.settings.types import Settings

Direction = Literal["there", "back"]
DIRECTIONS: tuple[Direction, ...] = ("there", "back")
"""From the pivot's language into another, and back."""
COLUMN: dict[Direction, str] = {"there": "text", "back": "back_translation"}
COLUMNS = Columns(("prompt_id",), tuple(COLUMN.values()))


def holds(path: Path, direction: Direction) -> bool:
    """Whether a file has the column of a direction; `PolygateError` when the file can't be read."""
    return any(COLUMN[direction] in row for row, _ in rows(path, COLUMNS))


def read(path: Path, direction: Direction, of: PromptTable) -> tuple[list[Translated], int]:
    """Translations of every prompt of a table, in its order, and the number of the file's rows of other prompts.

    Raises `PolygateError` naming file and row for a prompt that is absent or stands in two rows, and for a cell that
    is no text. An empty back-translation is kept as one, to be counted; an empty translation is refused.
    """
    found: dict[str, Translated] = {}
    name = COLUMN[direction]
    for row, place in rows(path, COLUMNS):
        identity, text = row.get("prompt_id"), _text(row, name, direction, place, path)
        if not isinstance(identity, str):
            raise PolygateError(f"{place} has no text in column 'prompt_id'", where=path)
        if identity.strip() in found:
            raise PolygateError(f"{place}: prompt {identity.strip()!r} stands in it twice", where=path)
        found[identity.strip()] = Translated(text, 0, True)
    absent = [identity for identity in of.ids if identity not in found]
    if absent:
        raise PolygateError(
            f"{len(absent)} of {len(of)} prompts are not in it, the first is {absent[0]}",
            where=path,
            do=f"use the ids of {of.language}'s prompt table, and translate every one",
        )
    return [found[identity] for identity in of.ids], len(found) - len(of)


def _text(row: dict[str, Any], name: str, direction: Direction, place: str, path: Path) -> str:
    value = row.get(name)
    if direction == "back" and (value is None or value != value):
        return ""
    if not isinstance(value, str) or (direction == "there" and not value.strip()):
        raise PolygateError(f"{place} has no text in column {name!r}", where=path, do="fill in the translation")
    return value


def by_files(settings: Settings) -> dict[tuple[Direction, str], Path]:
    """What is read from files rather than translated here: the file of every direction and language.

    Raises `PolygateError` where neither a file nor the model can give what is needed: no file and no code, a file
    without the column, no model; and for a translated language that has a file in `prompts.extra` too.
    """
    asked = settings.translation
    found: dict[tuple[Direction, str], Path] = {}
    for language in asked.measured:
        section = "languages" if language in asked.languages else "checked"
        extra = settings.prompts.extra
        if section == "languages" and extra is not None and find(extra, language) is not None:
            raise PolygateError(
                f"translation.languages: {language} has a file in {extra} (prompts.extra) too", do="keep one of them"
            )
        path = None if asked.files is None else find(asked.files, language)
        for direction in DIRECTIONS if section == "languages" else DIRECTIONS[1:]:
            if path is not None and holds(path, direction):
                found[direction, language] = path
            elif not asked.has_model or asked.code(language) is None:
                raise _nothing(section, language, direction, path, settings)
    return found


def _nothing(section: str, language: str, direction: Direction, path: Path | None, of: Settings) -> PolygateError:
    lacking = f"no file {language}{FORMATS}" if path is None else f"no column {COLUMN[direction]} in {path}"
    other = "no translation model" if not of.translation.has_model else "no code of the model's"
    what = "translate" if direction == "there" else "translate back"
    return PolygateError(
        f"translation.{section}.{language}: nothing to {what} it with: {lacking}, and {other}",
        do="give one of the two",
    )
