"""gates.csv: F1, balanced accuracy and AUC of the gates on test prompts, per rank and budget.

Rows without a `draw` are means over the draws of a budget (`sd` is the spread between them); rows with one are single
draws. Means over a tier take the languages that have a gate of that rank. `scorer` is "gate", "surface" for gates on
the eleven surface features, or "semantic" for gates on a small encoder's sentence embeddings (none without an encoder),
both fitted and calibrated in the same way: what a gate's F1 has to be read against. These have no rank and depend on no
model; their rows are repeated for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    balanced_accuracy_of,
    replicate,
    selectivities,
    share_interval,
)
from polygate.settings.types import Statistics
from polygate.tables.cells import (
    SEMANTIC_GATE,
    SURFACE_GATE,
    Cell,
    Test,
    by_tier,
    control_gates,
    pivoted,
    read,
    test_rows,
    test_split,
)
from polygate.tables.writing import interval, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "rank",
    "budget",
    "draw",
    "solver",
    "threshold_from",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "draws",
    "sd",
    "scorer",
)
_READ = ["prompt_id", "split", "subset", "budget", "draw", "threshold_from", "score", "flagged"]

Setup = tuple[int, int]
"""Budget and draw."""


@dataclass(frozen=True)
class Gates:
    """Gates of one language and rank: scores and decisions [n] per (budget, draw)."""

    language: str
    test: Test
    scores: dict[Setup, NDArray[np.float64]]
    flagged: dict[Setup, NDArray[np.float64]]
    threshold_from: dict[int, str]
    solver: str


def build(
    gate_scores: Sequence[Cell],
    output: Path,
    *,
    statistics: Statistics,
    seed: int,
    surfaces: Sequence[Cell] = (),
    semantics: Sequence[Cell] = (),
) -> None:
    """Write the table from the gate scores of every model and language.

    `surfaces`, `semantics`: cells of the two controls, one per language; those that hold gates give the rows of scorers
    "surface" and "semantic".
    """
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    controls = {
        (scorer, tier): _control_rows(cells, gate, resampling)
        for scorer, gate, given in (("surface", SURFACE_GATE, surfaces), ("semantic", SEMANTIC_GATE, semantics))
        for (_, tier), cells in by_tier(given)
    }
    for (model, tier), cells in by_tier(gate_scores):
        common = {"model": model, "tier": tier}
        for rank, gates in _ranks(cells):
            rows += [{**common, "rank": rank, "scorer": "gate", **row} for row in _rows(gates, resampling)]
        for scorer in ("surface", "semantic"):
            rows += [{**common, "scorer": scorer, **row} for row in controls.get((scorer, tier), [])]
    write(output, COLUMNS, rows)


def _ranks(cells: Sequence[Cell]) -> Iterator[tuple[int, list[Gates]]]:
    """Gates per rank, of the languages that have it and both classes."""
    tables = {cell: test_split(read(cell, [*_READ, "rank", "solver"])) for cell in cells}
    present = {cell: set(table["rank"].to_pylist()) for cell, table in tables.items()}
    for rank in sorted(set().union(*present.values())):
        chosen = [cell for cell in cells if rank in present[cell]]
        found = [_gates(cell, tables[cell].filter(pc.equal(tables[cell]["rank"], rank))) for cell in chosen]
        gates = [language for language in found if language.test.both]
        if gates:
            yield rank, gates


def _control_rows(cells: Sequence[Cell], scorer: str, resampling: Resampling) -> list[dict[str, Any]]:
    found = {cell: control_gates(cell, _READ, scorer) for cell in cells}
    gates = [_gates(cell, table) for cell, table in found.items() if table is not None]
    gates = [language for language in gates if language.test.both]
    return _rows(gates, resampling) if gates else []


def _gates(cell: Cell, table: pa.Table) -> Gates:
    one = table.filter(pc.and_(pc.equal(table["budget"], 0), pc.equal(table["draw"], 0)))
    test = test_rows(one)
    scores = pivoted(table, ["budget", "draw"], "score", test, cell.path)
    flagged = pivoted(table, ["budget", "draw"], "flagged", test, cell.path)
    origins = dict(zip(table["budget"].to_pylist(), table["threshold_from"].to_pylist(), strict=True))
    solver = table["solver"][0].as_py() if "solver" in table.column_names else ""
    return Gates(
        cell.language,
        test,
        {(int(b), int(d)): values.astype(np.float64) for (b, d), values in scores.items()},
        {(int(b), int(d)): values.astype(np.float64) for (b, d), values in flagged.items()},
        origins,
        solver,
    )


def _rows(gates: Sequence[Gates], resampling: Resampling) -> list[dict[str, Any]]:
    """Rows of one rank: per language its draws and their means, then the tier's means."""
    setups = [setup for setup in gates[0].scores if all(setup in language.scores for language in gates)]
    budgets = list(dict.fromkeys(budget for budget, _ in setups))
    groups = [[i for i, (budget, _) in enumerate(setups) if budget == wanted] for wanted in budgets]
    panel = Panel.stack([Part(language.language, language.test.ids, language.test.harmful) for language in gates])
    scores, flagged = (
        np.concatenate([np.stack([values[setup] for setup in setups]) for values in of_each], axis=1)
        for of_each in ([g.scores for g in gates], [g.flagged for g in gates])
    )
    counts = panel.counts()
    rows = []
    for metric, each, mean, tier in _metrics(scores, flagged, groups, panel, resampling):
        common = {"metric": metric, "solver": gates[0].solver}
        for column, language in enumerate(gates):
            what = {**common, "language": language.language, "n": int(counts[column])}
            for i, budget in enumerate(budgets):
                origin = {"budget": budget, "threshold_from": language.threshold_from[budget]}
                single = [each[method][column] for method in groups[i]]
                spread = {"draws": len(single), "sd": _sd(single)}
                rows.append({**what, **origin, **spread, **interval(mean[i][column])})
                draws = [setups[method][1] for method in groups[i]]
                rows += [{**what, **origin, "draw": d, **interval(s)} for d, s in zip(draws, single, strict=True)]
        for i, budget in enumerate(budgets):
            origin = {"budget": budget, "threshold_from": gates[0].threshold_from[budget], "draws": len(groups[i])}
            rows.append({**common, "language": "", "n": int(counts.sum()), **origin, **interval(tier[i])})
    return rows


