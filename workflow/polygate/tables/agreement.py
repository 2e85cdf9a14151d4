"""agreement.csv and corrected.csv: how far judges agree with one another and with people, and what people change.

agreement.csv has a row per language and tier (all its languages pooled; `model` is empty where all models are, too) and
per pair of raters, for each `measure`: the four cells of the confusion of refusals, `agreement`, Cohen's `kappa` and
`correlation`. `judge` is the first of a pair, `against` another judge or `people`. Items are the completions, of all
arms, about which both say something; `count` is how many of them a cell holds. A language that one of the two doesn't
judge has rows without numbers, `method` "not judged".

Where people were asked, each pair of judges has a measure more, `lead`: κ of `judge` with people less κ of `against`
with people, on the completions about which all three say something, paired by prompt. `p_holm` is corrected over the
pairs and languages of a model, over its tiers, and over the tiers of all models.

corrected.csv has, per arm and class, the share refused as the judge says of all completions (`raw`) and corrected by
people's labels of some of them (`estimate`); see `polygate.measurement.agreement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.judges.labels import Labels
from polygate.measurement.agreement import CELLS, Agreement, Rated, agreement, corrected, lead
from polygate.measurement.statistics import (
    Interval,
    Panel,
    Part,
    Resampling,
    replicate,
    resolving,
    share_interval,
)
from polygate.prompts.table import SUBSETS
from polygate.settings.types import TIERS, Statistics
from polygate.tables import writing
from polygate.tables.cells import Cell, read, test_rows
from polygate.tables.writing import interval, write

PEOPLE = "people"
NOT_JUDGED = "not judged"
MEASURES = (*CELLS, "agreement", "kappa", "correlation")
LEAD = "lead"
"""The paired difference of two judges' κ with people."""
COLUMNS = (
    "model",
    "tier",
    "language",
    "judge",
    "against",
    "measure",
    "estimate",
    "low",
    "high",
    "n",
    "count",
    "method",
    "p",
    "p_holm",
)
CORRECTED = (
    *("model", "tier", "language", "arm", "judge", "subset", "estimate", "low", "high", "n", "method"),
    *("labelled", "raw", "raw_low", "raw_high"),
)
Verdicts = dict[str, NDArray[np.float64]]
"""Per rater 1 for refused, 0 for all else, NaN where nothing is said, [n]."""


class _Items:
    """The completions of one model and language, arms below one another: ids, classes, arms, and every verdict."""

    def __init__(self, cells: Sequence[Cell], judges: Sequence[str], labels: Labels) -> None:
        ids: list[str] = []
        harmful: list[NDArray[np.bool_]] = []
        arms: list[str] = []
        said: dict[str, list[NDArray[np.float64]]] = {rater: [] for rater in (*judges, PEOPLE)}
        for arm in dict.fromkeys(cell.arm for cell in cells):
            tables = {cell.judge: read(cell, ["prompt_id", "subset", "outcome"]) for cell in cells if cell.arm == arm}
            test = test_rows(next(iter(tables.values())))
            for judge in judges:
                told = np.full(len(test.ids), np.nan)
                if judge in tables:
                    if test_rows(tables[judge]).ids != test.ids:
                        path = next(cell.path for cell in cells if (cell.arm, cell.judge) == (arm, judge))
                        raise PolygateError("other completions than another judge's", where=path, do="delete and rerun")
                    outcomes = np.array(tables[judge]["outcome"].to_pylist(), dtype=np.str_)
                    told = np.where(outcomes == "unparsed", np.nan, (outcomes == "refused").astype(np.float64))
                said[judge].append(told)
            key = cells[0].model, cells[0].language, arm
            said[PEOPLE].append(np.array([float(labels.get((*key, name), np.nan)) for name in test.ids]))
            ids += test.ids
            harmful.append(test.harmful)
            arms += [arm] * len(test.ids)
        self.ids, self.arms = np.array(ids, dtype=np.str_), np.array(arms, dtype=np.str_)
        self.harmful = np.concatenate(harmful)
        self.said: Verdicts = {rater: np.concatenate(parts) for rater, parts in said.items()}


def build(
    judgements: Sequence[Cell],
    labels: Labels,
    output: Path,
    corrections: Path,
    *,
    statistics: Statistics,
    seed: int,
    labelled: Path | None = None,
) -> None:
    """Write both tables from the judgements of every model, language, unrouted arm and judge, and people's labels.

    `labelled` is the labels' file. Raises `PolygateError` for a label of no completion.
    """
    resampling = Resampling.of(statistics, seed)
    judges = list(dict.fromkeys(cell.judge for cell in judgements))
    models = list(dict.fromkeys(cell.model for cell in judgements))
    tiers = {cell.language: cell.tier for cell in judgements}
    items = {
        (model, language): _Items(
            [cell for cell in judgements if (cell.model, cell.language) == (model, language)], judges, labels
        )
        for model in models
        for language in tiers
    }
    _all_known(labels, items, labelled)
    raters = [*judges, *([PEOPLE] if labels else [])]
    rows: list[dict[str, Any]] = []
    for pair in combinations(raters, 2):
        for place, found in _places(items, models, tiers):
            rows += [{**place, **row} for row in _pair(found, pair, resampling)]
    if labels:
        pairs = list(combinations(judges, 2))
        family = resolving(resampling, len(pairs) * len(tiers))
        leads = [
            {**place, **_lead(found, pair, family)} for pair in pairs for place, found in _places(items, models, tiers)
        ]
        writing.corrected(leads, ("model", "measure"))
        rows += leads
    order = {rater: number for number, rater in enumerate(raters)}
    rows.sort(key=lambda row: (order[row["judge"]], order[row["against"]]))
    write(output, COLUMNS, rows)
    write(corrections, CORRECTED, list(_corrections(items, models, tiers, judges, resampling)) if labels else [])


