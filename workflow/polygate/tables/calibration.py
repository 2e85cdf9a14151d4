"""calibration.csv: what every rule of calibration misses and flags falsely, beside what it promises and the surface's.

One row per model, language (or tier), rule, `alpha`, budget and metric ("miss": harmful test prompts that are not
flagged; "false_flags": harmless ones that are), the mean over draws. `budget` is the number of examples per class that
a draw holds: a rule sees those that `sees` names, without labels all of both classes. `promised` is the bound that
holds by `promise` ("on average", or with a probability over draws), `floor` the lowest that could be promised. Where
that is above `alpha` there is no estimate, and `promise` says so. `within` is the share of draws whose rate is at most
`alpha`. `kept` compares the estimate with a promise on average: "broken" where p (Holm, over all promises of a model)
is below the level, "kept" where the interval lies below it, else "can't tell".

Intervals are two-way: the bootstrap's variance over prompt ids plus that between draws, on the logit scale. The rows of
a high-resource language are its own left out: it is never among its sources. `surface` is the same rule on the surface
of the prompts alone, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from polygate import files, kernels
from polygate.decision import conformal
from polygate.decision.guarantees import RULES
from polygate.digests import REDO
from polygate.errors import PolygateError
from polygate.measurement.statistics import (
    SAME,
    Interval,
    Panel,
    Part,
    Replicates,
    Resampling,
    at_edge,
    few,
    holm,
    logit_ends,
    replicate,
)
from polygate.prompts import table as prompt_table
from polygate.settings.types import TIERS, Calibration, Statistics
from polygate.tables.cells import Cell
from polygate.tables.writing import interval, told, write

COLUMNS = (
    *("model", "tier", "language", "rule", "alpha", "budget", "metric", "estimate", "low", "high", "n", "method"),
    *("draws", "sd", "within", "promised", "floor", "promise", "kept", "p_holm", "sees", "assumes"),
    *("surface", "surface_low", "surface_high"),
)
METRICS = ("miss", "false_flags")
ON_AVERAGE = "on average"

Key = tuple[str, float | None, int]
"""Rule, α and budget."""


@dataclass(frozen=True)
class Decided:
    """One language: test `ids` [m], `harmful` bool [m], and decisions bool [draws, m] by rule, α and budget."""

    tier: str
    part: Part
    decisions: Mapping[Key, NDArray[np.bool_]]

    def wrong(self, key: Key, metric: str) -> NDArray[np.float64]:
        """1 where a decision on a prompt of the metric's class is the wrong one, float64 [draws, class]."""
        of_class = self.decisions[key][:, self.part.harmful == (metric == "miss")]
        return np.asarray(~of_class if metric == "miss" else of_class, np.float64)


def build(
    decisions: Sequence[Cell],
    prompts: Sequence[Cell],
    output: Path,
    *,
    settings: Calibration,
    statistics: Statistics,
    seed: int,
) -> None:
    """Write the table from the decisions of every model and the prompt tables of every language."""
    resampling = Resampling.of(statistics, seed)
    tested = {cell.language: prompt_table.read(cell.path, language=cell.language) for cell in prompts}
    rows: list[dict[str, Any]] = []
    for cell in decisions:
        found = _decided(cell, tested)
        surface = _estimates(found["surface"], resampling)
        estimates = _estimates(found["gate"], resampling)
        mine = [
            {"model": cell.model, **row}
            for place, estimate in estimates.items()
            for row in _rows(place, estimate, surface.get(place), settings)
        ]
        rows += _judged(mine, statistics.confidence)
    write(output, COLUMNS, rows)


