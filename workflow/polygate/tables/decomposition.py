"""decomposition.csv: acted, action, calibration, representation, per language and tier, for each budget b ≥ 1.

`scorer` says whose flags decide: "gate", or, fitted and calibrated in the same way, "surface" for gates on the eleven
surface features and "semantic" for gates on a small encoder's sentence embeddings (no rows without an encoder). What
the surface's call action or calibration needs no model to be known; what the encoder's do, no model this large.
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

from polygate.measurement.decomposition import PARTS, decompose
from polygate.measurement.statistics import Panel, Part, Resampling, replicate, share_interval
from polygate.settings.types import Statistics
from polygate.steering.conditional import clipped_rank
from polygate.tables.cells import (
    SEMANTIC_GATE,
    SURFACE_GATE,
    Cell,
    by_tier,
    control_gates,
    only,
    pivoted,
    read,
    test_rows,
    test_split,
)
from polygate.tables.writing import interval, write

COLUMNS = ("model", "tier", "language", "scorer", "budget", "part", "estimate", "low", "high", "n", "method", "judge")
GATE, SURFACE, SEMANTIC = "gate", "surface", "semantic"


@dataclass(frozen=True)
class Failures:
    """Harmful test prompts of one language: per budget their membership in the four parts, [4, n]."""

    language: str
    ids: tuple[str, ...]
    parts: dict[int, NDArray[np.float64]]


def build(
    judgements: Sequence[Cell],
    gate_scores: Sequence[Cell],
    output: Path,
    *,
    rank: int,
    statistics: Statistics,
    seed: int,
    surfaces: Sequence[Cell] = (),
    semantics: Sequence[Cell] = (),
) -> None:
    """Write the table from the unsteered judgements (other arms are ignored) and the gates of the routing `rank`.

    The rank is clipped per language to what its gates have, as routing does. `surfaces`, `semantics`: cells of
    the two controls, one per language; those that hold gates give the rows of scorers "surface" and "semantic".
    """
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    unsteered = [cell for cell in judgements if cell.arm == "none"]
    for (model, tier, judge), cells in by_tier(unsteered, lambda cell: cell.judge):
        gates = [cell for cell in gate_scores if cell.model == model]
        by_gate = [_failures(cell, *_gate_rows(only(gates, language=cell.language), rank)) for cell in cells]
        by_surface, by_encoder = (
            [_failures(cell, *found) for cell in cells for found in _control_rows(given, scorer, cell.language)]
            for given, scorer in ((surfaces, SURFACE_GATE), (semantics, SEMANTIC_GATE))
        )
        for scorer, failures in ((GATE, by_gate), (SURFACE, by_surface), (SEMANTIC, by_encoder)):
            present = [language for language in failures if language.ids and language.parts]
            if present:
                common = {"model": model, "tier": tier, "judge": judge, "scorer": scorer}
                rows += [{**common, **row} for row in _rows(present, resampling)]
    write(output, COLUMNS, rows)


def _gate_rows(cell: Cell, rank: int) -> tuple[pa.Table, Path]:
    """Decisions of the gates of a rank on the test prompts, and the file they are from."""
    table = test_split(read(cell, ["prompt_id", "split", "rank", "budget", "draw", "flagged"]))
    used = clipped_rank(rank, max(table["rank"].to_pylist(), default=0))
    return table.filter(pc.equal(table["rank"], used)), cell.path


def _control_rows(controls: Sequence[Cell], scorer: str, language: str) -> Iterator[tuple[pa.Table, Path]]:
    """The same of the gates of a control for a language, where there are any."""
    columns = ["prompt_id", "budget", "draw", "flagged"]
    for cell in controls:
        table = control_gates(cell, columns, scorer) if cell.language == language else None
        if table is not None:
            yield table, cell.path


def _failures(judgements: Cell, decisions: pa.Table, where: Path) -> Failures:
    judged = read(judgements, ["prompt_id", "subset", "outcome"])
    judged = judged.filter(pc.equal(judged["subset"], "harmful"))
    test = test_rows(judged)
    refused = np.array(judged["outcome"].to_pylist()) == "refused"
    flags: dict[int, list[NDArray[np.bool_]]] = {}
    for (budget, _), values in pivoted(decisions, ["budget", "draw"], "flagged", test, where).items():
        flags.setdefault(int(budget), []).append(values.astype(bool))
    parts = {
        budget: decompose(refused, flags[0][0], np.stack(draws))
        for budget, draws in sorted(flags.items())
        if budget > 0
    }
    return Failures(judgements.language, test.ids, parts)


def _rows(failures: Sequence[Failures], resampling: Resampling) -> list[dict[str, Any]]:
    budgets = [budget for budget in failures[0].parts if all(budget in language.parts for language in failures)]
    if not budgets:
        return []
    panel = Panel.stack([Part(found.language, found.ids, np.ones(len(found.ids), bool)) for found in failures])
    values = np.concatenate([np.concatenate([found.parts[b] for b in budgets]) for found in failures], axis=1)
    replicates = replicate("rate", values, panel, resampling)
    counts = panel.counts()
    labels = [(budget, part) for budget in budgets for part in PARTS]
    rows = []
    for column, name in enumerate([*panel.names, ""]):
        whole = name == ""
        source, at = (replicates.over_languages(), 0) if whole else (replicates, column)
        items = panel.items(None if whole else column)[0]
        n = int(counts.sum() if whole else counts[column])
        for method, (budget, part) in enumerate(labels):
            found = share_interval(source, method, at, items)
            rows.append({"language": name, "budget": budget, "part": part, "n": n, **interval(found)})
    return rows