_Table = list[list[Interval]]


def _metrics(
    scores: NDArray[np.float64],
    flagged: NDArray[np.float64],
    groups: Sequence[Sequence[int]],
    panel: Panel,
    resampling: Resampling,
) -> Iterator[tuple[str, _Table, _Table, list[Interval]]]:
    """Metric, intervals per draw and language, per budget and language, per budget over the tier."""
    for metric, values in (("f1", flagged), ("auc", scores)):
        found = replicate(metric, values, panel, resampling)  # type: ignore[arg-type]
        mean = found.over_methods(groups)
        over = _table(mean.over_languages(), panel, whole=True)
        yield metric, _table(found, panel), _table(mean, panel), [row[0] for row in over]
    # Balanced accuracy is (1 + Δ) / 2 with Δ the selectivity of the flags; Δ is linear, so draws are averaged first.
    averaged = np.stack([flagged[list(group)].mean(axis=0) for group in groups])
    each, means = selectivities(flagged, panel, resampling), selectivities(averaged, panel, resampling)
    yield (
        "balanced_accuracy",
        [[balanced_accuracy_of(cell) for cell in row] for row in each.per_language],
        [[balanced_accuracy_of(cell) for cell in row] for row in means.per_language],
        [balanced_accuracy_of(cell) for cell in means.mean],
    )


def _table(found: Replicates, panel: Panel, *, whole: bool = False) -> _Table:
    items = [min(panel.items(None if whole else column)) for column in range(found.estimate.shape[1])]
    methods = range(found.estimate.shape[0])
    return [[share_interval(found, method, column, n) for column, n in enumerate(items)] for method in methods]


def _sd(draws: Sequence[Interval]) -> float | None:
    """Standard deviation between draws, None for a single one."""
    return float(np.std([draw.estimate for draw in draws], ddof=1)) if len(draws) > 1 else None