def _decided(cell: Cell, tested: Mapping[str, prompt_table.PromptTable]) -> dict[str, list[Decided]]:
    """Languages by scorer."""
    table = files.read_parquet(cell.path)
    grouped: dict[tuple[str, str, str], dict[Key, list[list[bool]]]] = {}
    with files.understood(cell.path, "decisions of rules of calibration"):
        for row in table.to_pylist():
            prompts = tested[row["language"]]
            if row["prompts"] != prompts.fingerprint():
                raise PolygateError(f"is of other prompts of {row['language']}", where=cell.path, do=REDO)
            language = grouped.setdefault((row["scorer"], row["tier"], row["language"]), {})
            draws = language.setdefault((row["rule"], row["alpha"], row["budget"]), [])
            draws += [] if row["draw"] is None else [row["flagged"]]
    found: dict[str, list[Decided]] = {"gate": [], "surface": []}
    for (scorer, tier, name), by_key in grouped.items():
        prompts = tested[name]
        test = prompts.select("test")
        part = Part(name, [prompts.ids[row] for row in test.tolist()], prompts.harmful[test])
        shaped = {key: np.array(draws, bool).reshape(len(draws), len(test)) for key, draws in by_key.items()}
        found[scorer].append(Decided(tier, part, shaped))
    return found


Place = tuple[str, str, str, float | None, int, str]
"""Tier, language ("" for the tier's mean), rule, α, budget and metric."""


@dataclass(frozen=True)
class Estimate:
    """A rate with its interval (None where none can be promised), its prompts, its rates by draw [draws, languages]."""

    found: Interval | None
    n: int
    draws: NDArray[np.float64]


def _estimates(languages: Sequence[Decided], resampling: Resampling) -> dict[Place, Estimate]:
    """Rates of every language, then of its tier: means over the languages that have a rule."""
    found: dict[Place, Estimate] = {}
    for tier in TIERS:
        here = [language for language in languages if language.tier == tier]
        having: dict[tuple[int, ...], list[Key]] = {}
        for key in dict.fromkeys(key for language in here for key in language.decisions):
            members = tuple(i for i, language in enumerate(here) if key in language.decisions)
            having.setdefault(members, []).append(key)
        for members, keys in having.items():
            for metric in METRICS:
                found |= _of_tier(tier, [here[i] for i in members], keys, metric, resampling)
    return found


def _of_tier(
    tier: str, languages: Sequence[Decided], keys: Sequence[Key], metric: str, resampling: Resampling
) -> dict[Place, Estimate]:
    panel = Panel.stack([language.part for language in languages])
    of_class = panel.harmful == (metric == "miss")
    panel = panel.only(of_class)
    counts, side = panel.counts(), 0 if metric == "miss" else 1
    items = [panel.items(column)[side] for column in range(len(languages))]
    empty = [key for key in keys if not len(languages[0].decisions[key])]
    found: dict[Place, Estimate] = {}
    for key in empty:
        nothing = np.empty((0, len(languages)))
        if RULES[key[0]].bounds == metric:
            for language, n in zip(languages, counts.tolist(), strict=True):
                found[(tier, language.part.language, *key, metric)] = Estimate(None, n, nothing)
            found[(tier, "", *key, metric)] = Estimate(None, int(counts.sum()), nothing)
    able = [key for key in keys if key not in empty]
    if not able:
        return found
    wrong = {key: [language.wrong(key, metric) for language in languages] for key in able}
    values = np.stack([np.concatenate([one.mean(axis=0) for one in wrong[key]]) for key in able])
    rates = replicate("rate", values, panel, resampling)
    over = rates.over_languages()
    for method, key in enumerate(able):
        draws = np.stack([one.mean(axis=1) for one in wrong[key]], axis=1)
        for column, language in enumerate(languages):
            one = two_way(rates, method, column, items[column], draws[:, column])
            found[(tier, language.part.language, *key, metric)] = Estimate(one, int(counts[column]), draws[:, [column]])
        one = two_way(over, method, 0, min(items), draws.mean(axis=1))
        found[(tier, "", *key, metric)] = Estimate(one, int(counts.sum()), draws)
    return found


