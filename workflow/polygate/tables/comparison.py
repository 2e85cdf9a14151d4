"""comparison.csv: two runs side by side, every headline number of what both have, paired by prompt.

`a` and `b` are the runs' numbers on the prompts that both asked with the same words; `difference` is b − a, with a
bootstrap over these prompts, drawn jointly for both runs and all languages. `headline` marks what the page shows:
means over tiers of what the unsteered model knows and does, and of the routed arms, on the data set that everything
is fitted on. `p_holm` is corrected over a model's headline numbers, and, of each quantity, over its languages and its
other tiers.

    auc          of the high-resource direction v_HRL at each run's own layer
    f1           of the gate that routes, mean over draws, per budget
    refused      harmful (or harmless) prompts refused, per arm
    selectivity  harmful refused − harmless refused, per arm

Needs the result folders alone, wherever they lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.judges.interface import OUTCOMES
from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Resampling,
    difference_interval,
    paired_p,
    replicate,
    resolving,
    selectivities,
    share_interval,
)
from polygate.prompts import table
from polygate.settings.check import read_yaml
from polygate.settings.types import TIERS, Gate, Judging, Languages, Settings, Statistics
from polygate.steering.choice import Choice
from polygate.steering.conditional import clipped_rank
from polygate.tables.cells import ROUTED, Cell, Test, pivoted, read, test_split
from polygate.tables.judged import outcome_shares
from polygate.tables.writing import corrected, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "dataset",
    "quantity",
    "subset",
    "arm",
    "budget",
    "judge",
    "headline",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "n",
    "method",
    "p",
    "p_holm",
)
FAMILY = ("dataset", "quantity", "subset", "arm", "budget", "judge")
"""What rows of one correction agree in, beside the headline numbers, which are a family of their own."""
Quantity = Literal["auc", "f1", "refused", "selectivity"]
_ARM = re.compile(rf"{ROUTED}-(\d+)")


@dataclass(frozen=True)
class Run:
    """A run's folder of results, `results/{run}`, here or copied from elsewhere."""

    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's settings as its report names them; `PolygateError` when the run has none yet."""
        path = self.folder / "report" / "config.yaml"
        if not self.folder.is_dir():
            raise PolygateError("no such folder", where=self.folder, do="give a run's folder of results: results/{run}")
        if not path.is_file():
            raise PolygateError("not the results of a finished run (no report/config.yaml)", where=self.folder)
        return read_yaml(path)

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.settings.get("run", self.folder.name))

    @property
    def languages(self) -> Languages:
        """Its languages by tier."""
        return Languages(**self.settings.get("languages", {}))

    @property
    def statistics(self) -> Statistics:
        """How its intervals are made."""
        return Statistics(**self.settings.get("statistics", {}))

    @property
    def gate(self) -> Gate:
        """Its gates' settings."""
        return Gate(**self.settings.get("gate", {}))

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings.get("seed", Settings.model_fields["seed"].get_default()))

    @property
    def main(self) -> str:
        """Name of the data set that everything is fitted on."""
        return str(self.settings.get("prompts", {}).get("source", "polyrefuse"))

    @property
    def judge(self) -> str:
        """The judge that headlines use: the first of the settings."""
        judges: list[str] = self.settings.get("judging", {}).get("judges") or Judging().judges
        return judges[0]

    def models(self) -> list[str]:
        """Models that have results, in the order of the settings where these name them."""
        there = sorted(path.parent.name for path in self.folder.glob("*/choices.parquet"))
        named = [name for name in self.settings.get("models", {}) if name in there]
        return named + [name for name in there if name not in named]

    def judged(self, model: str) -> set[tuple[str, str, str]]:
        """Judge, arm and data set of every folder of judgements of a model."""
        found = (self.folder / model / "judgements").glob("*/*/*/")
        return {(path.parts[-3], path.parts[-2], path.parts[-1]) for path in found}

    def lacking(self) -> list[str]:
        """What a finished run has and this folder hasn't: prompts of a language, judgements of unsteered answers."""
        languages = self.languages.all()
        wanted = [f"prompts/{self.main}/{language}.parquet" for language in languages]
        for model in self.models():
            judged = f"{model}/judgements/{self.judge}/none/{self.main}"
            wanted += [f"{judged}/{language}.parquet" for language in languages]
        return [name for name in wanted if not (self.folder / name).is_file()]

    def versions(self, model: str) -> dict[str, str]:
        """Versions of the libraries that made the model's choices."""
        versions = files.read_provenance(self.folder / model / "choices.parquet").get("versions", {})
        return {str(name): str(version) for name, version in versions.items()}

    def cell(self, path: str, **what: Any) -> Cell | None:
        """A file of the run, None where it is missing."""
        whole = self.folder / path
        return Cell(path=whole, **what) if whole.is_file() else None


@dataclass(frozen=True)
class Shared:
    """The test prompts of one data set and language that both runs ask in the same words; `left_out` are those of one
    run alone, or in other words."""

    test: Test
    left_out: int


