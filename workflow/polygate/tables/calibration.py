"""calibration.csv: what every rule of calibration misses and flags falsely, beside what it promises and the surface's.

One row per model, language (or tier), rule, `alpha`, budget and metric ("miss": harmful test prompts that are not
flagged; "false_flags": harmless ones that are), the mean over draws. `budget` is the number of examples per class that
a draw holds: a rule sees those that `sees` names, without labels all of both classes. `promised` is the bound that
holds by `promise` ("on average", or with a probability over draws), `floor` the lowest that could be promised. Where
that is above `alpha` there is no estimate, and `promise` says so. `within` is the share of draws whose rate is at most
`alpha`. `kept` compares the estimate with a promise on average: "broken" where p (Holm, over all promises of a model)
is below the level, "kept" where the interval lies below it, else "can't tell".

Intervals are two-way: the variance over prompt ids (bootstrap) plus that over examples make an effective number of
prompts, for which they are Wilson's. Draws share a pool of train prompts, so the variance over examples is more than
the spread between draws: see `two_way`. The rows of a high-resource
language are its own left out: it is never among its sources. `surface` is the same rule on the surface
of the prompts alone, with its interval; `semantic` on a small encoder's embeddings, empty where the run has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

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
    holm,
    replicate,
)
from polygate.prompts import table as prompt_table
from polygate.prompts.table import SUBSETS
from polygate.settings.types import TIERS, Calibration, Statistics
from polygate.tables.cells import SEMANTIC, Cell
from polygate.tables.writing import interval, write

COLUMNS = (
    *("model", "tier", "language", "rule", "alpha", "budget", "metric", "estimate", "low", "high", "n", "method"),
    *("draws", "sd", "within", "promised", "floor", "promise", "kept", "p_holm", "sees", "assumes"),
    *("surface", "surface_low", "surface_high", "semantic", "semantic_low", "semantic_high"),
)
CONTROLS = ("surface", SEMANTIC)
"""Scorers that stand beside the gate, each in columns of its own."""
METRICS = ("miss", "false_flags")
ON_AVERAGE = "on average"

Key = tuple[str, float | None, int]
"""Rule, α and budget."""


@dataclass(frozen=True)
class Decided:
    """One language: its test prompts `part` [m], decisions bool [draws, m] by rule, α and budget.

    `pool`: the (harmful, harmless) train prompts that examples are drawn from.
    """

    tier: str
    part: Part
    pool: tuple[int, int]
    decisions: Mapping[Key, NDArray[np.bool_]]

    def wrong(self, key: Key, metric: str) -> NDArray[np.float64]:
        """1 where a decision on a prompt of the metric's class is the wrong one, float64 [draws, class]."""
        of_class = self.decisions[key][:, self.part.harmful == (metric == "miss")]
        return np.asarray(~of_class if metric == "miss" else of_class, np.float64)

    def over_examples(self, key: Key, draws: NDArray[np.float64]) -> float:
        """Variance over pools of examples, beyond that between the `draws` [draws] that share this one.

        That of the delete-d jackknife (Shao and Wu 1989): draws of b from N vary by (N − b)/N of what draws of their
        own pools would, so b/(N − b) times their variance is missing.
        """
        if len(draws) < 2:
            return 0.0
        rule, _, budget = key
        pools = {"harmful": self.pool[0], "harmless": self.pool[1]}
        pool = pools.get(RULES[rule].sees, min(self.pool))
        return float(np.var(draws, ddof=1)) * budget / (pool - budget)


def build(
    decisions: Sequence[Cell],
    prompts: Sequence[Cell],
    output: Path,
    *,
    settings: Calibration,
    statistics: Statistics,
    seed: int,
    semantics: Sequence[Cell] = (),
    on_val: bool = False,
) -> None:
    """Write the table from the decisions of every model and the prompt tables of every language.

    `semantics`: with an encoder, the one cell of its decisions, which stand beside those of every model. `on_val`: the
    paper's rule takes its thresholds from all of val, as the gates do.
    """
    resampling = Resampling.of(statistics, seed)
    tested = {cell.language: prompt_table.read(cell.path, language=cell.language) for cell in prompts}
    shared = {name: _estimates(of, resampling) for cell in semantics for name, of in _decided(cell, tested).items()}
    rows: list[dict[str, Any]] = []
    for cell in decisions:
        found = {**shared, **{name: _estimates(of, resampling) for name, of in _decided(cell, tested).items()}}
        beside = {name: found[name] for name in CONTROLS if name in found}
        mine = [
            ({"model": cell.model, **_row(place, estimate, settings, on_val), **_beside(place, beside)}, estimate)
            for place, estimate in found.get("gate", {}).items()
        ]
        rows += _judged(mine, statistics.confidence)
    write(output, COLUMNS, rows)


def _decided(cell: Cell, tested: Mapping[str, prompt_table.PromptTable]) -> dict[str, list[Decided]]:
    """Languages by scorer."""
    table = files.read_parquet(cell.path)
    grouped: dict[tuple[str, str, str], dict[Key, list[list[bool]]]] = {}
    prints = {language: prompts.fingerprint() for language, prompts in tested.items()}
    with files.understood(cell.path, "decisions of rules of calibration"):
        for row in table.to_pylist():
            if row["prompts"] != prints[row["language"]]:
                raise PolygateError(f"is of other prompts of {row['language']}", where=cell.path, do=REDO)
            language = grouped.setdefault((row["scorer"], row["tier"], row["language"]), {})
            draws = language.setdefault((row["rule"], row["alpha"], row["budget"]), [])
            draws += [] if row["draw"] is None else [row["flagged"]]
    found: dict[str, list[Decided]] = {}
    for (scorer, tier, name), by_key in grouped.items():
        prompts = tested[name]
        test = prompts.select("test")
        part = Part(name, [prompts.ids[row] for row in test.tolist()], prompts.harmful[test])
        shaped = {key: np.array(draws, bool).reshape(len(draws), len(test)) for key, draws in by_key.items()}
        harmful, harmless = (len(prompts.select("train", subset)) for subset in SUBSETS)
        found.setdefault(scorer, []).append(Decided(tier, part, (harmful, harmless), shaped))
    return found


