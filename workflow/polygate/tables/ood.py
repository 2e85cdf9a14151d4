"""ood.csv: gates on harmful prompts of another data set, against harmless ones, the controls' numbers beside each.

`gate` is `v_hrl` (rank 1, the direction that the sources share) or `subspace` (the rank that routes), `budget` its
examples of the fitted data set: none of the tested one takes part in anything. `pairing` names the data set of the
harmless prompts: the one that gates are fitted on, in the same language, or the tested one's own, where it has any.
Where a language lacks the former, `stand_in` names the language whose harmless prompts stand in; in a tier's mean, the
languages that this is so of.

Balanced accuracy and F1 weigh both classes alike, however many prompts they have, and AUC knows no class sizes: so no
harmless prompt needs repeating until both are as many, as published evaluations do. Balanced F1 is
2·TPR / (TPR + FPR + 1).

`surface` is the number of gates of the same budget on eleven surface features: fitted, calibrated and tested on the
same prompts. `difference` is the paired difference to it; `p_holm` its p, corrected over the languages of a data set,
model, pairing, gate, budget and metric (tier means are a family of their own, and so are all categories together).
`semantic` and the columns `semantic_…` hold the same of gates on a small encoder's embeddings, a second family of
tests; they are empty where the run has no encoder.
Rows with a `category` take its harmful prompts alone, against all harmless ones; a prompt of several kinds of harm
counts in each, and "a / b" in a as well. All numbers are means over draws; prompts are clusters across languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.decision.ood import CONTROLS, GATE, SCHEMA, SURFACE
from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    balanced_accuracy_of,
    difference_interval,
    paired_p,
    replicate,
    resolving,
    selectivities,
    share_interval,
)
from polygate.settings.types import Statistics
from polygate.tables.cells import Cell, Test, by_tier, pivoted, read
from polygate.tables.writing import corrected, interval, write

COLUMNS = (
    "dataset",
    "model",
    "tier",
    "language",
    "pairing",
    "stand_in",
    "category",
    "gate",
    "rank",
    "budget",
    "threshold_from",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "harmful",
    "method",
    "draws",
    "surface",
    "surface_low",
    "surface_high",
    "difference",
    "difference_low",
    "difference_high",
    "difference_method",
    "p",
    "p_holm",
    "semantic",
    "semantic_low",
    "semantic_high",
    "semantic_difference",
    "semantic_difference_low",
    "semantic_difference_high",
    "semantic_difference_method",
    "semantic_p",
    "semantic_p_holm",
)
V_HRL, SUBSPACE = "v_hrl", "subspace"
FAMILY = ("dataset", "model", "pairing", "gate", "budget", "metric")

Group = tuple[str, int]
"""Gate (or control) and budget."""


@dataclass(frozen=True)
class Sheet:
    """Prompts of one language and pairing: per group the draws' `scores` and `flagged`, float64 [draws, n] each.

    `categories`: of each prompt, all that it counts in, none for harmless ones. `ranks` and `origins`: the rank of a
    gate, and where the threshold of a budget is from.
    """

    language: str
    stand_in: str
    test: Test
    categories: tuple[frozenset[str], ...]
    scores: dict[Group, NDArray[np.float64]]
    flagged: dict[Group, NDArray[np.float64]]
    ranks: dict[str, int]
    origins: dict[int, str]

    def only(self, category: str) -> Sheet:
        """The harmful prompts of a category, and all harmless ones."""
        keep = np.array([category in kinds for kinds in self.categories]) | ~self.test.harmful
        ids = tuple(name for name, kept in zip(self.test.ids, keep, strict=True) if kept)
        return replace(
            self,
            test=Test(ids, self.test.harmful[keep]),
            categories=tuple(kinds for kinds, kept in zip(self.categories, keep, strict=True) if kept),
            scores={group: values[:, keep] for group, values in self.scores.items()},
            flagged={group: values[:, keep] for group, values in self.flagged.items()},
        )


def build(cells: Sequence[Cell], output: Path, *, statistics: Statistics, seed: int) -> None:
    """Write the table from what the gates of every model, data set and language say (`decision.ood`)."""
    resampling = resolving(Resampling.of(statistics, seed), len({cell.language for cell in cells}))
    whole: list[dict[str, Any]] = []
    by_category: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        for (model, tier), chosen in by_tier([cell for cell in cells if cell.dataset == dataset]):
            for pairing, sheets in _pairings(chosen):
                common = {"dataset": dataset, "model": model, "tier": tier, "pairing": pairing}
                whole += [{**common, **row} for row in _rows(sheets, resampling)]
                for category in sorted(set().union(*(kinds for sheet in sheets for kinds in sheet.categories))):
                    having = [one for one in (sheet.only(category) for sheet in sheets) if one.test.both]
                    made = _rows(having, resampling, ("balanced_accuracy",))
                    by_category += [{**common, "category": category, **row} for row in made]
    for rows in (whole, by_category):
        for control in CONTROLS:
            corrected(rows, FAMILY, f"{prefix(control)}p")
    write(output, COLUMNS, [*whole, *by_category])


def kinds_of(category: str) -> frozenset[str]:
    """All that a prompt of a category counts in: "x; y" is x and y, "area / harm" is itself and its area."""
    tags = {tag.strip() for tag in category.split(";")} - {""}
    return frozenset(tags | {tag.partition(" / ")[0] for tag in tags})


def _pairings(cells: Sequence[Cell]) -> Iterator[tuple[str, list[Sheet]]]:
    """Data set of the harmless prompts, and the languages that have both classes then."""
    tables = {cell: read(cell, SCHEMA.names) for cell in cells}
    names = dict.fromkeys(
        name
        for table in tables.values()
        for name in table.filter(pc.equal(table["subset"], "harmless"))["dataset"].unique().to_pylist()
    )
    # What was fitted on first.
    for pairing in sorted(names, key=lambda name: any(name == cell.dataset for cell in cells)):
        sheets = [_sheet(cell, table, pairing) for cell, table in tables.items()]
        having = [sheet for sheet in sheets if sheet.test.both]
        if having:
            yield pairing, having


def _sheet(cell: Cell, table: pa.Table, pairing: str) -> Sheet:
    harmful = pc.and_(pc.equal(table["subset"], "harmful"), pc.equal(table["dataset"], cell.dataset))
    harmless = pc.and_(pc.equal(table["subset"], "harmless"), pc.equal(table["dataset"], pairing))
    table = table.filter(pc.or_(harmful, harmless))
    first = table.filter(_same_gate(table))
    test = Test(tuple(first["prompt_id"].to_pylist()), np.array(first["subset"].to_pylist()) == "harmful")
    spoken = set(first["spoken"].to_pylist()) - {cell.language}
    kinds = zip(first["category"].to_pylist(), test.harmful, strict=True)
    scores: dict[Group, NDArray[np.float64]] = {}
    flagged: dict[Group, NDArray[np.float64]] = {}
    ranks: dict[str, int] = {}
    for scorer in (GATE, *CONTROLS):
        mine = table.filter(pc.equal(table["scorer"], scorer))
        found, flags = (
            pivoted(mine, ["rank", "budget", "draw"], column, test, cell.path) for column in ("score", "flagged")
        )
        largest = max((int(rank) for rank, _, _ in found), default=0)
        for rank in sorted({int(rank) for rank, _, _ in found}):
            gate = scorer if scorer in CONTROLS else V_HRL if rank == 1 else SUBSPACE
            if scorer in CONTROLS or rank in (1, largest):
                ranks[gate] = rank
                for budget in sorted({int(b) for r, b, _ in found if r == rank}):
                    keys = [key for key in found if (int(key[0]), int(key[1])) == (rank, budget)]
                    scores[gate, budget] = np.stack([found[key] for key in keys]).astype(np.float64)
                    flagged[gate, budget] = np.stack([flags[key] for key in keys]).astype(np.float64)
    origins = dict(zip(table["budget"].to_pylist(), table["threshold_from"].to_pylist(), strict=True))
    categories = tuple(kinds_of(category) if label else frozenset() for category, label in kinds)
    return Sheet(cell.language, min(spoken, default=""), test, categories, scores, flagged, ranks, origins)


def _same_gate(table: pa.Table) -> pa.ChunkedArray:
    """Rows of the first gate: every prompt once."""
    same = pc.equal(table["scorer"], table["scorer"][0]) if table.num_rows else pa.chunked_array([[]], pa.bool_())
    for column in ("rank", "budget", "draw") if table.num_rows else ():
        same = pc.and_(same, pc.equal(table[column], table[column][0]))
    return same


def _rows(
    sheets: Sequence[Sheet], resampling: Resampling, metrics: Sequence[str] = ("balanced_accuracy", "f1", "auc")
) -> list[dict[str, Any]]:
    """Rows of one data set, model, tier and pairing: per language, then the tier's mean."""
    if not sheets:
        return []
    groups = [group for group in sheets[0].scores if all(group in sheet.scores for sheet in sheets)]
    panel = Panel.stack([Part(sheet.language, sheet.test.ids, sheet.test.harmful) for sheet in sheets])
    counts = panel.counts()
    harmful = np.bincount(panel.languages[panel.harmful], minlength=len(sheets))
    rows = []
    for metric in metrics:
        found = _Found.of(metric, sheets, groups, panel, resampling)
        for column, name in enumerate([*panel.names, ""]):
            whole = name == ""
            at = slice(None) if whole else slice(column, column + 1)
            what = {"language": name, "metric": metric, "n": int(counts[at].sum()), "harmful": int(harmful[at].sum())}
            stand_ins = [f"{sheet.language} ({sheet.stand_in})" for sheet in sheets if sheet.stand_in]
            what["stand_in"] = "; ".join(stand_ins) if whole else sheets[column].stand_in
            for number, (gate, budget) in enumerate(groups):
                if gate in CONTROLS:
                    continue
                known = sheets[0 if whole else column]
                rank = max(sheet.ranks[gate] for sheet in sheets) if whole else known.ranks[gate]
                row = {**what, "gate": gate, "rank": rank, "budget": budget}
                row |= {"threshold_from": known.origins[budget], "draws": len(known.scores[gate, budget])}
                beside = {name: groups.index((name, budget)) for name in CONTROLS if (name, budget) in groups}
                rows.append({**row, **found.row(number, beside, None if whole else column)})
    return rows


