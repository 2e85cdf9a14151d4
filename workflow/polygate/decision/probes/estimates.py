"""Estimates of probes: one row per fit, and their means over draws with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.decision.probes.rows import Language, Setup
from polygate.decision.probes.scoring import Scores, standard_error

DRAWS = pa.schema(
    [
        ("language", pa.string()),
        ("probe", pa.string()),
        ("sources", pa.string()),
        ("rank", pa.int16()),
        ("budget", pa.int16()),
        ("draw", pa.int16()),
        ("threshold_from", pa.string()),
        ("threshold", pa.float64()),
        ("metric", pa.string()),
        ("estimate", pa.float64()),
    ]
)
"""One row per fit, rule for its threshold and metric; `threshold_from` is "" and `threshold` null for the AUC."""
MEANS = pa.schema(
    [
        ("tier", pa.string()),
        ("language", pa.string()),
        ("probe", pa.string()),
        ("sources", pa.string()),
        ("rank", pa.int16()),
        ("budget", pa.int16()),
        ("threshold_from", pa.string()),
        ("metric", pa.string()),
        ("estimate", pa.float64()),
        ("standard_error", pa.float64()),
        ("draws", pa.int16()),
        ("sd", pa.float64()),
        ("n", pa.int32()),
        ("items", pa.int32()),
    ]
)
"""Means over draws, of a language and (language "") of a tier. `standard_error` is that of sampling test prompts, `sd`
the spread between draws, `n` the test prompts, `items` the distinct prompts of the smaller class."""


@dataclass(frozen=True)
class Probe:
    """A probe: its name, the tiers of the languages it learns from, and its rank; rank 0 where it has none."""

    name: str
    sources: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Cell:
    """One metric of one probe in one language: `scores` by fit, the `setups` of the fits, and their thresholds."""

    language: Language
    setups: Sequence[Setup]
    metric: str
    scores: Scores
    threshold_from: str = ""
    thresholds: NDArray[np.float64] | None = None


@dataclass
class Collector:
    """Gathers rows; probes are added one at a time, each with its cells of all languages."""

    _draws: list[pa.RecordBatch] = field(default_factory=list)
    _means: list[dict[str, Any]] = field(default_factory=list)
    _prompts: dict[str, int] = field(default_factory=dict)
    _ids: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, probe: Probe, cells: Sequence[Cell]) -> None:
        """The estimates of a probe: of each language, and their means over the languages of a tier."""
        by_rule: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in cells:
            self._draws.append(_draws(probe, cell))
            by_rule.setdefault((cell.language.tier, cell.threshold_from, cell.metric), []).append(cell)
        for (tier, origin, metric), group in by_rule.items():
            shared = {
                "tier": tier,
                "probe": probe.name,
                "sources": probe.sources,
                "rank": probe.rank,
                "threshold_from": origin,
                "metric": metric,
            }
            self._means += [
                {**shared, **row} for row in _means(group, [self._numbers(cell.language) for cell in group])
            ]

    def _numbers(self, language: Language) -> NDArray[np.int64]:
        """A number for every test prompt, the same for its translations; int64 [m]."""
        if language.name not in self._ids:
            numbers = [self._prompts.setdefault(name, len(self._prompts)) for name in language.test_ids]
            self._ids[language.name] = np.array(numbers, np.int64)
        return self._ids[language.name]

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Rows by fit, and means."""
        return pa.Table.from_batches(self._draws, DRAWS), pa.Table.from_pylist(self._means, MEANS)


def _draws(probe: Probe, cell: Cell) -> pa.RecordBatch:
    n = len(cell.setups)
    budgets, draws = np.array(cell.setups, np.int16).reshape(n, 2).T
    thresholds = pa.nulls(n, pa.float64()) if cell.thresholds is None else pa.array(cell.thresholds, pa.float64())
    columns = {
        "language": [cell.language.name] * n,
        "probe": [probe.name] * n,
        "sources": [probe.sources] * n,
        "rank": np.full(n, probe.rank, np.int16),
        "budget": budgets,
        "draw": draws,
        "threshold_from": [cell.threshold_from] * n,
        "threshold": thresholds,
        "metric": [cell.metric] * n,
        "estimate": cell.scores.value,
    }
    return pa.record_batch(columns, schema=DRAWS)


def _means(cells: Sequence[Cell], ids: Sequence[NDArray[np.int64]]) -> Iterator[dict[str, Any]]:
    """Rows of one probe, rule and metric in the languages of a tier; `ids` number the prompts of each."""
    prompts = 1 + max(int(own.max()) for own in ids)
    found = []
    for cell, own in zip(cells, ids, strict=True):
        budgets = list(dict.fromkeys(budget for budget, _ in cell.setups))
        of_budget = np.array([budget for budget, _ in cell.setups])
        groups = [np.flatnonzero(of_budget == budget).tolist() for budget in budgets]
        found.append(_Mean(cell, budgets, groups, *cell.scores.mean(groups), own))
    for one in found:
        cell = one.cell
        error = np.sqrt((one.influence**2).sum(axis=1))
        harmful = int(cell.language.test_harmful.sum())
        items = min(harmful, len(cell.language.test_harmful) - harmful)
        for row, (budget, group) in enumerate(zip(one.budgets, one.groups, strict=True)):
            values = cell.scores.value[group]
            yield {
                "language": cell.language.name,
                "budget": budget,
                "estimate": float(one.value[row]),
                "standard_error": float(error[row]),
                "draws": len(group),
                "sd": float(values.std(ddof=1)) if len(group) > 1 else None,
                "n": len(cell.language.test_harmful),
                "items": items,
            }
    for budget in sorted({budget for one in found for budget in one.budgets}):
        yield _tier_mean([one for one in found if budget in one.budgets], budget, prompts)


@dataclass(frozen=True)
class _Mean:
    """Means over draws of one cell by budget, with their influences [budgets, m] and the prompts' numbers [m]."""

    cell: Cell
    budgets: Sequence[int]
    groups: Sequence[Sequence[int]]
    value: NDArray[np.float64]
    influence: NDArray[np.float64]
    ids: NDArray[np.int64]


def _tier_mean(means: Sequence[_Mean], budget: int, prompts: int) -> dict[str, Any]:
    """The mean over languages of a budget."""
    rows = [one.budgets.index(budget) for one in means]
    harmful, present = np.zeros(prompts, bool), np.zeros(prompts, bool)
    for one in means:
        harmful[one.ids], present[one.ids] = one.cell.language.test_harmful, True
    influences = [one.influence[[row]] for one, row in zip(means, rows, strict=True)]
    return {
        "language": "",
        "budget": budget,
        "estimate": float(np.mean([one.value[row] for one, row in zip(means, rows, strict=True)])),
        "standard_error": float(standard_error(influences, [one.ids for one in means], prompts)[0]),
        "draws": min(len(one.groups[row]) for one, row in zip(means, rows, strict=True)),
        "sd": None,
        "n": sum(len(one.cell.language.test_harmful) for one in means),
        "items": int(min((present & harmful).sum(), (present & ~harmful).sum())),
    }
