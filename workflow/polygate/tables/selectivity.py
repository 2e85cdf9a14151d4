"""selectivity.csv: harmful refused − harmless refused, per arm, with the paired gain over no steering.

`gain` is the difference to the unsteered arm on the same prompts; `p_holm` its p-value, corrected over the languages of
a model and arm (the tier means are a family of their own). Neither is there with fewer than six prompts of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    difference_interval,
    paired_p,
    resolving,
    selectivities,
)
from polygate.settings.types import Statistics
from polygate.tables.cells import Cell, by_tier
from polygate.tables.judged import UNSTEERED, Judged, Treatment, read_judged, treatments
from polygate.tables.writing import corrected, interval, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "arm",
    "budget",
    "judge",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "gain",
    "gain_low",
    "gain_high",
    "gain_method",
    "p",
    "p_holm",
)


def build(judgements: Sequence[Cell], output: Path, *, statistics: Statistics, seed: int) -> None:
    """Write the table from the judgements of every model, language and arm."""
    languages = {cell.language for cell in judgements}
    resampling = resolving(Resampling.of(statistics, seed), len(languages))
    rows: list[dict[str, Any]] = []
    for (model, tier, judge), cells in by_tier(judgements, lambda cell: cell.judge):
        judged = [language for language in read_judged(cells) if language.test.both]
        if judged:
            common = {"model": model, "tier": tier, "judge": judge}
            rows += [{**common, **row} for row in _rows(judged, treatments(cells), resampling)]
    corrected(rows, ("model", "judge", "arm", "budget"))
    write(output, COLUMNS, rows)


def _rows(judged: Sequence[Judged], arms: Sequence[Treatment], resampling: Resampling) -> list[dict[str, Any]]:
    panel = Panel.stack([Part(language.language, language.test.ids, language.test.harmful) for language in judged])
    refused = np.concatenate([language.refused(arms) for language in judged], axis=1)
    found = selectivities(refused, panel, resampling)
    unsteered = arms.index(UNSTEERED)
    gains = found.replicates.minus(found.replicates.pick([unsteered]))
    counts = panel.counts()
    rows = []
    for column, name in enumerate([*panel.names, ""]):
        whole = name == ""
        replicates, at = (gains.over_languages(), 0) if whole else (gains, column)
        for method, (arm, budget) in enumerate(arms):
            here, before = (found.mean[i] if whole else found.per_language[i][column] for i in (method, unsteered))
            row = {"language": name, "arm": arm, "budget": budget, **interval(here)}
            row["n"] = int(counts.sum() if whole else counts[column])
            if method != unsteered:
                items = min(panel.items(None if whole else column))
                row |= _gain(replicates, method, at, (here, before), items)
            rows.append(row)
    return rows


def _gain(
    gains: Replicates, method: int, language: int, parts: tuple[Interval, Interval], items: int
) -> dict[str, Any]:
    found = difference_interval(gains, method, language, parts)
    bounds = {"gain": found.estimate, "gain_low": found.low, "gain_high": found.high, "gain_method": found.method}
    return {**bounds, "p": paired_p(gains, method, language, items)}
