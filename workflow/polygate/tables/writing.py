"""One way to write a table: CSV, columns in a fixed order, numbers rounded to six decimals, empty cells for none."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polygate import files
from polygate.statistics import Interval


def write(output: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows atomically; KeyError for a value of an unknown column, so that none is lost."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        unknown = set(row) - set(columns)
        if unknown:
            raise KeyError(sorted(unknown)[0])
        writer.writerow([_cell(row.get(name)) for name in columns])
    files.write_text(output, text.getvalue())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        # Adding zero turns -0.0 into 0.0.
        return repr(round(float(value), 6) + 0.0)
    return str(value)


def interval(found: Interval) -> dict[str, Any]:
    """The columns estimate, low, high and method."""
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "method": found.method}