def shared(runs: tuple[Run, Run], dataset: str, language: str) -> Shared | None:
    """Prompts that can be paired, None where a run lacks the language."""
    tables = []
    for run in runs:
        path = run.folder / "prompts" / dataset / f"{language}.parquet"
        if not path.is_file():
            return None
        tables.append(table.read(path, dataset=dataset, language=language))
    asked = [
        {found.ids[row]: (found.texts[row], found.subset[row]) for row in found.select("test")} for found in tables
    ]
    ids = tuple(name for name, said in asked[0].items() if asked[1].get(name) == said)
    harmful = np.array([asked[0][name][1] == "harmful" for name in ids], dtype=bool)
    return Shared(Test(ids, harmful), len(asked[0].keys() | asked[1].keys()) - len(ids))


@dataclass(frozen=True)
class What:
    """A number to compare. `subset` belongs to refusal, `budget` to gates and routed arms."""

    quantity: Quantity
    dataset: str
    subset: str = ""
    arm: str = ""
    budget: int | None = None
    judge: str = ""


def pairs(runs: tuple[Run, Run], named: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Models to compare: those given, or all whose name both runs have; `PolygateError` when there is none."""
    there = [run.models() for run in runs]
    for pair in named:
        for name, run, models in zip(pair, runs, there, strict=True):
            if name not in models:
                raise PolygateError(f"model {name} has no results; there are {', '.join(models)}", where=run.folder)
    found = list(named) or [(name, name) for name in there[0] if name in there[1]]
    if not found:
        told_names = " and ".join(", ".join(models) or "none" for models in there)
        raise PolygateError(f"the runs share no model ({told_names})", do="name pairs of them: --model A=B")
    return found


def build(runs: tuple[Run, Run], models: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows of the comparison, as `COLUMNS`, of these pairs of models."""
    rows: list[dict[str, Any]] = []
    for pair in models:
        found = list(_of_model(runs, pair))
        corrected([row for row in found if row["headline"]], ())
        corrected([row for row in found if not row["headline"]], FAMILY)
        name = pair[0] if pair[0] == pair[1] else f"{pair[0]} / {pair[1]}"
        rows += [{"model": name, **row} for row in found]
    return rows


def save(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write the rows as CSV."""
    write(output, COLUMNS, rows)


def _of_model(runs: tuple[Run, Run], pair: tuple[str, str]) -> Iterator[dict[str, Any]]:
    ours, theirs = (run.languages.all() for run in runs)
    both = [language for language in ours if language in theirs]
    whats = list(_whats(runs, pair))
    family = max(len(both), len(TIERS) * sum(_is_headline(what, runs[0].main) for what in whats))
    resampling = resolving(Resampling.of(runs[0].statistics, runs[0].seed), family)
    prompts: dict[tuple[str, str], Shared | None] = {}
    for what in whats:
        for tier in TIERS:
            sheets = []
            for language in (name for name in both if runs[0].languages.tier(name) == tier):
                key = what.dataset, language
                if key not in prompts:
                    prompts[key] = shared(runs, *key)
                if (asked := prompts[key]) is not None:
                    sheets += _sheets(runs, pair, what, language, asked.test)
            if sheets:
                said = {"dataset": what.dataset, "quantity": what.quantity, "subset": what.subset}
                common = {"tier": tier, **said, "arm": what.arm, "budget": what.budget, "judge": what.judge}
                for row in _rows(what, sheets, resampling):
                    yield {**common, **row, "headline": not row["language"] and _is_headline(what, runs[0].main)}


def _is_headline(what: What, main: str) -> bool:
    """Whether the page shows the means of a quantity over tiers."""
    arms = {"auc": ("",), "f1": ("",), "refused": ("none",), "selectivity": ("none", ROUTED)}[what.quantity]
    return what.dataset == main and what.arm in arms


def _whats(runs: tuple[Run, Run], pair: tuple[str, str]) -> Iterator[What]:
    """What both runs may have of a model, the data set that everything is fitted on first."""
    main = runs[0].main
    if runs[1].main == main:
        yield What("auc", main)
        for budget in runs[0].gate.budgets:
            if budget in runs[1].gate.budgets:
                yield What("f1", main, budget=budget)
    both = runs[0].judged(pair[0]) & runs[1].judged(pair[1])
    for judge, arm, dataset in sorted(
        both, key=lambda found: (found[0], found[2] != main, found[2], *_order(found[1]))
    ):
        routed = _ARM.fullmatch(arm)
        of = {"arm": ROUTED if routed else arm, "budget": int(routed[1]) if routed else None, "judge": judge}
        for subset in ("harmful", "harmless"):
            yield What("refused", dataset, subset=subset, **of)  # type: ignore[arg-type]
        yield What("selectivity", dataset, **of)  # type: ignore[arg-type]


def _order(arm: str) -> tuple[bool, int, str]:
    routed = _ARM.fullmatch(arm)
    return routed is not None, int(routed[1]) if routed else -1, "" if arm == "none" else arm


@dataclass(frozen=True)
class _Sheet:
    """One language: its prompts and the two runs' values, each [draws, n]."""

    language: str
    test: Test
    values: tuple[NDArray[np.float64], NDArray[np.float64]]


def _sheets(runs: tuple[Run, Run], pair: tuple[str, str], what: What, language: str, test: Test) -> list[_Sheet]:
    """The sheet of a language, none where a run lacks it or the prompts have too few classes for the quantity."""
    keep = test.harmful == (what.subset == "harmful") if what.subset else np.ones(len(test.ids), bool)
    test = Test(tuple(np.array(test.ids)[keep].tolist()), test.harmful[keep])
    if not test.ids or not (what.subset or test.both):
        return []
    found = [_values(run, model, what, language, test) for run, model in zip(runs, pair, strict=True)]
    if found[0] is None or found[1] is None:
        return []
    return [_Sheet(language, test, (found[0], found[1]))]


def _values(run: Run, model: str, what: What, language: str, test: Test) -> NDArray[np.float64] | None:
    of = {"model": model, "tier": "", "language": language}
    if what.quantity == "auc":
        cell = run.cell(f"{model}/projections/{language}.parquet", **of)
        if cell is None:
            return None
        return scores(cell, "v_hrl", Choice.load(run.folder / model / "choices.parquet").layer, test)
    if what.quantity == "f1":
        cell = run.cell(f"{model}/gate_scores/{what.dataset}/{language}.parquet", **of)
        return None if cell is None else flags(cell, run.gate.rank, what.budget, test)
    folder = what.arm if what.budget is None else f"{what.arm}-{what.budget}"
    path = f"{model}/judgements/{what.judge}/{folder}/{what.dataset}/{language}.parquet"
    cell = run.cell(path, **of, arm=what.arm, budget=what.budget, judge=what.judge, dataset=what.dataset)
    return None if cell is None else outcome_shares(cell, test)[[OUTCOMES.index("refused")]]


def scores(cell: Cell, scorer: str, layer: int | None, test: Test) -> NDArray[np.float64]:
    """What a scorer says of the test prompts, float64 [1, n], at `layer` (None: of none, as the surface's)."""
    columns = ["prompt_id", "split", "scorer", "score", *([] if layer is None else ["layer"])]
    found = test_split(read(cell, columns))
    found = found.filter(pc.equal(found["scorer"], scorer))
    if layer is not None:
        found = found.filter(pc.equal(found["layer"], layer))
    return pivoted(found, [], "score", test, cell.path)[()].astype(np.float64)[None]


def flags(cell: Cell, rank: int, budget: int | None, test: Test) -> NDArray[np.float64]:
    """Which test prompts the gates of a rank and budget flag, float64 [draws, n]."""
    found = test_split(read(cell, ["prompt_id", "split", "rank", "budget", "draw", "flagged"]))
    used = clipped_rank(rank, max(found["rank"].to_pylist(), default=0))
    found = found.filter(pc.and_(pc.equal(found["rank"], used), pc.equal(found["budget"], budget)))
    return np.stack(list(pivoted(found, ["draw"], "flagged", test, cell.path).values())).astype(np.float64)


def _rows(what: What, sheets: Sequence[_Sheet], resampling: Resampling) -> Iterator[dict[str, Any]]:
    """Rows of one quantity and tier: per language, then their mean."""
    panel = Panel.stack([Part(sheet.language, sheet.test.ids, sheet.test.harmful) for sheet in sheets])
    draws = [min(len(sheet.values[run]) for sheet in sheets) for run in (0, 1)]
    values = np.concatenate(
        [np.concatenate([sheet.values[run][: draws[run]] for run in (0, 1)]) for sheet in sheets], axis=1
    )
    groups = [list(range(draws[0])), list(range(draws[0], sum(draws)))]
    parts: list[list[Interval]]
    if what.quantity == "selectivity":
        found = selectivities(values, panel, resampling)
        parts = [[*found.per_language[run], found.mean[run]] for run in (0, 1)]
        replicates = found.replicates
    else:
        statistic = "rate" if what.quantity == "refused" else what.quantity
        replicates = replicate(statistic, values, panel, resampling).over_methods(groups)
        items = [_items(what, panel, column) for column in [*range(len(sheets)), None]]
        of_tier = replicates.over_languages()
        parts = [
            [share_interval(replicates, run, column, items[column]) for column in range(len(sheets))]
            + [share_interval(of_tier, run, 0, items[-1])]
            for run in (0, 1)
        ]
    counts = panel.counts()
    differences = replicates.pick([1]).minus(replicates.pick([0]))
    for column, name in enumerate([*panel.names, ""]):
        source, at = (differences, column) if name else (differences.over_languages(), 0)
        ours, theirs = parts[0][column], parts[1][column]
        found_difference = difference_interval(source, 0, at, (theirs, ours))
        yield {
            "language": name,
            "a": ours.estimate,
            "b": theirs.estimate,
            "difference": found_difference.estimate,
            "low": found_difference.low,
            "high": found_difference.high,
            "n": int(counts[column] if name else counts.sum()),
            "method": found_difference.method,
            "p": paired_p(source, 0, at, _items(what, panel, column if name else None)),
        }


def _items(what: What, panel: Panel, column: int | None) -> int:
    """Distinct prompts, of the smaller class where there are two."""
    found = panel.items(column)
    return max(found) if what.subset else min(found)
