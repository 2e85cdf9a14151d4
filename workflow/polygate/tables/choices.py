"""choices.csv: what was chosen per model, on which prompts, by which criterion, or that the settings fixed it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polygate.steering.choice import OF_CAST, fixed_row
from polygate.tables.cells import Cell, read
from polygate.tables.writing import write

COLUMNS = ("model", "what", "language", "value", "criterion", "criterion_value", "split", "languages")


def build(choices: Sequence[Cell], output: Path, cast_strength: float | None = None) -> None:
    """Write the table from the choices of every model, model by model; `cast_strength` is CAST's where it is fixed."""
    rows = []
    for model in dict.fromkeys(cell.model for cell in choices):
        own = [row for cell in choices if cell.model == model for row in read(cell, COLUMNS[1:]).to_pylist()]
        own += [] if cast_strength is None else [fixed_row(OF_CAST, repr(float(cast_strength)))]
        rows += [{"model": model, **row} for row in own]
    write(output, COLUMNS, rows)
