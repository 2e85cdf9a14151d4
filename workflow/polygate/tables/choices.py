"""choices.csv: what was chosen per model, on which prompts, by which criterion, or that the settings fixed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from polygate.steering.choice import fixed_row
from polygate.tables.cells import Cell, read
from polygate.tables.writing import write

COLUMNS = ("model", "what", "language", "value", "criterion", "criterion_value", "split", "languages")


def build(choices: Sequence[Cell], output: Path, fixed: Mapping[str, float]) -> None:
    """Write the table from the choices of every model, model by model; `fixed`: what the settings fixed for all."""
    rows = []
    for model in dict.fromkeys(cell.model for cell in choices):
        own = [row for cell in choices if cell.model == model for row in read(cell, COLUMNS[1:]).to_pylist()]
        own += [fixed_row(what, repr(float(value))) for what, value in fixed.items()]
        rows += [{"model": model, **row} for row in own]
    write(output, COLUMNS, rows)
