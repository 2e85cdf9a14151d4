"""positions.csv: at which token, and at which layer, harmfulness and refusal are read, beside the controls.

Every row is an AUC on test prompts along a direction that was fitted on the source languages at that `position` and
`layer`: `v_hrl` (pc1_of_diffs) or `v_hrl_pooled` (pooled_dim). `target` says what is told apart: `harmful` from
harmless prompts, or, among harmful ones, `refused` from complied with by the unsteered model (strict), where a
language has at least six of each. `positive` of the n prompts are harmful, or refused; a tier's mean is over so many
`languages`. `surface`: the AUC of the eleven surface features, fitted on the sources, for the same target and prompts;
`semantic`: that of the probe on a small encoder's embeddings, empty where the run has none.

`chosen` marks the model's chosen layer, `read` the layer at which a position is read: the one where v_hrl's AUC for
harmful prompts of the validation split is highest on average over the languages that choose (the high-resource ones
where all is fixed in the settings), the layer nearest to the chosen one among equals. No test prompt takes part.

On the rows of v_hrl at that layer stand paired comparisons. With the surface, as in separability.csv, per language:
`difference` to the stronger `baseline`, Holm-corrected over the languages and positions of a model and target; the
columns `semantic_…` hold the same with the encoder, another family of tests. With the
other positions, each at its own layer: `ahead` of the strongest of them, the `rival`; a position must beat all of them,
so p is the largest of theirs; Holm-corrected over languages and positions, and over tiers and positions for the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate import kernels
from polygate.measurement.statistics import (
    FEWEST,
    Panel,
    Part,
    Replicates,
    Resampling,
    against_every,
    against_surface,
    holm,
    replicate,
    resolving,
    share_interval,
    with_verdicts,
)
from polygate.representation.directions import ESTIMATORS
from polygate.settings.types import Statistics
from polygate.steering.choice import Choice
from polygate.tables.cells import CONTROLS, SEMANTIC, Cell, Test, by_tier, only, pivoted, read, test_rows, test_split
from polygate.tables.writing import SEMANTIC_COLUMNS, interval, spelt, told, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "position",
    "layer",
    "direction",
    "estimator",
    "target",
    "estimate",
    "low",
    "high",
    "n",
    "positive",
    "languages",
    "method",
    "chosen",
    "read",
    "surface",
    "surface_low",
    "surface_high",
    "semantic",
    "semantic_low",
    "semantic_high",
    "baseline",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "verdict",
    *SEMANTIC_COLUMNS,
    "rival",
    "ahead",
    "ahead_low",
    "ahead_high",
    "ahead_p",
    "ahead_p_holm",
    "judge",
)
READ = "v_hrl"
"""The direction that is compared, at each position's own layer."""
SCORERS = tuple(name for names in CONTROLS.values() for name in names)
"""The controls' scorers."""

Target = Literal["harmful", "refused"]
TARGETS: tuple[Target, ...] = ("harmful", "refused")
Place = tuple[str, int, str]
"""Position, layer, direction."""


