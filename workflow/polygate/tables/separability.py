"""separability.csv: how well scores tell harmful from harmless test prompts, directions beside surface baselines.

Scorers: the directions `v_hrl` and `local` at every layer; `gate`, the uncalibrated gate at the chosen layer; and, with
no layer, the baselines `surface`, `length`, `char_ngrams`, `naive_bayes` and, where the run has a sentence encoder,
`semantic`, the probe on its embeddings. `estimator` says how a direction was found:
v_hrl, like the `direction` of probes.csv, is pc1_of_diffs; what steers is pooled_dim. Prompts: `all`; `matched`,
weighted to the same distribution over strata in both classes; `caliper`, pairs of like length and punctuation only (AUC
alone).

On the rows of v_hrl at the chosen layer over all prompts (`auc`) stands the paired comparison with the surface: the
difference to the stronger of the baselines that need no label of the language (`surface`, `length`), its p-value,
Holm-corrected over the languages of the model, and the verdict ("too few prompts" and no p with fewer than six of a
class). The columns `semantic_…` hold the same comparison with the encoder's probe, a second family of tests: "beyond a
small encoder", or not. They are empty where there is no encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.controls.matching import CALIPER, Matched, caliper_auc, close_pairs, match, strata
from polygate.controls.surface import FINAL_CLASSES, SCORERS
from polygate.errors import PolygateError
from polygate.measurement.statistics import (
    Panel,
    Part,
    Replicates,
    Resampling,
    against_surface,
    replicate,
    resolving,
    share_interval,
    with_verdicts,
)
from polygate.representation.directions import ESTIMATORS
from polygate.settings.types import Statistics
from polygate.steering.choice import Choice
from polygate.steering.conditional import clipped_rank
from polygate.tables.cells import CONTROLS, SEMANTIC, Cell, Test, by_tier, only, pivoted, read, test_rows, test_split
from polygate.tables.writing import SEMANTIC_COLUMNS, interval, spelt, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "layer",
    "scorer",
    "estimator",
    "prompts",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "n_effective",
    "n_pairs",
    "overlap",
    "method",
    "chosen",
    "baseline",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "verdict",
    *SEMANTIC_COLUMNS,
)
DIRECTIONS = ("v_hrl", "local")
METRICS = ("auc", "average_precision")
FEWEST_PAIRS = 100
"""Below this many close pairs in a language their AUC says little; the column `overlap` says so."""

Scorer = tuple[str, int | None]
"""Name and layer (None where there is none)."""


@dataclass(frozen=True)
class Sheet:
    """Scores of one language's test prompts and what is needed to match them."""

    language: str
    test: Test
    scores: dict[Scorer, NDArray[np.float64]]
    token_count: NDArray[np.int64]
    log_characters: NDArray[np.float64]
    punctuation: list[str]
    question: list[bool]

    @property
    def final(self) -> NDArray[np.int64]:
        """Class of the final punctuation as a number."""
        return np.array([FINAL_CLASSES.index(name) for name in self.punctuation], np.int64)

    def matched(self) -> Matched:
        """Weights over strata of length, final punctuation and question form."""
        return match(strata(self.token_count, self.punctuation, self.question), self.test.harmful)


def build(
    projections: Sequence[Cell],
    gate_scores: Sequence[Cell],
    surfaces: Sequence[Cell],
    choices: Sequence[Cell],
    output: Path,
    *,
    rank: int,
    statistics: Statistics,
    seed: int,
    semantics: Sequence[Cell] = (),
) -> None:
    """Write the table.

    `projections`, `gate_scores`: one cell per model and language; `surfaces`, and with an encoder `semantics`: one per
    language (no model); `choices`: one per model. `rank` is the one that routes, clipped per language to what its gates
    have.
    """
    resampling = Resampling.of(statistics, seed)
    rows: list[dict[str, Any]] = []
    layers = {cell.model: Choice.load(cell.path).layer for cell in choices}
    family = len({cell.language for cell in projections})
    for (model, tier), cells in by_tier(projections):
        gates = [cell for cell in gate_scores if cell.model == model]
        sheets = [_sheet(cell, gates, surfaces, semantics, layers[model], rank) for cell in cells]
        sheets = [sheet for sheet in sheets if sheet.test.both]
        if sheets:
            found = _tier_rows(sheets, resampling)
            for control, names in CONTROLS.items():
                _compare(found, sheets, layers[model], resolving(resampling, family), control, names)
            rows += [{"model": model, "tier": tier, **row} for row in found]
    _verdicts(rows, statistics.confidence)
    for row in rows:
        row["estimator"] = ESTIMATORS.get(row["scorer"])
        row["chosen"] = row["layer"] == layers[row["model"]] if row["layer"] is not None else None
    write(output, COLUMNS, [{name: value for name, value in row.items() if name in COLUMNS} for row in rows])


