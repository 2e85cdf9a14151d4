"""choices.csv: what was chosen per model, on which prompts, by which criterion, or that the settings fixed it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polygate.tables.cells import Cell, read
from polygate.tables.writing import write

COLUMNS = ("model", "what", "language", "value", "criterion", "criterion_value", "split", "languages")


def build(choices: Sequence[Cell], output: Path) -> None:
    """Write the table from the choices of every model."""
    rows = [{"model": cell.model, **row} for cell in choices for row in read(cell, COLUMNS[1:]).to_pylist()]
    write(output, COLUMNS, rows)
