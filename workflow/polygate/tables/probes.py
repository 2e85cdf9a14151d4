"""recoverability.csv and probes.csv: probes by budget, as means over draws, of languages and over tiers.

`standard_error` of the estimates is that of sampling test prompts (see `polygate.decision.probes.scoring`), so their
interval is "linearised": normal on the scale of the log odds, which keeps it within 0 and 1. At 0 and 1 it is Wilson's;
decisions that are the same for every prompt have none ("constant"). `sd` is the spread between draws, `estimator` how a
probe that is a direction was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.special import ndtri

from polygate import files, kernels
from polygate.measurement.statistics import CONSTANT, FEWEST, SAME, Interval, at_edge, few, logit_ends
from polygate.representation.directions import ESTIMATORS
from polygate.settings.types import Statistics
from polygate.tables.cells import Cell
from polygate.tables.writing import interval, write

COLUMNS = (
    *("model", "tier", "language", "probe", "estimator", "sources", "rank", "budget", "threshold_from", "metric"),
    *("estimate", "low", "high", "n", "method", "draws", "sd"),
)
_COPIED = ("tier", "language", "probe", "sources", "budget", "threshold_from", "metric", "n", "draws", "sd")


def build(means: Sequence[Cell], output: Path, *, statistics: Statistics) -> None:
    """Write a table from the means of every model."""
    rows: list[dict[str, Any]] = []
    for cell in means:
        for row in files.read_parquet(cell.path).to_pylist():
            found = linearised(row, statistics.confidence)
            # Rank 0 stands for a probe without one.
            rows.append(
                {
                    "model": cell.model,
                    "estimator": ESTIMATORS.get(row["probe"]),
                    "rank": row["rank"] or None,
                    **{name: row[name] for name in _COPIED},
                    **interval(found),
                }
            )
    write(output, COLUMNS, rows)


def linearised(row: Mapping[str, Any], confidence: float) -> Interval:
    """Interval of an estimate between 0 and 1 from its standard error; Wilson's for `items` prompts at 0 and 1."""
    estimate, error = float(row["estimate"]), float(row["standard_error"])
    if error < SAME and row["items"] < FEWEST:
        return few(estimate, row["items"], confidence)
    if error < SAME and not at_edge(estimate):
        return Interval(estimate, estimate, estimate, CONSTANT)
    if at_edge(estimate):
        low, high = kernels.wilson(estimate * row["items"], row["items"], confidence)
        return Interval(estimate, low, high, "wilson")
    low, high = logit_ends(estimate, float(ndtri((1 + confidence) / 2)) * error)
    return Interval(estimate, low, high, "linearised")