def _sheet(
    cell: Cell, gates: Sequence[Cell], surfaces: Sequence[Cell], semantics: Sequence[Cell], layer: int, rank: int
) -> Sheet:
    columns = ["prompt_id", "split", "subset", "token_count", "layer", "scorer", "score"]
    projected = test_split(read(cell, columns))
    first = projected.filter(
        pc.and_(pc.equal(projected["layer"], projected["layer"][0]), pc.equal(projected["scorer"], "v_hrl"))
    )
    test = test_rows(first)
    scores: dict[Scorer, NDArray[np.float64]] = {}
    for (name, at), values in pivoted(projected, ["scorer", "layer"], "score", test, cell.path).items():
        if name in DIRECTIONS:
            scores[name, int(at)] = values.astype(np.float64)
    scores["gate", layer] = _gate(only(gates, language=cell.language), test, rank)
    surface = only(surfaces, language=cell.language)
    baselines = read(surface, ["prompt_id", "scorer", "score", "log_characters", "punctuation", "question"])
    for (name,), values in pivoted(_of(baselines, SCORERS), ["scorer"], "score", test, surface.path).items():
        scores[name, None] = values.astype(np.float64)
    if semantics:
        encoded = only(semantics, language=cell.language)
        probe = _of(read(encoded, ["prompt_id", "scorer", "score"]), [SEMANTIC])
        scores[SEMANTIC, None] = pivoted(probe, [], "score", test, encoded.path)[()].astype(np.float64)
    own = _of(baselines, ["length"])
    facts = {name: pivoted(own, [], name, test, surface.path)[()] for name in own.column_names[3:]}
    return Sheet(
        cell.language,
        test,
        scores,
        np.array(first["token_count"].to_pylist(), np.int64),
        facts["log_characters"].astype(np.float64),
        facts["punctuation"].tolist(),
        facts["question"].tolist(),
    )


def _of(table: pa.Table, scorers: Iterable[str]) -> pa.Table:
    return table.filter(pc.is_in(table["scorer"], value_set=pa.array(list(scorers), pa.string())))


def _gate(cell: Cell, test: Test, rank: int) -> NDArray[np.float64]:
    table = test_split(read(cell, ["prompt_id", "split", "rank", "budget", "draw", "score"]))
    used = clipped_rank(rank, max(table["rank"].to_pylist(), default=0))
    chosen = table.filter(pc.and_(pc.equal(table["budget"], 0), pc.equal(table["rank"], used)))
    scores = pivoted(chosen, ["draw"], "score", test, cell.path)
    if not scores:
        raise PolygateError(f"no gate of rank {used} and budget 0", where=cell.path, do="delete the file and rerun")
    return next(iter(scores.values())).astype(np.float64)


def _panel(sheets: Sequence[Sheet]) -> Panel:
    return Panel.stack([Part(sheet.language, sheet.test.ids, sheet.test.harmful) for sheet in sheets])


def _scorers(sheets: Sequence[Sheet]) -> list[Scorer]:
    """Scorers that every language has, in order."""
    return [scorer for scorer in sheets[0].scores if all(scorer in sheet.scores for sheet in sheets)]


def _values(sheets: Sequence[Sheet], scorers: Sequence[Scorer]) -> NDArray[np.float64]:
    return np.concatenate([np.stack([sheet.scores[scorer] for scorer in scorers]) for sheet in sheets], axis=1)


def _tier_rows(sheets: Sequence[Sheet], resampling: Resampling) -> list[dict[str, Any]]:
    rows = _rows(sheets, "all", None, resampling)
    matches = {sheet.language: sheet.matched() for sheet in sheets}
    overlapping = [sheet for sheet in sheets if min(matches[sheet.language].n_effective) > 0]
    if overlapping:
        rows += _rows(overlapping, "matched", [matches[sheet.language] for sheet in overlapping], resampling)
    return rows + _caliper_rows(sheets, resampling)