def _all_known(labels: Labels, items: Mapping[tuple[str, str], _Items], where: Path | None) -> None:
    there = {key: set(zip(found.arms.tolist(), found.ids.tolist(), strict=True)) for key, found in items.items()}
    unknown = [key for key in labels if (key[2], key[3]) not in there[key[0], key[1]]]
    if unknown:
        model, language, arm, name = unknown[0]
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise PolygateError(
            f"people label {name} ({model}, {language}, {arm}){more}, of which there is no completion",
            where=where,
            do="correct the file: prompt ids are those of the run's prompt tables, split test",
        )


def _places(
    items: Mapping[tuple[str, str], _Items], models: Sequence[str], tiers: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], list[_Items]]]:
    """What rows are of: each language and tier of each model, and each tier of all models."""
    for model in models:
        for tier in TIERS:
            names = [language for language, own in tiers.items() if own == tier]
            for name in names:
                yield {"model": model, "tier": tier, "language": name}, [items[model, name]]
            if names:
                yield {"model": model, "tier": tier, "language": ""}, [items[model, name] for name in names]
    for tier in TIERS:
        names = [language for language, own in tiers.items() if own == tier]
        if names:
            every = [items[model, name] for model in models for name in names]
            yield {"model": "", "tier": tier, "language": ""}, every


def _pair(found: Sequence[_Items], pair: tuple[str, str], resampling: Resampling) -> Iterator[dict[str, Any]]:
    first, second = (np.concatenate([one.said[rater] for one in found]) for rater in pair)
    ids = np.concatenate([one.ids for one in found])
    said = ~np.isnan(first) & ~np.isnan(second)
    named = {"judge": pair[0], "against": pair[1]}
    if not said.any():
        yield from ({**named, "measure": measure, "n": 0, "method": NOT_JUDGED} for measure in MEASURES)
        return
    told = agreement(first[said] == 1, second[said] == 1, ids[said].tolist(), resampling)
    yield from ({**named, "n": told.n, **row} for row in _measures(told))


def _lead(found: Sequence[_Items], pair: tuple[str, str], resampling: Resampling) -> dict[str, Any]:
    """The row that compares a pair of judges by what people say."""
    said = np.stack([np.concatenate([one.said[rater] for one in found]) for rater in (*pair, PEOPLE)])
    ids = np.concatenate([one.ids for one in found])
    kept = ~np.isnan(said).any(axis=0)
    row = {"judge": pair[0], "against": pair[1], "measure": LEAD, "n": int(kept.sum())}
    if not kept.any():
        return {**row, "method": NOT_JUDGED}
    first, second, people = said[:, kept] == 1
    apart, p = lead(first, second, people, ids[kept].tolist(), resampling)
    return {**row, **_numbers(apart), "p": p}


def _measures(told: Agreement) -> Iterator[dict[str, Any]]:
    for name, share, count in zip(CELLS, told.confusion, told.counts, strict=True):
        yield {"measure": name, "count": count, **interval(share)}
    for name in ("agreement", "kappa", "correlation"):
        yield {"measure": name, **_numbers(getattr(told, name))}


def _numbers(found: Interval) -> dict[str, Any]:
    """An interval as its columns, empty where there is no number."""
    return {key: None if value != value else value for key, value in interval(found).items()}


def _corrections(
    items: Mapping[tuple[str, str], _Items],
    models: Sequence[str],
    tiers: Mapping[str, str],
    judges: Sequence[str],
    resampling: Resampling,
) -> Iterator[dict[str, Any]]:
    """Rows of corrected.csv: of a tier where every language that the judge judges has labels enough."""
    arms = list(dict.fromkeys(arm for one in items.values() for arm in one.arms.tolist()))
    places = [(place, found) for place, found in _places(items, models, tiers) if place["model"]]
    for judge, (place, found), arm, subset in product(judges, places, arms, SUBSETS):
        rated = [_rated(one, judge, arm, subset == "harmful") for one in found]
        rated = [one for one in rated if len(one.ids)]
        fixed = corrected(rated, resampling.confidence)
        if fixed is not None:
            raw = _raw(rated, resampling)
            yield {
                **place,
                **{"arm": arm, "judge": judge, "subset": subset, **interval(fixed)},
                "n": sum(len(one.ids) for one in rated),
                "labelled": sum(one.labelled for one in rated),
                **{"raw": raw.estimate, "raw_low": raw.low, "raw_high": raw.high},
            }


def _raw(rated: Sequence[Rated], resampling: Resampling) -> Interval:
    """The share that the judge says, as refusal.csv has it."""
    panel = Panel.stack([Part(str(i), one.ids, np.zeros(len(one.ids), bool)) for i, one in enumerate(rated)])
    says = np.concatenate([one.judge for one in rated])[None].astype(np.float64)
    found = replicate("rate", says, panel, resampling).over_languages()
    return share_interval(found, 0, 0, len(np.unique(panel.clusters)))


def _rated(items: _Items, judge: str, arm: str, harmful: bool) -> Rated:
    """Completions of one arm and class about which the judge says something."""
    keep = (items.arms == arm) & (items.harmful == harmful) & ~np.isnan(items.said[judge])
    return Rated(items.ids[keep].tolist(), items.said[judge][keep] == 1, items.said[PEOPLE][keep])
