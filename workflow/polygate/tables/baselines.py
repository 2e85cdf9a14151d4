"""baselines.csv: selectivity of every routed arm less that of every published way of steering, on the same prompts.

Paired over prompts, which are clusters across languages; `p_holm` is corrected within each model and budget over
baselines and languages (the tier's means are a family of their own). There is none with fewer than six prompts of a
class. Positive estimates are in our favour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polygate.measurement.statistics import (
    Panel,
    Part,
    Resampling,
    Selectivities,
    difference_interval,
    paired_p,
    resolving,
    selectivities,
)
from polygate.settings.types import Statistics
from polygate.tables.cells import ROUTED, Cell, by_tier
from polygate.tables.judged import Treatment, read_judged, treatments
from polygate.tables.writing import corrected, interval, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "arm",
    "budget",
    "against",
    "judge",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "p",
    "p_holm",
)
OURS = ("none", "addition", "ablation", ROUTED)
"""Arms that are no baselines."""


def build(judgements: Sequence[Cell], output: Path, *, statistics: Statistics, seed: int) -> None:
    """Write the table from the judgements of every model and arm in the languages that have baselines."""
    languages = {cell.language for cell in judgements}
    rivals = {cell.arm for cell in judgements if cell.arm not in OURS}
    resampling = resolving(Resampling.of(statistics, seed), len(languages) * max(len(rivals), 1))
    rows: list[dict[str, Any]] = []
    for (model, tier, judge), cells in by_tier(judgements, lambda cell: cell.judge):
        judged = [language for language in read_judged(cells) if language.test.both]
        arms = treatments(cells)
        if judged and any(arm not in OURS for arm, _ in arms):
            panel = Panel.stack([Part(one.language, one.test.ids, one.test.harmful) for one in judged])
            refused = np.concatenate([one.refused(arms) for one in judged], axis=1)
            common = {"model": model, "tier": tier, "judge": judge}
            rows += [{**common, **row} for row in _rows(selectivities(refused, panel, resampling), panel, arms)]
    corrected(rows, ("model", "judge", "budget"))
    write(output, COLUMNS, rows)


def _rows(found: Selectivities, panel: Panel, arms: Sequence[Treatment]) -> list[dict[str, Any]]:
    """Every routed arm against every baseline, per language and as a mean over them."""
    counts = panel.counts()
    rows = []
    for rival, (against, _) in enumerate(arms):
        if against in OURS:
            continue
        per_language = found.replicates.minus(found.replicates.pick([rival]))
        mean = per_language.over_languages()
        for method, (arm, budget) in enumerate(arms):
            for column, name in enumerate([*panel.names, ""] if arm == ROUTED else []):
                whole = name == ""
                gains, at = (mean, 0) if whole else (per_language, column)
                ours, theirs = (found.mean[i] if whole else found.per_language[i][column] for i in (method, rival))
                row: dict[str, Any] = {"language": name, "arm": arm, "budget": budget, "against": against}
                row |= interval(difference_interval(gains, method, at, (ours, theirs)))
                row["n"] = int(counts.sum() if whole else counts[column])
                row["p"] = paired_p(gains, method, at, min(panel.items(None if whole else column)))
                rows.append(row)
    return rows
