"""The browsable table of sampled prompts with their completions, unsteered beside routed: one HTML page.

Prompts and completions are untrusted text: they travel as JSON in which `<` can't occur, and the page shows them as
text nodes only.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from polygate.errors import PolygateError
from polygate.files import read_csv, write_text
from polygate.tables.rows import exact

COLUMNS = (
    *("model", "tier", "language", "subset", "prompt_id", "prompt"),
    *("unsteered", "unsteered_outcome", "routed", "routed_outcome", "budget", "flagged"),
)
PLACE = "/*SAMPLES*/"
TEMPLATE = Path(__file__).with_suffix(".html")


def write(samples: Path | str, output: Path | str) -> None:
    """`samples.csv` → a page that needs nothing but itself. Raises `PolygateError` when a column is missing."""
    reader = csv.DictReader(io.StringIO(read_csv(samples), newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise PolygateError(f"column {missing[0]!r} is missing", where=samples, do="delete the file and rerun")
    rows = [[exact(row[name]) for name in COLUMNS] for row in reader]
    write_text(
        output, TEMPLATE.read_text(encoding="utf-8").replace(PLACE, embedded({"columns": COLUMNS, "rows": rows}))
    )


def embedded(value: object) -> str:
    """JSON that can stand inside a script element, whatever text it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
