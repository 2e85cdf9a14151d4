"""Rows of plain files: CSV with commas, JSON lines or parquet, checked for the columns that are read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate import files
from polygate.errors import PolygateError

SUFFIXES = (".csv", ".jsonl", ".parquet")
FORMATS = ".csv, .jsonl or .parquet"
_A_LINE = "write one JSON object per line"
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}

# A prompt of many shots is longer than the 131,072 characters that the csv module takes for a sign of broken quotes.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Columns:
    """What is read of a file: columns that must be there, and those that may be; others are ignored."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        """All that are read."""
        return (*self.required, *self.optional)


def find(folder: Path, language: str) -> Path | None:
    """The plain file of a language in a folder, None when there is none; case counts, whatever the disk thinks."""
    names = {path.name for path in folder.iterdir()}
    found = (folder / f"{language}{suffix}" for suffix in SUFFIXES if f"{language}{suffix}" in names)
    return next((path for path in found if path.is_file()), None)


def rows(path: Path, columns: Columns) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a plain file with their place in it ("row 3", counted from 0 without the header).

    Raises `PolygateError` for a file that is absent, empty, broken or not UTF-8, and for a column that is missing,
    stands in it twice or is called nearly like one that is read.
    """
    if path.suffix not in SUFFIXES:
        raise PolygateError(f"can't read {path.suffix or 'a file without suffix'}", where=path, do=f"use {FORMATS}")
    if path.suffix == ".parquet":
        found = _parquet(path, columns)
    else:
        text = _decoded(path)
        found = list((_csv if path.suffix == ".csv" else _jsonl)(text, path, columns))
    if not found:
        raise PolygateError("no prompts", where=path)
    for number, row in enumerate(found):
        yield row, f"row {number}"


def _parquet(path: Path, columns: Columns) -> list[dict[str, Any]]:
    found = files.read_parquet(path, do="save it again, or as CSV")
    _check_columns(found.column_names, path, columns)
    try:
        rows: list[dict[str, Any]] = found.select(
            [name for name in found.column_names if name in columns.read]
        ).to_pylist()
    except UnicodeDecodeError:
        raise PolygateError("text in it is not UTF-8", where=path, do="write it again as UTF-8") from None
    return rows


def _check_columns(names: Sequence[str], path: Path, columns: Columns) -> None:
    _check_names(names, path, columns)
    absent = [name for name in columns.required if name not in names]
    if absent:
        more = f"; {', '.join(columns.optional)} may be there" if columns.optional else ""
        asked = f"columns are {', '.join(columns.required)}{more}"
        raise PolygateError(f"column {absent[0]!r} is missing", where=path, do=asked)


def _check_names(names: Sequence[str], path: Path, columns: Columns) -> None:
    """No column that is read stands twice, and none that isn't read is called nearly like one."""
    for name in columns.read:
        if list(names).count(name) > 1:
            raise PolygateError(f"column {name!r} stands in it twice", where=path, do="keep one of them")
        near = [other for other in names if other != name and other.strip().casefold() == name]
        if near:
            raise PolygateError(f"column {near[0]!r} is not read", where=path, do=f"call it {name}, or leave it out")


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except UnicodeDecodeError as error:
        raise PolygateError(f"not UTF-8 (byte {error.start})", where=path, do="save it as UTF-8") from None


def _csv(text: str, path: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file; a row of more or fewer fields than the header has a comma too many or too few somewhere."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_delimiter(header, path, columns)
        _check_columns(header, path, columns)
        start = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise PolygateError(
                    f"line {start} has {len(fields)} fields, the header {len(header)}",
                    where=path,
                    do="put text that holds a comma in double quotes, and leave no field out",
                )
            if fields:
                yield dict(zip(header, fields, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise PolygateError(
            f"not valid CSV ({error}, line {reader.line_num})", where=path, do="close what is quoted"
        ) from None


def _check_delimiter(header: Sequence[str], path: Path, columns: Columns) -> None:
    for delimiter, called in DELIMITERS.items():
        names = [name.strip() for field in header for name in field.split(delimiter)]
        if len(header) < len(columns.required) and set(columns.required) <= set(names):
            raise PolygateError(f"fields are separated by {called}", where=path, do="save it with commas")


def _jsonl(text: str, path: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise PolygateError(f"line {number} is not JSON ({error})", where=path, do=_A_LINE) from None
        if not isinstance(row, dict):
            raise PolygateError(f"line {number} is not a JSON object", where=path, do=_A_LINE)
        _check_names(list(row), path, columns)
        yield row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found