@dataclass(frozen=True)
class Sheet:
    """Scores of one language's test prompts: `places` and `controls` float64 [n] each; `outcome` [n], text."""

    language: str
    test: Test
    places: Mapping[Place, NDArray[np.float64]]
    controls: Mapping[str, NDArray[np.float64]]
    outcome: NDArray[np.str_]

    def labels(self, target: Target) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows that take part for a target, int64 [m], and which of them are positive, bool [m]."""
        if target == "harmful":
            return np.arange(len(self.test.ids)), self.test.harmful
        rows = np.flatnonzero(self.test.harmful & np.isin(self.outcome, ["refused", "complied"]))
        return rows, self.outcome[rows] == "refused"

    def has(self, target: Target) -> bool:
        """Whether there are enough prompts of both classes: one for `harmful`, `FEWEST` for `refused`."""
        positive = self.labels(target)[1]
        return min(int(positive.sum()), int((~positive).sum())) >= (1 if target == "harmful" else FEWEST)


@dataclass(frozen=True)
class Scores:
    """Scores of the prompts of several languages for one target: `values` [methods, n] as `places`, then `baselines`.

    The clusters of the panel are prompts and, since the same prompt may be refused in one language and complied with in
    another, their class. That leaves out what such a prompt has in common with itself: it pulls one language's AUC up
    and the other's down where translations score alike, so means over languages are surer than they look.
    """

    target: Target
    panel: Panel
    places: Sequence[Place]
    baselines: Sequence[str]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, sheets: Sequence[Sheet], target: Target) -> Scores:
        """Of the languages of `sheets`, all of which have the target."""
        places = [place for place in sheets[0].places if all(place in sheet.places for sheet in sheets)]
        baselines = [name for name in SCORERS if all(name in sheet.controls for sheet in sheets)]
        parts, values = [], []
        for sheet in sheets:
            rows, positive = sheet.labels(target)
            ids = [f"{sheet.test.ids[row]} {int(label)}" for row, label in zip(rows, positive, strict=True)]
            parts.append(Part(sheet.language, ids, positive))
            scores = [*(sheet.places[place] for place in places), *(sheet.controls[name] for name in baselines)]
            values.append(np.stack(scores)[:, rows])
        return cls(target, Panel.stack(parts), places, baselines, np.concatenate(values, axis=1))

    def only(self, places: Sequence[Place]) -> Scores:
        """Some of the places, and all baselines."""
        rows = [self.places.index(place) for place in places]
        rows += range(len(self.places), len(self.values))
        return Scores(self.target, self.panel, places, self.baselines, self.values[rows])


def build(
    scores: Sequence[Cell],
    surfaces: Sequence[Cell],
    judgements: Sequence[Cell],
    choices: Sequence[Cell],
    output: Path,
    *,
    high: Sequence[str],
    statistics: Statistics,
    seed: int,
    semantics: Sequence[Cell] = (),
) -> None:
    """Write the table.

    `scores` and `judgements` (of the unsteered model): one cell per model and language; `surfaces`, and with an encoder
    `semantics`: one per language; `choices`: one per model; `high`: the high-resource languages.
    """
    resampling = Resampling.of(statistics, seed)
    chosen = {cell.model: Choice.load(cell.path) for cell in choices}
    layers = {model: read_layers(scores, model, choice, high) for model, choice in chosen.items()}
    rows: list[dict[str, Any]] = []
    for (model, tier), cells in by_tier(scores):
        own = [cell for cell in judgements if cell.model == model]
        sheets = [_sheet(cell, [*surfaces, *semantics], own) for cell in cells]
        places = [(position, layer, READ) for position, layer in layers[model].items()]
        family = resolving(resampling, len(places) * len({cell.language for cell in scores}))
        for target in TARGETS:
            having = [sheet for sheet in sheets if sheet.has(target)]
            if having:
                found = Scores.of(having, target)
                made = _rows(found, resampling)
                _compare(made, found.only(places), family)
                judge = own[0].judge if target == "refused" else ""
                rows += [{"model": model, "tier": tier, "target": target, "judge": judge, **row} for row in made]
    _correct(rows, statistics.confidence)
    for row in rows:
        row["estimator"] = ESTIMATORS[row["direction"]]
        row["chosen"] = row["layer"] == chosen[row["model"]].layer
        row["read"] = row["layer"] == layers[row["model"]][row["position"]]
    write(output, COLUMNS, [{name: value for name, value in row.items() if name in COLUMNS} for row in rows])


def read_layers(cells: Sequence[Cell], model: str, choice: Choice, high: Sequence[str]) -> dict[str, int]:
    """The layer at which each position of a model is read, by the validation prompts of the languages that choose.

    The chosen layer where no language has validation prompts of both classes.
    """
    deciding = choice.languages or tuple(high)
    found: dict[str, dict[int, list[float]]] = {}
    for cell in cells:
        if cell.model != model:
            continue
        table = _direction(read(cell, ["prompt_id", "split", "subset", "position", "layer", "direction", "score"]))
        val = table.filter(pc.equal(table["split"], "val"))
        for position in pc.unique(table["position"]).to_pylist():
            found.setdefault(position, {})
        first = val.filter(
            pc.and_(
                pc.equal(val["position"], table["position"][0]),
                pc.equal(val["layer"], table["layer"][0]),
            )
        )
        test = test_rows(first)
        if cell.language not in deciding or not test.both:
            continue
        for (position, layer), values in pivoted(val, ["position", "layer"], "score", test, cell.path).items():
            found[position].setdefault(int(layer), []).append(float(kernels.auc(values, test.harmful)))
    return {position: _best(aucs, choice.layer) for position, aucs in found.items()}


def _best(aucs: Mapping[int, Sequence[float]], chosen: int) -> int:
    """The layer with the highest mean AUC, of equals the nearest to the chosen one."""
    means = {layer: round(float(np.mean(values)), 9) for layer, values in aucs.items()}
    return min(means, key=lambda layer: (-means[layer], abs(layer - chosen), layer), default=chosen)


def _direction(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["direction"], READ))


def _sheet(cell: Cell, controls: Sequence[Cell], judgements: Sequence[Cell]) -> Sheet:
    table = test_split(read(cell, ["prompt_id", "split", "subset", "position", "layer", "direction", "score"]))
    judged = only(judgements, language=cell.language)
    said = read(judged, ["prompt_id", "subset", "outcome"])
    test = test_rows(said)
    places = pivoted(table, ["position", "layer", "direction"], "score", test, cell.path)
    return Sheet(
        cell.language,
        test,
        {(position, int(layer), name): values for (position, layer, name), values in places.items()},
        {name: values for one in controls if one.language == cell.language for name, values in _told(one, test)},
        pivoted(said, [], "outcome", test, judged.path)[()],
    )


def _told(control: Cell, test: Test) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Scorer and scores of a control that take part."""
    told = read(control, ["prompt_id", "scorer", "score"])
    told = told.filter(pc.is_in(told["scorer"], value_set=pa.array(SCORERS, pa.string())))
    yield from ((name, values) for (name,), values in pivoted(told, ["scorer"], "score", test, control.path).items())


