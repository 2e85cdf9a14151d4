"""The column `translation` of every other table: which languages of a row have translations below the thresholds.

A row of a language says "below: km" where that language is, a mean over a tier "below: km si" where it is a mean over
such languages, and an empty cell says that there are none. What a number was fitted on is not looked at: where a
high-resource language is below, everything that is fitted rests on it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

from polygate import files
from polygate.tables.rows import Row, read_rows
from polygate.tables.translation import BELOW

COLUMN = "translation"


def below(translation: Path) -> dict[str, str]:
    """Languages with a row below its threshold in `translation.csv`, in its order, with their tiers."""
    rows = read_rows(translation)
    return {row["language"]: row["tier"] for row in rows if row["gate"] == BELOW}


def missed(translation: Path) -> dict[str, list[Row]]:
    """The rows below their thresholds, by language."""
    found: dict[str, list[Row]] = {}
    for row in read_rows(translation):
        if row["gate"] == BELOW:
            found.setdefault(row["language"], []).append(row)
    return found


def mark(table: Path, translation: Path, output: Path) -> None:
    """Write a table with one more column, every other cell as it is; a table without languages is copied."""
    marked = below(translation)
    header, *rows = list(csv.reader(io.StringIO(files.read_csv(table), newline="")))
    if "language" in header:
        at = {name: header.index(name) for name in ("language", "tier") if name in header}
        rows = [[*row, _said(row, at, marked)] for row in rows]
        header = [*header, COLUMN]
    lines: list[str] = []
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerows([header, *rows])
    files.write_csv(output, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def _said(row: Sequence[str], at: Mapping[str, int], marked: Mapping[str, str]) -> str:
    language = row[at["language"]]
    tier = row[at["tier"]] if "tier" in at else ""
    names = [name for name, own in marked.items() if (name == language if language else tier in ("", own))]
    return f"{BELOW}: {' '.join(names)}" if names else ""