@dataclass(frozen=True)
class _Found:
    """A metric of every group: `replicates` [groups, languages], intervals per language and over all."""

    panel: Panel
    replicates: Replicates
    each: list[list[Interval]]
    mean: list[Interval]

    @classmethod
    def of(
        cls, metric: str, sheets: Sequence[Sheet], groups: Sequence[Group], panel: Panel, resampling: Resampling
    ) -> _Found:
        if metric == "balanced_accuracy":
            # It is (1 + Δ) / 2 with Δ the selectivity of the flags; Δ is linear, so draws are averaged first.
            flags = np.stack(
                [_over([s.flagged[group].mean(axis=0, keepdims=True) for s in sheets])[0] for group in groups]
            )
            made = selectivities(flags, panel, resampling)
            each = [[balanced_accuracy_of(cell) for cell in row] for row in made.per_language]
            delta = made.replicates
            half = Replicates(delta.estimate / 2, delta.values / 2, delta.confidence, panel=panel)
            return cls(panel, half, each, [balanced_accuracy_of(cell) for cell in made.mean])
        values = [_over([s.scores[group] if metric == "auc" else s.flagged[group] for s in sheets]) for group in groups]
        draws = np.cumsum([0, *(len(part) for part in values)])
        members = [range(first, last) for first, last in pairwise(draws.tolist())]
        weights = None if metric == "auc" else _equal_classes(panel)
        every = replicate(metric, np.concatenate(values), panel, resampling, weights)  # type: ignore[arg-type]
        means = every.over_methods(members)
        over = means.over_languages()
        numbers = range(len(groups))
        each = [
            [share_interval(means, number, column, min(panel.items(column))) for column in range(len(sheets))]
            for number in numbers
        ]
        return cls(panel, means, each, [share_interval(over, number, 0, min(panel.items())) for number in numbers])

    def row(self, number: int, beside: Mapping[str, int], column: int | None) -> dict[str, Any]:
        """The columns of a group's estimate, and of its comparisons with the groups of the controls `beside`.

        `column` None: the mean.
        """
        here = self.mean[number] if column is None else self.each[number][column]
        row = interval(here)
        at, items = column or 0, min(self.panel.items(column))
        for control, other in beside.items():
            there = self.mean[other] if column is None else self.each[other][column]
            difference = self.replicates.pick([number]).minus(self.replicates.pick([other]))
            difference = difference.over_languages() if column is None else difference
            made, name = difference_interval(difference, 0, at, (here, there)), f"{prefix(control)}difference"
            row |= {control: there.estimate, f"{control}_low": there.low, f"{control}_high": there.high}
            row |= {name: made.estimate, f"{name}_low": made.low, f"{name}_high": made.high}
            row |= {f"{name}_method": made.method, f"{prefix(control)}p": paired_p(difference, 0, at, items)}
        return row


def prefix(control: str) -> str:
    """What the columns of the comparison with a control begin with."""
    return "" if control == SURFACE else f"{control}_"


def _over(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Draws [draws, n] of several languages beside one another: as many as the language with the fewest has."""
    fewest = min(len(part) for part in parts)
    return np.concatenate([part[:fewest] for part in parts], axis=1)


def _equal_classes(panel: Panel) -> NDArray[np.float64]:
    """Weights with which both classes of a language weigh as much."""
    weights = np.empty(len(panel))
    for column in range(len(panel.names)):
        for label in (True, False):
            mine = (panel.languages == column) & (panel.harmful == label)
            weights[mine] = 1.0 / mine.sum()
    return weights