Place = tuple[str, str, str, float | None, int, str]
"""Tier, language ("" for the tier's mean), rule, α, budget and metric."""


@dataclass(frozen=True)
class Estimate:
    """A rate with its interval (None where none can be promised), its prompts, its rates by draw [draws, languages].

    `effective`: the number of prompts that it is as sure as.
    """

    found: Interval | None
    n: int
    draws: NDArray[np.float64]
    effective: float = 0.0


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
        pools = [language.over_examples(key, draws[:, column]) for column, language in enumerate(languages)]
        for column, language in enumerate(languages):
            sure = effective(rates, method, column, items[column], draws[:, column], pools[column])
            one = two_way(float(rates.estimate[method, column]), sure, resampling.confidence)
            place = (tier, language.part.language, *key, metric)
            found[place] = Estimate(one, int(counts[column]), draws[:, [column]], sure)
        # The pools of languages hold the same prompts, so they may err together.
        together = float(np.mean(np.sqrt(pools))) ** 2
        sure = effective(over, method, 0, min(items), draws.mean(axis=1), together)
        one = two_way(float(over.estimate[method, 0]), sure, resampling.confidence)
        found[(tier, "", *key, metric)] = Estimate(one, int(counts.sum()), draws, sure)
    return found


def effective(
    rates: Replicates, method: int, column: int, items: int, draws: NDArray[np.float64], pool: float
) -> float:
    """Number of independent prompts that a mean over prompts and draws, of rates by draw [draws], is as sure as.

    p(1 − p) / variance; the variance is the bootstrap's over prompts, times n/(n − 1) for n `items`, plus that between
    draws divided by their number, plus that over the `pool` that they are from (`Decided.over_examples`). What prompts
    and draws do together is counted in both, so it is never too small. `items` themselves where nothing varies.
    """
    estimate = float(rates.estimate[method, column])
    n = max(items, 2)
    variance = float(np.var(rates.values[:, method, column], ddof=1)) * n / (n - 1) + pool
    if len(draws) > 1:
        variance += float(np.var(draws, ddof=1)) / len(draws)
    return items if at_edge(estimate) or variance < SAME**2 else estimate * (1 - estimate) / variance


def two_way(estimate: float, prompts: float, confidence: float) -> Interval:
    """Wilson's interval of a rate for an effective number of prompts."""
    low, high = kernels.wilson(min(max(estimate, 0.0), 1.0) * prompts, prompts, confidence)
    return Interval(estimate, float(low), float(high), "wilson" if at_edge(estimate) else "two-way")


def _beside(place: Place, controls: Mapping[str, Mapping[Place, Estimate]]) -> dict[str, Any]:
    """What the same rule does on each control, where it has a rate."""
    row: dict[str, Any] = {}
    for name, estimates in controls.items():
        found = estimates[place].found if place in estimates else None
        if found is not None:
            row |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def _row(place: Place, estimate: Estimate, settings: Calibration, on_val: bool) -> dict[str, Any]:
    """The row of one place."""
    tier, language, name, alpha, budget, metric = place
    rule, draws = RULES[name], estimate.draws
    row: dict[str, Any] = {"tier": tier, "language": language, "rule": name, "alpha": alpha, "budget": budget}
    sees = f"{rule.sees}, and all of val" if on_val and name == "paper" and budget else rule.sees
    row |= {"metric": metric, "n": estimate.n, "sees": sees, "assumes": rule.assumes}
    if rule.bounds == metric and alpha is not None:
        row |= promise(name, alpha, budget, settings.delta)
    if estimate.found is not None:
        single = draws.mean(axis=1)
        row |= {**interval(estimate.found), "draws": len(draws)}
        row["sd"] = float(np.std(single, ddof=1)) if len(single) > 1 else None
        if rule.bounds == metric and alpha is not None:
            row["within"] = float((draws <= alpha + SAME).mean())
    return row


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


def _judged(found: Sequence[tuple[dict[str, Any], Estimate]], confidence: float) -> list[dict[str, Any]]:
    """Rows of one model with `kept` and `p_holm` where a promise on average is put to the test, per language."""
    tested = [pair for pair in found if pair[0]["language"] and pair[0].get("promise") == ON_AVERAGE]
    p_values = [broken_p(row["estimate"], row["promised"], estimate.effective) for row, estimate in tested]
    for (row, _), p in zip(tested, holm(p_values), strict=True):
        kept = "kept" if row["high"] <= row["promised"] else "can't tell"
        row |= {"p_holm": p, "kept": "broken" if p < 1 - confidence else kept}
    return [row for row, _ in found]


def broken_p(estimate: float, promised: float, prompts: float) -> float:
    """One-sided p of "the rate is at most what is promised", by the score test that Wilson's interval inverts."""
    return float(ndtr((promised - estimate) / np.sqrt(promised * (1 - promised) / prompts)))
