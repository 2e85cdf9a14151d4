"""One way to write a table: CSV, columns in a fixed order, numbers rounded to six decimals, empty cells for none.

Text of users and models that a spreadsheet would take for a formula gets an apostrophe before it; parquet files hold it
as it is. (Figures and their data hold names only, which can't look like one.)
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from polygate import files
from polygate.measurement.statistics import SURFACE, Comparison, Interval, holm
from polygate.tables.rows import inert


def write(output: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows atomically; KeyError for a value of an unknown column, so that none is lost."""
    lines: list[str] = []
    # The csv module quotes a carriage return within a cell only where lines end with one.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        unknown = set(row) - set(columns)
        if unknown:
            raise KeyError(sorted(unknown)[0])
        writer.writerow([_cell(row.get(name)) for name in columns])
    files.write_csv(output, "".join(line.removesuffix("\r\n") + "\n" for line in lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        # Adding zero turns -0.0 into 0.0.
        return repr(round(float(value), 6) + 0.0)
    return inert(value) if isinstance(value, str) else str(value)


def interval(found: Interval) -> dict[str, Any]:
    """The columns estimate, low, high and method."""
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "method": found.method}


SEMANTIC_COLUMNS = tuple(
    f"semantic_{name}" for name in ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
)
"""The comparison with a small encoder."""


def spelt(comparison: Comparison, control: str = SURFACE) -> dict[str, Any]:
    """A comparison with a control as its columns; with the encoder, `SEMANTIC_COLUMNS`."""
    if control == SURFACE:
        return {"baseline": comparison.baseline, **tested(comparison)}
    return {f"semantic_{name}": value for name, value in tested(comparison).items()}


def tested(comparison: Comparison) -> dict[str, Any]:
    """A comparison as its columns, without whom it is with."""
    difference = comparison.difference
    return {
        "difference": difference.estimate,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "p": told(comparison.p),
        "p_holm": told(comparison.p_holm),
        "verdict": comparison.verdict,
    }


def changed(found: Interval, p: float) -> dict[str, Any]:
    """A paired difference to the unsteered arm as its columns; `corrected` adds the last."""
    return {
        "change": found.estimate,
        "change_low": found.low,
        "change_high": found.high,
        "change_method": found.method,
        "p": p,
    }


def corrected(rows: Sequence[dict[str, Any]], family: Sequence[str], p: str = "p") -> None:
    """Holm's correction, in place, of the rows that have a `p`: `p_holm`, and no p where there is no test.

    `p` names its column, and begins that of the corrected one. A family are rows that agree in the columns `family`,
    over languages; means over tiers are families of their own.
    """
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if p in row:
            key = (*(row.get(name) for name in family), row["language"] == "")
            families.setdefault(key, []).append(row)
    for members in families.values():
        for row, adjusted in zip(members, holm([row[p] for row in members]), strict=True):
            row |= {p: told(row[p]), f"{p}_holm": told(adjusted)}


def told(p: float) -> float | None:
    """A p-value, None where there is none."""
    return None if math.isnan(p) else p
