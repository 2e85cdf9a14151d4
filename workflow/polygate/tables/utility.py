"""utility.csv: what steering costs where nothing is to be refused: a multiple-choice task, by arm.

A model's choice is the option with the largest logit where its answer would begin (`forward.scoring`). Metrics:
`accuracy` (`chance` beside it), `margin` (logit of the right option less the best wrong one), `entropy` over the
options (nats) and, for routed arms, `flagged`, the share of questions that the gate takes for harmful. A routed arm's
numbers are those of `addition` where its gate flags the question and of `ablation` where it doesn't, as a mean over
draws.

`change` is the paired difference to the unsteered arm on the same questions; `p_holm` its p-value, corrected over the
languages of a data set, model, metric and arm (the tier means are a family of their own). Neither p is there with fewer
than six questions. Translations of a question are one item: they are resampled together.

An arm that acts on generated tokens alone (AdaSteer) does nothing before the first one, so its change is 0 by
construction: nothing can be concluded from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.measurement import utility
from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    difference_interval,
    paired_p,
    replicate,
    resolving,
    share_interval,
    student_interval,
)
from polygate.prompts.table import OPTIONS
from polygate.settings.types import Statistics
from polygate.steering import conditional
from polygate.tables.cells import ROUTED, Cell, Test, by_tier, only, pivoted, read, test_rows
from polygate.tables.judged import UNSTEERED, Treatment
from polygate.tables.writing import changed, corrected, interval, write

COLUMNS = (
    "dataset",
    "model",
    "tier",
    "language",
    "arm",
    "budget",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "chance",
    "change",
    "change_low",
    "change_high",
    "change_method",
    "p",
    "p_holm",
)
METRICS = ("accuracy", "margin", "entropy")
FLAGGED = "flagged"
SHARES = ("accuracy", FLAGGED)
"""Metrics between 0 and 1."""


@dataclass(frozen=True)
class Answers:
    """The questions of one language: `values` float64 [n] per treatment and metric, `chance` float64 [n]."""

    language: str
    test: Test
    values: dict[tuple[Treatment, str], NDArray[np.float64]]
    chance: NDArray[np.float64]


def build(
    scores: Sequence[Cell],
    gate_scores: Sequence[Cell],
    prompts: Sequence[Cell],
    output: Path,
    *,
    rank: int,
    budgets: Sequence[int],
    statistics: Statistics,
    seed: int,
) -> None:
    """Write the table.

    `scores`: one cell per data set, model, language and arm that was scored; `gate_scores`: one per data set, model and
    language; `prompts`: one per data set and language. `rank` is that of the gates that route.
    """
    resampling = resolving(Resampling.of(statistics, seed), len({cell.language for cell in scores}))
    rows: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(cell.dataset for cell in scores):
        for (model, tier), cells in by_tier([cell for cell in scores if cell.dataset == dataset]):
            languages = list(dict.fromkeys(cell.language for cell in cells))
            answers = []
            for name in languages:
                own = [cell for cell in cells if cell.language == name]
                gates = only(gate_scores, dataset=dataset, model=model, language=name)
                asked = only(prompts, dataset=dataset, language=name)
                answers.append(read_answers(own, gates, asked, rank, budgets))
            common = {"dataset": dataset, "model": model, "tier": tier}
            rows += [{**common, **row} for row in _rows(answers, resampling)]
    corrected(rows, ("dataset", "model", "arm", "budget", "metric"))
    write(output, COLUMNS, rows)


def read_answers(cells: Sequence[Cell], gates: Cell, asked: Cell, rank: int, budgets: Sequence[int]) -> Answers:
    """The answers of one language under every arm that was scored, and under the routed ones."""
    base = read(only(cells, arm="none"), ["prompt_id", "subset"])
    test = test_rows(base)
    right = _right(asked, test)
    values: dict[tuple[Treatment, str], NDArray[np.float64]] = {}
    chance = np.empty(0)
    for cell in cells:
        logits = _logits(cell, test)
        chance = utility.chance(logits)
        found = (utility.accuracy(logits, right), utility.margin(logits, right), utility.entropy(logits))
        values |= {((cell.arm, None), metric): value for metric, value in zip(METRICS, found, strict=True)}
    scores = files.read_parquet(gates.path, conditional.SCORE_COLUMNS)
    for budget in budgets:
        decided = conditional.decisions(scores, rank, budget)
        draws = list(pivoted(decided, ["draw"], "flagged", test, gates.path).values())
        flagged = np.mean(np.stack(draws).astype(np.float64), axis=0)
        routed: Treatment = (ROUTED, budget)
        for metric in METRICS:
            harmful, harmless = (values[(arm, None), metric] for arm in ("addition", "ablation"))
            values[routed, metric] = flagged * harmful + (1 - flagged) * harmless
        values[routed, FLAGGED] = flagged
    return Answers(cells[0].language, test, values, chance)


def _right(asked: Cell, test: Test) -> NDArray[np.int64]:
    table = files.read_parquet(asked.path, ["prompt_id", *OPTIONS])
    answers = dict(zip(table["prompt_id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    lacking = next((name for name in test.ids if name not in answers), None)
    if lacking is not None:
        raise PolygateError(f"question {lacking!r} was scored and is not among the prompts", where=asked.path)
    return np.array([answers[name] for name in test.ids], np.int64)


def _logits(cell: Cell, test: Test) -> NDArray[np.float64]:
    table = read(cell, ["prompt_id", "logits"])
    if tuple(table["prompt_id"].to_pylist()) != test.ids:
        raise PolygateError("scores of other questions than the unsteered ones", where=cell.path, do="delete and rerun")
    return utility.padded(table["logits"].to_pylist())


def _rows(answers: Sequence[Answers], resampling: Resampling) -> list[dict[str, Any]]:
    """Rows of one data set, model and tier: per language, then the tier's mean."""
    panel = Panel.stack([Part(each.language, each.test.ids, each.test.harmful) for each in answers])
    keys = list(answers[0].values)
    values = np.stack([np.concatenate([each.values[key] for each in answers]) for key in keys])
    found = replicate("rate", values, panel, resampling)
    chance = [float(each.chance.mean()) for each in answers]
    counts = panel.counts()
    rows = []
    for column, name in enumerate([*panel.names, ""]):
        whole = name == ""
        source, at = (found.over_languages(), 0) if whole else (found, column)
        items = sum(panel.items(None if whole else column))
        what = {"language": name, "n": int(counts.sum() if whole else counts[column])}
        for method, ((arm, budget), metric) in enumerate(keys):
            row = {**what, "arm": arm, "budget": budget, "metric": metric}
            row |= interval(_interval(source, method, at, items, metric))
            if metric == "accuracy":
                row["chance"] = float(np.mean(chance)) if whole else chance[column]
            if (arm, budget) != UNSTEERED and metric != FLAGGED:
                row |= _change(source, method, keys.index((UNSTEERED, metric)), at, items, metric)
            rows.append(row)
    return rows


def _interval(found: Replicates, method: int, column: int, items: int, metric: str) -> Interval:
    made = share_interval if metric in SHARES else student_interval
    return made(found, method, column, items)


def _change(found: Replicates, method: int, base: int, column: int, items: int, metric: str) -> dict[str, Any]:
    difference = found.pick([method]).minus(found.pick([base]))
    here, before = (_interval(found, row, column, items, metric) for row in (method, base))
    made = difference_interval(difference, 0, column, (here, before))
    return changed(made, paired_p(difference, 0, column, items))
