"""Which file is of what: the inputs of the tables, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate import files
from polygate.controls.surface import LABEL_FREE
from polygate.errors import PolygateError
from polygate.measurement.statistics import ENCODER, SURFACE
from polygate.settings.types import TIERS

ROUTED = "routed"
"""Arms of a gate, which have draws; every other arm holds each prompt once."""
SURFACE_GATE = "surface_gate"
"""Scorer of the gates in a surface cell."""
SEMANTIC = "semantic"
"""Scorer of the probe on a small encoder's embeddings, in a cell of the semantic baseline."""
SEMANTIC_GATE = "semantic_gate"
"""Scorer of the gates there."""
CONTROLS: Mapping[str, Sequence[str]] = {SURFACE: LABEL_FREE, ENCODER: (SEMANTIC,)}
"""What a direction is compared with, and by which scorers."""


@dataclass(frozen=True)
class Cell:
    """A result file of one model, data set and language, and of one arm and judge where that applies.

    `model` is "" for files that no model takes part in, `language` and `tier` "" for files of a whole model. `arm` is
    "none", "addition", "ablation" or "routed", this one with its `budget`.
    """

    model: str
    tier: str
    language: str
    path: Path
    arm: str = ""
    budget: int | None = None
    judge: str = ""
    dataset: str = ""

    @property
    def treatment(self) -> tuple[str, int | None]:
        """Arm and budget."""
        return self.arm, self.budget


def by_tier(cells: Sequence[Cell], *more: Callable[[Cell], Any]) -> Iterator[tuple[tuple[Any, ...], list[Cell]]]:
    """Cells per (model, tier, *more): models in the order of the cells, tiers high, mid, low."""
    models = list(dict.fromkeys(cell.model for cell in cells))
    further = list(dict.fromkeys(tuple(key(cell) for key in more) for cell in cells))
    for model in models:
        for tier in TIERS:
            for values in further:
                chosen = [
                    cell
                    for cell in cells
                    if (cell.model, cell.tier) == (model, tier) and tuple(key(cell) for key in more) == values
                ]
                if chosen:
                    yield (model, tier, *values), chosen


def by_language(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells per language, in order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.language, []).append(cell)
    return found


def only(cells: Sequence[Cell], **what: Any) -> Cell:
    """The one cell with these attributes; `PolygateError` when there is none or more than one."""
    found = [cell for cell in cells if all(getattr(cell, name) == value for name, value in what.items())]
    if len(found) != 1:
        raise PolygateError(f"{len(found)} files of {what}, one is needed", do="this is a defect of the workflow")
    return found[0]


@dataclass(frozen=True)
class Test:
    """The test prompts of one language: `ids` in order, `harmful` bool [n]."""

    ids: tuple[str, ...]
    harmful: NDArray[np.bool_]

    @property
    def both(self) -> bool:
        """Whether both classes are there."""
        return bool(self.harmful.any()) and not bool(self.harmful.all())


def test_rows(table: pa.Table) -> Test:
    """Ids and labels of a table with one row per test prompt."""
    return Test(tuple(table["prompt_id"].to_pylist()), np.array(table["subset"].to_pylist()) == "harmful")


def pivoted(
    table: pa.Table, keys: Sequence[str], value: str, test: Test, where: Path
) -> dict[tuple[Any, ...], NDArray[Any]]:
    """Values per combination of `keys` (in order of appearance), each [n] in the order of `test`.

    Rows of other prompts are ignored; `PolygateError` when a combination lacks a prompt or has one twice.
    """
    at = pc.index_in(table["prompt_id"], value_set=pa.array(test.ids, pa.string()))
    known = pc.is_valid(at)
    table, at = table.filter(known), at.filter(known).to_numpy()
    codes = np.zeros(len(at), np.int64)
    names: list[tuple[Any, ...]] = [()] if len(at) else []
    for key in keys:
        encoded = table[key].combine_chunks().dictionary_encode()
        values = encoded.dictionary.to_pylist()
        codes = codes * len(values) + encoded.indices.to_numpy().astype(np.int64)
        names = [(*name, value) for name in names for value in values]
    present, first, index = np.unique(codes, return_index=True, return_inverse=True)
    times = np.zeros((len(present), len(test.ids)), np.int64)
    np.add.at(times, (index, at), 1)
    for row in np.flatnonzero((times != 1).any(axis=1)):
        named = ", ".join(f"{key} {part}" for key, part in zip(keys, names[present[row]], strict=True)) or "the table"
        what = f"{named} has {int(times[row].sum())} rows for {len(test.ids)} test prompts"
        raise PolygateError(what, where=where, do="delete the file and rerun")
    flat = _array(table[value])
    placed = np.empty(times.shape, flat.dtype)
    placed[index, at] = flat
    return {names[present[row]]: placed[row] for row in np.argsort(first, kind="stable")}


def _array(values: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_string(values.type):
        return np.array(values.to_pylist(), dtype=np.str_)
    array: NDArray[Any] = values.to_numpy()
    return array


def test_split(table: pa.Table) -> pa.Table:
    """Rows of the test split."""
    return table.filter(pc.equal(table["split"], "test"))


def read(cell: Cell, columns: Sequence[str]) -> pa.Table:
    """The columns of a cell's file."""
    return files.read_parquet(cell.path, list(columns))


def listed(paths: Sequence[str | Path], keys: Sequence[dict[str, Any]]) -> list[Cell]:
    """Cells of files and, in the same order, their other attributes.

    Raises `PolygateError` for a file that is of something else: another data set, language, arm, budget or judge, or
    another model, judge, sentence encoder or way of fitting gates than the other files that are given for it.
    """
    found = [Cell(path=Path(path), **key) for path, key in zip(paths, keys, strict=True)]
    seen: dict[tuple[str, str], str] = {}
    for cell in found:
        said = files.parquet_metadata(files.read_parquet(cell.path, []))
        # Names may come to mean something else; what a file says of it may not.
        whose = {"model": cell.model, "asked": cell.judge, "encoder": "the run's", "gate": "the run's"}
        files.expect(cell.path, said, **_what(cell, said), **{what: seen.get((what, of)) for what, of in whose.items()})
        for what, of in whose.items():
            if of and what in said:
                seen.setdefault((what, of), said[what])
    return found


def _what(cell: Cell, said: Mapping[str, str]) -> dict[str, object]:
    """What a cell's file must say; completions, which arms may share, name their action instead."""
    arm = "" if "judge" not in said and cell.arm != ROUTED else cell.arm
    action = {"none": "none", "addition": "add"}.get(cell.arm)
    where = {"dataset": cell.dataset, "language": cell.language}
    return {**where, "arm": arm, "action": action, "budget": cell.budget, "judge": cell.judge}


def control_gates(cell: Cell, columns: Sequence[str], scorer: str = SURFACE_GATE) -> pa.Table | None:
    """Columns of the gates of a control (`scorer`), test rows, of its cell; None when it holds no gates."""
    if "budget" not in files.read_parquet(cell.path).column_names:
        return None
    table = test_split(read(cell, list({*columns, "split", "scorer"})))
    table = table.filter(pc.equal(table["scorer"], scorer))
    return table if table.num_rows else None