def _rows(
    sheets: Sequence[Sheet], prompts: str, matches: Sequence[Matched] | None, resampling: Resampling
) -> list[dict[str, Any]]:
    """Both metrics for every scorer, per language and over the tier."""
    panel, scorers = _panel(sheets), _scorers(sheets)
    values = _values(sheets, scorers)
    weights = None if matches is None else np.concatenate([found.weights for found in matches])
    rows = []
    for metric in METRICS:
        found = replicate(metric, values, panel, resampling, weights)  # type: ignore[arg-type]
        for where, source, at in _places(panel, found):
            column = None if where == "" else at
            common = {"language": where, "prompts": prompts, "metric": metric, **_sizes(panel, matches, column)}
            items = _items(panel, matches, column)
            for method, (name, layer) in enumerate(scorers):
                estimate = share_interval(source, method, at, items)
                rows.append({**common, "scorer": name, "layer": layer, **interval(estimate)})
    return rows


def _places(panel: Panel, found: Replicates) -> list[tuple[str, Replicates, int]]:
    """Each language and "" for the tier: name, replicates, column."""
    each = [(name, found, column) for column, name in enumerate(panel.names)]
    return [*each, ("", found.over_languages(), 0)]


def _items(panel: Panel, matches: Sequence[Matched] | None, column: int | None) -> float:
    """Items of the smaller class, effective ones where prompts are weighted."""
    if matches is None:
        return min(panel.items(column))
    if column is not None:
        return min(matches[column].n_effective)
    return min(min(found.n_effective) for found in matches)


def _sizes(panel: Panel, matches: Sequence[Matched] | None, column: int | None) -> dict[str, Any]:
    counts = panel.counts()
    n = int(counts.sum() if column is None else counts[column])
    if matches is None:
        return {"n": n, "n_effective": float(n)}
    chosen = list(matches) if column is None else [matches[column]]
    overlap = "ok" if all(found.sufficient for found in chosen) else "too small"
    return {"n": n, "n_effective": sum(sum(found.n_effective) for found in chosen), "overlap": overlap}


def _caliper_rows(sheets: Sequence[Sheet], resampling: Resampling) -> list[dict[str, Any]]:
    """AUC over close pairs; languages without one are left out."""
    sheets = [sheet for sheet in sheets if _pairs(sheet)]
    if not sheets:
        return []
    panel, scorers = _panel(sheets), _scorers(sheets)
    lengths = np.concatenate([sheet.log_characters for sheet in sheets])
    final = np.concatenate([sheet.final for sheet in sheets])
    found = caliper_auc(_values(sheets, scorers), panel, lengths, final, resampling)
    rows = []
    for where, source, at in _places(panel, found.replicates):
        column = None if where == "" else at
        pairs = found.pairs if column is None else found.pairs[[column]]
        overlap = "ok" if (pairs >= FEWEST_PAIRS).all() else "too small"
        common = {"language": where, "prompts": "caliper", "metric": "auc", **_sizes(panel, None, column)}
        common |= {"n_effective": None, "n_pairs": int(pairs.sum()), "overlap": overlap}
        for method, (name, layer) in enumerate(scorers):
            estimate = share_interval(source, method, at, min(panel.items(column)))
            rows.append({**common, "scorer": name, "layer": layer, **interval(estimate)})
    return rows


def _pairs(sheet: Sheet) -> bool:
    return bool(close_pairs(sheet.test.harmful, sheet.log_characters, sheet.final, CALIPER).any())


def _compare(
    rows: list[dict[str, Any]],
    sheets: Sequence[Sheet],
    layer: int,
    resampling: Resampling,
    control: str,
    names: Sequence[str],
) -> None:
    """Attach the comparison of v_hrl at the chosen layer with a control's scorers to its rows, per language."""
    present = [name for name in names if all((name, None) in sheet.scores for sheet in sheets)]
    if not present:
        return
    panel = _panel(sheets)
    scorers: list[Scorer] = [("v_hrl", layer), *((name, None) for name in present)]
    found = replicate("auc", _values(sheets, scorers), panel, resampling)
    baselines = {name: found.pick([i + 1]) for i, name in enumerate(present)}
    for column, language in enumerate(panel.names):
        for row in rows:
            key = (row["language"], row["scorer"], row["layer"], row["prompts"], row["metric"])
            if key == (language, "v_hrl", layer, "all", "auc"):
                row[control] = against_surface(found.pick([0]), baselines, column)


def _verdicts(rows: list[dict[str, Any]], confidence: float) -> None:
    """Correct the comparisons of each model with each control and spell them out in their rows."""
    for model, control in product(dict.fromkeys(row["model"] for row in rows), CONTROLS):
        compared = [row for row in rows if row["model"] == model and control in row]
        for row, found in zip(
            compared, with_verdicts([row[control] for row in compared], confidence, control), strict=True
        ):
            row |= spelt(found, control)
