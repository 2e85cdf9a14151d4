"""Finished tables as text, for what is made of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from polygate import files

Row = Mapping[str, str]
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""What a spreadsheet takes for a formula, or for one that is kept from being one."""

# Prompts of many shots are longer than the 131,072 characters that the csv module takes for a sign of broken quotes.
csv.field_size_limit(2**31 - 1)


def inert(text: str) -> str:
    """`text` as a cell that no spreadsheet computes: an apostrophe before what looks like a formula (after OWASP).

    A number is none, whatever its sign.
    """
    return f"'{text}" if _computed(text) else text


def _computed(text: str) -> bool:
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)


def exact(cell: str) -> str:
    """The text that `inert` made a cell of."""
    return cell[1:] if cell.startswith("'") and _computed(cell[1:]) else cell


def read_rows(path: Path, *, tested: bool = False) -> list[Row]:
    """Rows of a CSV table as text; `PolygateError` when it is absent or damaged.

    In a table of several data sets these are the rows of the one that everything is fitted on, which stand first; with
    `tested` also those of the data sets that are only tested on. Of several judges they are the first one's.
    """
    read = csv.DictReader(io.StringIO(files.read_csv(path), newline=""))
    rows: list[Row] = [{name: exact(cell) for name, cell in row.items()} for row in read]
    told = ["judge"] if tested else ["dataset", "judge"]
    return [row for row in rows if all(row.get(name) == rows[0].get(name) for name in told)]


def select(rows: Sequence[Row], **what: object) -> list[Row]:
    """Rows whose columns equal the given values (None is an empty cell)."""
    wanted = {name: "" if value is None else str(value) for name, value in what.items()}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]
