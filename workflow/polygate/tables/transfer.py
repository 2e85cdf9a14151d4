"""transfer.csv: gates of the high-resource languages and one `source` language more, in every other language.

A row is a metric of one gate on the test prompts of a `language`, or (language "") its mean over the languages of a
tier, the source left out. `source` is empty for the gate without a further language. `within` marks gates tested on
unseen prompts of their own source: no transfer, and in no mean. `surface` is what the surface of the prompts gives
without any model: for the AUC eleven features, for F1 and balanced accuracy the gate on them of budget 0; `semantic` is
the same of a small encoder's embeddings, empty where the run has no encoder.

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
from polygate.tables.cells import (
    SEMANTIC,
    SEMANTIC_GATE,
    SURFACE_GATE,
    Cell,
    Test,
    control_gates,
    only,
    pivoted,
    read,
    test_rows,
    test_split,
)
from polygate.tables.writing import interval, told, write

COLUMNS = (
    *("model", "tier", "source", "source_tier", "language", "within", "rank", "metric"),
    *("estimate", "low", "high", "n", "method"),
    *(f"{control}{end}" for control in ("surface", SEMANTIC) for end in ("", "_low", "_high")),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)
METRICS: Mapping[Statistic, str] = {"auc": "score", "f1": "flagged", "balanced_accuracy": "flagged"}
"""Metric → the column that it is computed from."""
GATES = {LABEL_FREE[0]: SURFACE_GATE, SEMANTIC: SEMANTIC_GATE}
"""Scorer of a control → that of its gates."""


@dataclass(frozen=True)
class Target:
    """The gates of one model in one language: values [n] by source, or control, and column."""

    language: str
    tier: str
    test: Test
    values: Mapping[tuple[str, str], NDArray[np.float64]]
    controls: Mapping[tuple[str, str], NDArray[np.float64]]


def build(
    transfers: Sequence[Cell],
    surfaces: Sequence[Cell],
    output: Path,
    *,
    statistics: Statistics,
    seed: int,
    semantics: Sequence[Cell] = (),
) -> None:
    """Write the table.

    `transfers`: one cell per model; `surfaces`, and with an encoder `semantics`: one per language, with its tier.
    """
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    for cell in transfers:
        table = read(cell, ["source", "language", "prompt_id", "subset", "rank", "score", "flagged"])
        if table.num_rows:
            rows += [{"model": cell.model, **row} for row in _rows(cell, table, surfaces, semantics, resampling)]
    write(output, COLUMNS, rows)


def _rows(
    cell: Cell, table: pa.Table, surfaces: Sequence[Cell], semantics: Sequence[Cell], resampling: Resampling
) -> Iterator[dict[str, Any]]:
    sources = pc.unique(table["source"]).to_pylist()
    tiers = {one.language: one.tier for one in surfaces}
    ranks = dict(zip(table["source"].to_pylist(), table["rank"].to_pylist(), strict=True))
    beside = {control: given for control, given in zip(GATES, (surfaces, semantics), strict=True) if given}
    targets = [
        _target(cell, table, {control: only(given, language=name) for control, given in beside.items()})
        for name in pc.unique(table["language"]).to_pylist()
    ]
    panel = Panel.stack([Part(target.language, target.test.ids, target.test.harmful) for target in targets])
    for metric, column in METRICS.items():
        values = np.concatenate(
            [
                np.stack([*(t.values[source, column] for source in sources), *(t.controls[c, column] for c in beside)])
                for t in targets
            ],
            axis=1,
        )
        family = resolving(resampling, len(sources) * len(targets))
        found = _Metric(sources, list(beside), targets, replicate(metric, values, panel, family), panel)
        for family_rows in (found.languages(), found.means()):
            adjusted = holm([row["p"] for row in family_rows])
            for row, p in zip(family_rows, adjusted, strict=True):
                source = {"source_tier": tiers.get(row["source"], ""), "rank": ranks[row["source"]]}
                yield {**row, **source, "metric": metric, "p": told(row["p"]), "p_holm": told(p)}


@dataclass(frozen=True)
class _Metric:
    """A metric of gates in `targets`: `found` [sources + controls, targets]."""

    sources: Sequence[str]
    controls: Sequence[str]
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
        row = {"source": source, "n": int(rows.sum()), **interval(share_interval(here, method, 0, items))}
        for place, control in enumerate(self.controls, len(self.sources)):
            beside = share_interval(here, place, 0, items)
            row |= {control: beside.estimate, f"{control}_low": beside.low, f"{control}_high": beside.high}
        row["p"] = float("nan")
        if source:
            differences = here.minus(here.pick([base]))
            parts = share_interval(here, method, 0, items), share_interval(here, base, 0, items)
            apart = difference_interval(differences, method, 0, parts)
            row |= {"difference": apart.estimate, "difference_low": apart.low, "difference_high": apart.high}
            row["p"] = paired_p(differences, method, 0, items)
        return row


def _target(cell: Cell, table: pa.Table, controls: Mapping[str, Cell]) -> Target:
    surface = controls[LABEL_FREE[0]]
    mine = table.filter(pc.equal(table["language"], surface.language))
    test = test_rows(mine.filter(pc.equal(mine["source"], mine["source"][0])))
    values = {
        (source, column): found.astype(np.float64)
        for column in dict.fromkeys(METRICS.values())
        for (source,), found in pivoted(mine, ["source"], column, test, cell.path).items()
    }
    beside = {
        (control, column): found for control, own in controls.items() for column, found in _told(control, own, test)
    }
    return Target(surface.language, surface.tier, test, values, beside)


def _told(control: str, cell: Cell, test: Test) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """A control's score and its gate's decision at budget 0, by column."""
    scores = test_split(read(cell, ["prompt_id", "split", "scorer", "score"]))
    scores = scores.filter(pc.equal(scores["scorer"], control))
    yield "score", pivoted(scores, [], "score", test, cell.path)[()]
    gates = control_gates(cell, ["prompt_id", "budget", "flagged"], GATES[control])
    if gates is not None:
        gates = gates.filter(pc.equal(gates["budget"], 0))
        yield "flagged", pivoted(gates, [], "flagged", test, cell.path)[()].astype(np.float64)
