"""transfer.csv: gates of the high-resource languages and one `source` language more, in every other language.

A row is a metric of one gate on the test prompts of a `language`, or (language "") its mean over the languages of a
tier, the source left out. `source` is empty for the gate without a further language. `within` marks gates tested on
unseen prompts of their own source: no transfer, and in no mean. `surface` is what the surface of the prompts gives
without any model: for the AUC eleven features, for F1 and balanced accuracy the gate on them of budget 0.

`difference`: to the gate without a further language, paired over prompts, `p` of it Holm-corrected over the sources
and languages of a model and metric, and over sources and tiers for the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.controls.surface import LABEL_FREE
from polygate.measurement.statistics import (
    Panel,
    Part,
    Replicates,
    Resampling,
    Statistic,
    difference_interval,
    holm,
    paired_p,
    replicate,
    resolving,
    share_interval,
)
from polygate.settings.types import Statistics
from polygate.tables.cells import Cell, Test, control_gates, only, pivoted, read, test_rows, test_split
from polygate.tables.writing import interval, told, write

COLUMNS = (
    *("model", "tier", "source", "source_tier", "language", "within", "rank", "metric"),
    *("estimate", "low", "high", "n", "method", "surface", "surface_low", "surface_high"),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)
METRICS: Mapping[Statistic, str] = {"auc": "score", "f1": "flagged", "balanced_accuracy": "flagged"}
"""Metric → the column that it is computed from."""
SURFACE = LABEL_FREE[0]


@dataclass(frozen=True)
class Target:
    """The gates of one model in one language, source → values [n] by column; the surface's beside them."""

    language: str
    tier: str
    test: Test
    values: Mapping[tuple[str, str], NDArray[np.float64]]
    surface: Mapping[str, NDArray[np.float64]]


def build(
    transfers: Sequence[Cell], surfaces: Sequence[Cell], output: Path, *, statistics: Statistics, seed: int
) -> None:
    """Write the table. `transfers`: one cell per model; `surfaces`: one per language, with its tier."""
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    for cell in transfers:
        table = read(cell, ["source", "language", "prompt_id", "subset", "rank", "score", "flagged"])
        if table.num_rows:
            rows += [{"model": cell.model, **row} for row in _rows(cell, table, surfaces, resampling)]
    write(output, COLUMNS, rows)


def _rows(cell: Cell, table: pa.Table, surfaces: Sequence[Cell], resampling: Resampling) -> Iterator[dict[str, Any]]:
    sources = pc.unique(table["source"]).to_pylist()
    tiers = {one.language: one.tier for one in surfaces}
    ranks = dict(zip(table["source"].to_pylist(), table["rank"].to_pylist(), strict=True))
    targets = [_target(cell, table, only(surfaces, language=name)) for name in pc.unique(table["language"]).to_pylist()]
    panel = Panel.stack([Part(target.language, target.test.ids, target.test.harmful) for target in targets])
    for metric, column in METRICS.items():
        values = np.concatenate(
            [np.stack([*(t.values[source, column] for source in sources), t.surface[column]]) for t in targets], axis=1
        )
        family = resolving(resampling, len(sources) * len(targets))
        found = _Metric(sources, targets, replicate(metric, values, panel, family), panel)
        for family_rows in (found.languages(), found.means()):
            adjusted = holm([row["p"] for row in family_rows])
            for row, p in zip(family_rows, adjusted, strict=True):
                source = {"source_tier": tiers.get(row["source"], ""), "rank": ranks[row["source"]]}
                yield {**row, **source, "metric": metric, "p": told(row["p"]), "p_holm": told(p)}


@dataclass(frozen=True)
class _Metric:
    """A metric of the gates of `sources` in `targets`, and (last) of the surface: `found` [sources + 1, targets]."""

    sources: Sequence[str]
    targets: Sequence[Target]
    found: Replicates
    panel: Panel

    def languages(self) -> list[dict[str, Any]]:
        """Every source in every language."""
        rows = []
        for column, target in enumerate(self.targets):
            for source in self.sources:
                place = {"tier": target.tier, "language": target.language, "within": source == target.language}
                rows.append({**place, **self._row(source, [column])})
        return rows

    def means(self) -> list[dict[str, Any]]:
        """Every source's mean over the languages of a tier, itself left out."""
        rows = []
        for tier in dict.fromkeys(target.tier for target in self.targets):
            for source in self.sources:
                columns = [n for n, t in enumerate(self.targets) if t.tier == tier and t.language != source]
                if columns:
                    rows.append({"tier": tier, "language": "", "within": False, **self._row(source, columns)})
        return rows

    def _row(self, source: str, columns: Sequence[int]) -> dict[str, Any]:
        here = self.found.among(columns).over_languages()
        rows = np.isin(self.panel.languages, list(columns))
        items = min(self.panel.only(rows).items())
        method, base = self.sources.index(source), self.sources.index("")
        beside = share_interval(here, len(self.sources), 0, items)
        row = {"source": source, "n": int(rows.sum()), **interval(share_interval(here, method, 0, items))}
        row |= {"surface": beside.estimate, "surface_low": beside.low, "surface_high": beside.high, "p": float("nan")}
        if source:
            differences = here.minus(here.pick([base]))
            parts = share_interval(here, method, 0, items), share_interval(here, base, 0, items)
            apart = difference_interval(differences, method, 0, parts)
            row |= {"difference": apart.estimate, "difference_low": apart.low, "difference_high": apart.high}
            row["p"] = paired_p(differences, method, 0, items)
        return row


def _target(cell: Cell, table: pa.Table, surface: Cell) -> Target:
    mine = table.filter(pc.equal(table["language"], surface.language))
    test = test_rows(mine.filter(pc.equal(mine["source"], mine["source"][0])))
    values = {
        (source, column): found.astype(np.float64)
        for column in dict.fromkeys(METRICS.values())
        for (source,), found in pivoted(mine, ["source"], column, test, cell.path).items()
    }
    return Target(surface.language, surface.tier, test, values, _surface(surface, test))


def _surface(cell: Cell, test: Test) -> dict[str, NDArray[np.float64]]:
    """The surface's score and its gate's decision at budget 0, by column."""
    scores = test_split(read(cell, ["prompt_id", "split", "scorer", "score"]))
    scores = scores.filter(pc.equal(scores["scorer"], SURFACE))
    gates = control_gates(cell, ["prompt_id", "budget", "flagged"])
    found = {"score": pivoted(scores, [], "score", test, cell.path)[()]}
    if gates is not None:
        gates = gates.filter(pc.equal(gates["budget"], 0))
        found["flagged"] = pivoted(gates, [], "flagged", test, cell.path)[()].astype(np.float64)
    return found
