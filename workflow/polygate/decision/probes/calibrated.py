"""What a probe's scores decide: thresholds by where they come from, and the metrics at each.

- `source`: the group's train rows (macro objective over its languages),
- `examples`: the target's 2b examples,
- `global`: one threshold for all languages of the target's tier, from the examples of all of them (macro objective),
- `oracle`: the target's test prompts: not a rule, but what the best threshold would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygate import kernels
from polygate.decision.calibration import Objective
from polygate.decision.probes import scoring
from polygate.decision.probes.estimates import Cell
from polygate.decision.probes.features import Group, Wide
from polygate.decision.probes.parallel import spread
from polygate.decision.probes.rows import Language, Setup


@dataclass(frozen=True)
class Scored:
    """Scores of one probe for one target: rows are its `setups`, or a single row that stands for all of them.

    `source` float64 [f, n] of the group's train rows (None without a group), `own` float64 [f, n_own] of the target's
    train rows, `test` float64 [f, m].
    """

    target: Language
    group: Group | None
    setups: list[Setup]
    source: Wide | None
    own: Wide
    test: Wide


def cells(scored: Sequence[Scored], objective: Objective) -> list[Cell]:
    """AUC, and F1 and balanced accuracy at each threshold, of a probe in all its languages."""
    shared = _global_thresholds(scored, objective)
    found = spread(_cells_of, [(one, shared, objective) for one in scored])
    return [cell for cells in found for cell in cells]


def _cells_of(one: Scored, shared: Mapping[tuple[str, Setup], float], objective: Objective) -> list[Cell]:
    harmful = one.target.test_harmful
    area = scoring.auc(one.test, harmful)
    cells = [Cell(one.target, one.setups, "auc", area.repeated(len(one.setups)))]
    for origin, thresholds in _thresholds(one, shared, objective).items():
        kept = np.flatnonzero(~np.isnan(thresholds))
        setups = [one.setups[i] for i in kept]
        test = one.test if len(one.test) == 1 else one.test[kept]
        flagged = test > thresholds[kept, None]
        cells += [
            Cell(one.target, setups, metric, found, origin, thresholds[kept])
            for metric, found in scoring.decisions(flagged, harmful).items()
        ]
    return cells


def _thresholds(one: Scored, shared: Mapping[tuple[str, Setup], float], objective: Objective) -> dict[str, Wide]:
    """Thresholds [setups] by where they come from; NaN where a setup has none."""
    count = len(one.setups)
    found: dict[str, Wide] = {}
    if one.source is not None and one.group is not None:
        found["source"] = sweep(one.source, one.group.harmful, one.group.languages, objective)
    examples = np.full(count, np.nan)
    for budget, setups in _by_budget(one.setups).items():
        if budget:
            at = [one.setups.index(setup) for setup in setups]
            examples[at] = sweep(_example_scores(one, setups), one.target.labels(budget), None, objective)
    found["examples"] = examples
    found["global"] = np.array([shared.get((one.target.tier, setup), np.nan) for setup in one.setups])
    found["oracle"] = sweep(one.test, one.target.test_harmful, None, objective)
    return {origin: np.broadcast_to(values, (count,)) for origin, values in found.items() if not np.isnan(values).all()}


def _global_thresholds(scored: Sequence[Scored], objective: Objective) -> dict[tuple[str, Setup], float]:
    """Thresholds by tier and setup, from the examples of every language of the tier that has the setup."""
    found: dict[tuple[str, Setup], float] = {}
    for tier in dict.fromkeys(one.target.tier for one in scored):
        members = [one for one in scored if one.target.tier == tier]
        budgets = {budget for one in members for budget, _ in one.setups if budget}
        for budget in sorted(budgets):
            having = [(one, setups) for one in members if (setups := _by_budget(one.setups).get(budget))]
            draws = min((setups for _, setups in having), key=len)
            scores = np.concatenate([_example_scores(one, draws) for one, _ in having], axis=1)
            labels = np.concatenate([one.target.labels(budget) for one, _ in having])
            groups = np.repeat(np.arange(len(having)), 2 * budget)
            found |= {
                (tier, setup): float(threshold)
                for setup, threshold in zip(draws, sweep(scores, labels, groups, objective), strict=True)
            }
    return found


def sweep(scores: Wide, labels: NDArray[np.bool_], groups: NDArray[np.int64] | None, objective: Objective) -> Wide:
    """Thresholds [f] at the first maximum of the objective, its mean over `groups` [n]; `scores` [f, n]."""
    found = kernels.sweep_threshold(np.ascontiguousarray(scores), labels, groups, objective, threads=1)
    return np.asarray(found.threshold, np.float64)


def _by_budget(setups: Sequence[Setup]) -> dict[int, list[Setup]]:
    found: dict[int, list[Setup]] = {}
    for setup in setups:
        found.setdefault(setup[0], []).append(setup)
    return found


def _example_scores(one: Scored, setups: Sequence[Setup]) -> Wide:
    """Scores of the examples of setups of one budget, float64 [setups, 2b]."""
    rows = np.stack([one.target.examples[setup] for setup in setups])
    if len(one.own) == 1:
        shared: Wide = one.own[0][rows]
        return shared
    at = [one.setups.index(setup) for setup in setups]
    found: Wide = np.take_along_axis(one.own[at], rows, axis=1)
    return found