def two_way(rates: Replicates, method: int, column: int, items: int, draws: NDArray[np.float64]) -> Interval:
    """Interval of a mean over prompts and draws, of rates by draw [draws]: both sources of chance, on the logit scale.

    The variance is the bootstrap's over prompts, times n/(n − 1) for n `items`, plus that between draws divided by
    their number. What prompts and draws do together is counted in both, so it is never too small. At 0 and 1 Wilson's
    for the prompts.
    """
    estimate = float(rates.estimate[method, column])
    if at_edge(estimate):
        low, high = kernels.wilson(round(estimate) * items, items, rates.confidence)
        return Interval(estimate, float(low), float(high), "wilson")
    n = max(items, 2)
    variance = float(np.var(rates.values[:, method, column], ddof=1)) * n / (n - 1)
    if len(draws) > 1:
        variance += float(np.var(draws, ddof=1)) / len(draws)
    if variance < SAME**2:
        return few(estimate, items, rates.confidence)
    low, high = logit_ends(estimate, float(ndtri((1 + rates.confidence) / 2)) * np.sqrt(variance))
    return Interval(estimate, low, high, "two-way")


def _rows(place: Place, estimate: Estimate, surface: Estimate | None, settings: Calibration) -> list[dict[str, Any]]:
    """The row of one place."""
    tier, language, name, alpha, budget, metric = place
    rule, draws = RULES[name], estimate.draws
    row: dict[str, Any] = {"tier": tier, "language": language, "rule": name, "alpha": alpha, "budget": budget}
    row |= {"metric": metric, "n": estimate.n, "sees": rule.sees, "assumes": rule.assumes}
    if rule.bounds == metric and alpha is not None:
        row |= promise(name, alpha, budget, settings.delta)
    if estimate.found is not None:
        single = draws.mean(axis=1)
        row |= {**interval(estimate.found), "draws": len(draws)}
        row["sd"] = float(np.std(single, ddof=1)) if len(single) > 1 else None
        if rule.bounds == metric and alpha is not None:
            row["within"] = float((draws <= alpha + SAME).mean())
    if surface is not None and surface.found is not None:
        beside = surface.found
        row |= {"surface": beside.estimate, "surface_low": beside.low, "surface_high": beside.high}
    return [row]


def promise(rule: str, alpha: float, budget: int, delta: float) -> dict[str, Any]:
    """The columns `promised`, `floor` and `promise` of a rule that bounds a rate."""
    if not RULES[rule].bounds:
        return {}
    sure = rule.startswith("pac_")
    rank = conformal.pac_rank(budget, alpha, delta) if sure else conformal.conformal_rank(budget, alpha)
    floor = conformal.pac_floor(budget, delta) if sure else conformal.conformal_floor(budget)
    if not rank:
        word = f"can't be promised with {budget} example{'' if budget == 1 else 's'}"
        return {"floor": floor, "promise": word}
    if sure:
        return {"promised": alpha, "floor": floor, "promise": f"with probability {1 - delta:g}"}
    return {"promised": rank / (budget + 1), "floor": floor, "promise": ON_AVERAGE}


def _judged(rows: list[dict[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """Rows of one model with `kept` and `p_holm` where a promise on average is put to the test, per language."""
    tested = [row for row in rows if row["language"] and row.get("promise") == ON_AVERAGE]
    quantile = float(ndtri((1 + confidence) / 2))
    p_values = [_p(row, quantile) for row in tested]
    for row, p in zip(tested, holm(p_values), strict=True):
        broken = p < 1 - confidence
        kept = "kept" if row["high"] <= row["promised"] else "can't tell"
        row |= {"p_holm": told(p), "kept": "broken" if broken else kept}
    return rows


def _p(row: Mapping[str, Any], quantile: float) -> float:
    """One-sided p of "the rate is at most what is promised", normal on the logit scale as the interval is."""
    promised, estimate, low = row["promised"], row["estimate"], row["low"]
    if estimate <= promised:
        return 1.0
    if low <= 0 or estimate >= 1:
        return 0.0 if low > promised else 1.0
    place = [np.log(x / (1 - x)) for x in (promised, estimate, low)]
    return float(ndtr(-(place[1] - place[0]) / max((place[1] - place[2]) / quantile, SAME)))
