"""sweeps.csv: refusal of harmful prompts at every point of the layer and strength sweeps, per language and tier.

`kind` layer: `direction` of `layer` ablated at all layers; the rows of direction none are the same prompts left alone.
`dip` marks, per direction and language or tier, the layer at which refusal is lowest (the first of several). `kind`
strength: λ·gap·v_HRL added at the model's layer; `peak` marks the λ at which refusal is highest. `chosen` marks the
model's own layer and the λ nearest to the language's own strength. `judge` is who judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.forward.interventions import POINT
from polygate.measurement.statistics import Panel, Part, Resampling, replicate, share_interval
from polygate.settings.types import Statistics
from polygate.steering.choice import Choice
from polygate.steering.sweeps import Point
from polygate.tables.cells import Cell, Test, by_tier, only, pivoted, read
from polygate.tables.writing import interval, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "kind",
    "direction",
    "layer",
    "strength",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "dip",
    "peak",
    "chosen",
    "judge",
)
UNSTEERED = "none"


@dataclass(frozen=True)
class _Sheet:
    """One language and kind of sweep: prompt ids, and per point (None: left alone) who was refused, bool [n]."""

    language: str
    ids: tuple[str, ...]
    refused: dict[Point | None, NDArray[np.bool_]]


def build(
    swept: Sequence[Cell],
    unsteered: Sequence[Cell],
    choices: Sequence[Cell],
    output: Path,
    *,
    statistics: Statistics,
    seed: int,
) -> None:
    """Write the table from judgements of sweeps, of the unsteered arm, and the choices of every model."""
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    for (model, tier), cells in by_tier(swept):
        choice = Choice.load(only(choices, model=model).path)
        for kind in ("layer", "strength"):
            sheets = [
                sheet
                for cell in cells
                if (sheet := _sheet(cell, kind, only(unsteered, model=model, language=cell.language))) is not None
            ]
            if sheets:
                whose = {"model": model, "tier": tier, "judge": cells[0].judge}
                rows += [{**whose, **row} for row in _rows(sheets, kind, choice, resampling)]
    write(output, COLUMNS, rows)


def _sheet(cell: Cell, kind: str, alone: Cell) -> _Sheet | None:
    table = read(cell, ["prompt_id", "outcome"])
    named = pc.split_pattern(table["prompt_id"], POINT).to_pylist()
    if any(len(parts) != 2 for parts in named):
        raise PolygateError("not judgements of a sweep", where=cell.path, do="delete the file and rerun")
    prompts, points = [parts[0] for parts in named], [parts[1] for parts in named]
    refused = [outcome == "refused" for outcome in table["outcome"].to_pylist()]
    kept = [row for row, point in enumerate(points) if point.startswith(f"{kind}:")]
    if not kept:
        return None
    ids = tuple(dict.fromkeys(prompts[row] for row in kept))
    test = Test(ids, np.ones(len(ids), bool))
    some = pa.table(
        {
            "prompt_id": [prompts[row] for row in kept],
            "point": [points[row] for row in kept],
            "refused": [refused[row] for row in kept],
        }
    )
    found: dict[Point | None, NDArray[np.bool_]] = {}
    if kind == "layer":
        plain = read(alone, ["prompt_id", "outcome"])
        plain = plain.append_column("refused", pc.equal(plain["outcome"], "refused"))
        found[None] = pivoted(plain, [], "refused", test, alone.path)[()]
    for (name,), values in pivoted(some, ["point"], "refused", test, cell.path).items():
        found[Point.of(name)] = values
    return _Sheet(cell.language, ids, found)


def _rows(sheets: Sequence[_Sheet], kind: str, choice: Choice, resampling: Resampling) -> list[dict[str, Any]]:
    """Rows of one model, tier and kind of sweep: per language, then the tier's mean."""
    points = [point for point in sheets[0].refused if all(point in sheet.refused for sheet in sheets)]
    panel = Panel.stack([Part(sheet.language, sheet.ids, np.ones(len(sheet.ids), bool)) for sheet in sheets])
    values = np.concatenate([np.stack([sheet.refused[point] for point in points]) for sheet in sheets], axis=1)
    found = replicate("rate", values, panel, resampling)
    counts = panel.counts()
    rows: list[dict[str, Any]] = []
    for column, name in enumerate([*panel.names, ""]):
        source, at = (found, column) if name else (found.over_languages(), 0)
        items = max(panel.items(column if name else None))
        n = int(counts[column] if name else counts.sum())
        here = [
            {"language": name, "kind": kind, "n": n, **_named(point), **interval(share_interval(source, i, at, items))}
            for i, point in enumerate(points)
        ]
        _mark(here, kind, choice, name)
        rows += here
    return rows


def _named(point: Point | None) -> dict[str, Any]:
    if point is None:
        return {"direction": UNSTEERED}
    return {"direction": point.direction, "layer": point.layer, "strength": point.strength}


def _mark(rows: Sequence[dict[str, Any]], kind: str, choice: Choice, language: str) -> None:
    """The dip of each direction, the peak, and what the model was given."""
    if kind == "layer":
        for direction in dict.fromkeys(row["direction"] for row in rows if "layer" in row):
            of = [row for row in rows if row["direction"] == direction]
            lowest = min(of, key=lambda row: row["estimate"])
            for row in of:
                row |= {"dip": row is lowest, "chosen": row["layer"] == choice.layer}
        return
    highest = max(rows, key=lambda row: row["estimate"])
    own = choice.strength_in(language) if language else choice.strength
    nearest = min(rows, key=lambda row: abs(row["strength"] - own))
    for row in rows:
        row |= {"peak": row is highest, "chosen": row is nearest}
