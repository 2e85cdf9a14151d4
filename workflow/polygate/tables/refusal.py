"""refusal.csv: how often each arm refuses, complies, or garbles, per language and as a mean over each tier.

With several data sets there is a column `dataset`; the rows of the one that everything is fitted on come first.

Five outcomes sum to one. `refused_in_another_language` is a part of `refused`. `reading` says which rows are refusal
rates: `refused` is the strict one, declined in words; `refused_or_deflected` the broad one, with answers that find
fault with the request and decline nothing. Judges that are asked for a yes or no tell no deflection, no broad reading
and no other language. With several judges the first one's rows come first in each tier; another's mean over a tier is
over the languages that it judges.
Rates of routed arms are means over draws; their intervals resample prompts, given the draws.

On both kinds of refusal rate stands the `change` to the unsteered arm on the same prompts, paired; `p_holm` is its
p-value, corrected over the languages of a data set, model, class, outcome and arm (the tier means are a family of their
own). Neither p is there with fewer than six prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polygate.measurement.statistics import (
    Panel,
    Part,
    Resampling,
    difference_interval,
    paired_p,
    replicate,
    resolving,
    share_interval,
)
from polygate.settings.types import RULES, Statistics
from polygate.tables.cells import Cell, by_tier
from polygate.tables.judged import ASKED, BROAD, COUNTED, UNSTEERED, Judged, read_judged, treatments
from polygate.tables.writing import changed, corrected, interval, write

COLUMNS = (
    "model",
    "tier",
    "language",
    "arm",
    "budget",
    "judge",
    "subset",
    "outcome",
    "reading",
    "estimate",
    "low",
    "high",
    "n",
    "method",
    "change",
    "change_low",
    "change_high",
    "change_method",
    "p",
    "p_holm",
)
"""The treatment that the others are compared with."""
READINGS = {"refused": "strict", BROAD: "broad"}
"""Outcomes that are a refusal rate, and by which reading."""


def build(judgements: Sequence[Cell], output: Path, *, statistics: Statistics, seed: int) -> None:
    """Write the table from the judgements of every model, data set, language and arm."""
    resampling = Resampling.of(statistics, seed)
    # Tests of many languages need more resamples; intervals keep theirs, whatever languages there are beside.
    testing = resolving(resampling, len({cell.language for cell in judgements}))
    datasets = list(dict.fromkeys(cell.dataset for cell in judgements))
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        named = {"dataset": dataset} if len(datasets) > 1 else {}
        of_dataset = [cell for cell in judgements if cell.dataset == dataset]
        for (model, tier, judge), cells in by_tier(of_dataset, lambda cell: cell.judge):
            judged = read_judged(cells)
            for subset in ("harmful", "harmless"):
                common = {**named, "model": model, "tier": tier, "judge": judge, "subset": subset}
                told = COUNTED if judge == RULES else ASKED
                found = _rows(judged, treatments(cells), subset, (resampling, testing))
                rows += [{**common, **row} for row in found if row["outcome"] in told]
    corrected(rows, ("dataset", "model", "judge", "subset", "outcome", "arm", "budget"))
    write(output, ("dataset", *COLUMNS) if len(datasets) > 1 else COLUMNS, rows)


def _rows(
    judged: Sequence[Judged],
    arms: Sequence[tuple[str, int | None]],
    subset: str,
    resamplings: tuple[Resampling, Resampling],
) -> list[dict[str, Any]]:
    """Rows of one model, tier and class: per language, then the tier's mean.

    `resamplings` are those of intervals and of tests.
    """
    masks = [language.test.harmful == (subset == "harmful") for language in judged]
    present = [(language, mask) for language, mask in zip(judged, masks, strict=True) if mask.any()]
    if not present:
        return []
    panel = Panel.stack(
        [
            Part(language.language, np.array(language.test.ids)[mask].tolist(), language.test.harmful[mask])
            for language, mask in present
        ]
    )
    values = np.concatenate(
        [np.concatenate([language.outcomes[arm][:, mask] for arm in arms]) for language, mask in present], axis=1
    )
    unsteered = list(arms).index(UNSTEERED)
    before = [unsteered * len(COUNTED) + number % len(COUNTED) for number in range(len(values))]
    found = replicate("rate", values, panel, resamplings[0])
    changes = found.minus(found.pick(before))
    tested = found if resamplings[0] == resamplings[1] else replicate("rate", values, panel, resamplings[1])
    differences = tested.minus(tested.pick(before))
    counts = panel.counts()
    rows = []
    for column, name in enumerate([*panel.names, ""]):
        whole = name == ""
        source, change, test, at = (found, changes, differences, column)
        if whole:
            source, change, test, at = (*(one.over_languages() for one in (found, changes, differences)), 0)
        items = sum(panel.items(None if whole else column))
        n = int(counts.sum() if whole else counts[column])
        for method, (arm, budget, outcome) in enumerate((*arm, outcome) for arm in arms for outcome in COUNTED):
            what = {"language": name, "arm": arm, "budget": budget, "outcome": outcome, "n": n}
            what["reading"] = READINGS.get(outcome, "")
            here = share_interval(source, method, at, items)
            row = {**what, **interval(here)}
            if (arm, budget) != UNSTEERED and what["reading"]:
                base = share_interval(source, unsteered * len(COUNTED) + COUNTED.index(outcome), at, items)
                row |= changed(difference_interval(change, method, at, (here, base)), paired_p(test, method, at, items))
            rows.append(row)
    return rows