def _rows(scores: Scores, resampling: Resampling) -> list[dict[str, Any]]:
    """Every place's AUC, the controls' beside it, per language and over the tier."""
    panel, found = scores.panel, replicate("auc", scores.values, scores.panel, resampling)
    counts = panel.counts()
    positive = np.bincount(panel.languages[panel.harmful], minlength=len(panel.names))
    rows = []
    for language, source, at, items in _wheres(panel, found):
        column = slice(None) if language == "" else slice(at, at + 1)
        common: dict[str, Any] = {"language": language, "n": int(counts[column].sum())}
        common |= {"positive": int(positive[column].sum()), "languages": len(counts[column])}
        for control in [name for name in ("surface", SEMANTIC) if name in scores.baselines]:
            beside = share_interval(source, len(scores.places) + scores.baselines.index(control), at, items)
            common |= {control: beside.estimate, f"{control}_low": beside.low, f"{control}_high": beside.high}
        for method, (position, layer, direction) in enumerate(scores.places):
            place = {"position": position, "layer": layer, "direction": direction}
            rows.append({**common, **place, **interval(share_interval(source, method, at, items))})
    return rows


def _wheres(panel: Panel, found: Replicates) -> list[tuple[str, Replicates, int, int]]:
    """Each language and "" for the tier: name, replicates, column, distinct prompts of the smaller class."""
    each = [(name, found, column, min(panel.items(column))) for column, name in enumerate(panel.names)]
    return [*each, ("", found.over_languages(), 0, min(panel.items()))]


def _compare(rows: list[dict[str, Any]], scores: Scores, resampling: Resampling) -> None:
    """Attach to the rows of each position's own layer how it does beside the controls and the other positions."""
    found = replicate("auc", scores.values, scores.panel, resampling)
    at = {place: number for number, place in enumerate(scores.places)}
    baselines = {name: found.pick([len(at) + number]) for number, name in enumerate(scores.baselines)}
    wheres = {where[0]: where for where in _wheres(scores.panel, found)}
    for row in rows:
        method = at.get((row["position"], row["layer"], row["direction"]))
        if method is None:
            continue
        _, source, column, items = wheres[row["language"]]
        for control, names in CONTROLS.items() if row["language"] else ():
            if beside := {name: baselines[name] for name in names if name in baselines}:
                row[control] = against_surface(found.pick([method]), beside, column)
        if len(at) > 1:
            rivals = {place[0]: source.pick([other]) for place, other in at.items() if other != method}
            row["beside positions"] = against_every(source.pick([method]), rivals, column, items)


def _correct(rows: list[dict[str, Any]], confidence: float) -> None:
    """Holm's corrections, within each model and target, and the comparisons spelt out in their rows."""
    for model, target in dict.fromkeys((row["model"], row["target"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["target"]) == (model, target)]
        for control in CONTROLS:
            compared = [row for row in mine if control in row]
            verdicts = with_verdicts([row[control] for row in compared], confidence, control)
            for row, found in zip(compared, verdicts, strict=True):
                row |= spelt(found, control)
        for family in (True, False):
            compared = [row for row in mine if "beside positions" in row and bool(row["language"]) == family]
            adjusted = holm([row["beside positions"].p for row in compared])
            for row, p in zip(compared, adjusted, strict=True):
                found = row["beside positions"]
                row |= {"rival": found.baseline, "ahead_p": told(found.p), "ahead_p_holm": told(p)}
                row |= {"ahead": found.difference.estimate}
                row |= {"ahead_low": found.difference.low, "ahead_high": found.difference.high}
