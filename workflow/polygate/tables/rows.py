"""Finished tables as text, for what is made of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from polygate.errors import PolygateError

Row = Mapping[str, str]


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV table as text; `PolygateError` when it is absent."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None


def select(rows: Sequence[Row], **what: object) -> list[Row]:
    """Rows whose columns equal the given values (None is an empty cell)."""
    wanted = {name: "" if value is None else str(value) for name, value in what.items()}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]
