"""OMNIGuard (Verma et al. 2025, arXiv 2505.23856): a small network on the mean over a prompt's tokens.

It reads the layer of the best U-Score (`representation.uscore`) and learns from the high- and mid-resource languages
without the target. Three ways of giving it the target's b + b examples:

- `omniguard`: not at all, they set its threshold alone;
- `omniguard_budgeted`: they join the rows that it is trained on, from the start;
- `omniguard_fine_tuned`: `omniguard` trained on by them alone, 20 epochs at half the rate.

Every network starts from several seeds, and estimates are means over draws and seeds; thresholds as in
`calibrated`. The layer is one for all targets, so that a high-resource target's train prompts took part in choosing it,
their labels too: U-Scores are those within a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from polygate.decision.calibration import Objective
from polygate.decision.probes.calibrated import Scored, cells
from polygate.decision.probes.estimates import Collector, Probe
from polygate.decision.probes.features import Group
from polygate.decision.probes.networks import Networks, Rows, Schedule, train, tune
from polygate.decision.probes.rows import Language, Setup
from polygate.settings.types import Omniguard

SOURCES = "high+mid"
TRAINING, TUNING = Schedule(40, 1e-4), Schedule(20, 5e-5)
FULL, BUDGETED, FINE_TUNED = "omniguard", "omniguard_budgeted", "omniguard_fine_tuned"


def compare(
    languages: Sequence[Language],
    settings: Omniguard,
    objective: Objective,
    seed: int,
    device: torch.device | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Estimates by fit and their means (`estimates.DRAWS`, `estimates.MEANS`); a draw is one of a draw and a seed.

    `languages` hold means over tokens at the layer to be read. Empty where high- or mid-resource languages, which are
    learnt from, are lacking.
    """
    collected, at = Collector(), device or torch.device("cpu")
    found: dict[str, list[Scored]] = {}
    trained: dict[tuple[str, ...], Networks] = {}
    for target in languages:
        group = sources(languages, target)
        if group is None or not target.tested:
            continue
        guard = _Guard(_with_seeds(target, settings), group, languages, settings, seed, at)
        if group.names not in trained:
            trained[group.names] = guard.full()
        for name, scored in guard.scored(trained[group.names]):
            found.setdefault(name, []).append(scored)
    for name, each in found.items():
        collected.add(Probe(name, SOURCES), cells(each, objective))
    return collected.tables()


def sources(languages: Sequence[Language], target: Language) -> Group | None:
    """The high- and mid-resource languages without the target; None unless there are both."""
    chosen = [other for other in languages if other.tier in ("high", "mid") and other.name != target.name]
    return Group.of(chosen) if {other.tier for other in chosen} == {"high", "mid"} else None


def _with_seeds(target: Language, settings: Omniguard) -> Language:
    """The target with as many of its draws as are asked for, each once per seed: number draw · seeds + seed."""
    examples = {
        (budget, draw * settings.seeds + number): rows
        for (budget, draw), rows in target.examples.items()
        if draw < settings.draws
        for number in range(settings.seeds)
    }
    return replace(target, examples=examples)


class _Guard:
    """The networks of one target: what they learn from, and what they score."""

    def __init__(
        self,
        target: Language,
        group: Group,
        languages: Sequence[Language],
        settings: Omniguard,
        seed: int,
        device: torch.device,
    ) -> None:
        self.target, self.group, self.settings, self.seed = target, group, settings, seed
        by_name = {language.name: language for language in languages}
        self.source = np.concatenate([by_name[name].train for name in group.names])
        self.rows = Rows.of(
            np.concatenate([self.source, target.train]), np.concatenate([group.harmful, target.harmful]), device
        )
        self.test = target.test()

    def full(self) -> Networks:
        """One network per seed, on the sources' rows."""
        count = self.settings.seeds
        members = np.tile(np.arange(len(self.source)), (count, 1))
        return train(self.rows, members, self.settings.hidden, [[self.seed, n] for n in range(count)], TRAINING)

    def scored(self, full: Networks) -> Iterator[tuple[str, Scored]]:
        """Every variant's name and scores."""
        count = self.settings.seeds
        setups = [*((0, number) for number in range(count)), *self.target.examples]
        yield FULL, self._scored(setups, self._scores(full, [draw % count for _, draw in setups]))
        given = _by_budget(self.target.examples)
        if not given:
            return
        budgeted, tuned = [], []
        for budget, own in given.items():
            rows = len(self.source) + np.stack([self.target.examples[setup] for setup in own])
            seeds = [[self.seed, draw % count, budget, draw // count, self._number] for _, draw in own]
            everything = np.concatenate([np.tile(np.arange(len(self.source)), (len(own), 1)), rows], axis=1)
            budgeted.append(self._scores(train(self.rows, everything, self.settings.hidden, seeds, TRAINING)))
            start = full.pick([draw % count for _, draw in own])
            tuned.append(self._scores(tune(start, self.rows, rows, seeds, TUNING)))
        for name, parts in ((BUDGETED, budgeted), (FINE_TUNED, tuned)):
            whole = [np.concatenate(same) for same in zip(*parts, strict=True)]
            yield name, self._scored([setup for own in given.values() for setup in own], whole)

    @property
    def _number(self) -> int:
        return crc32(self.target.name.encode())

    def _scores(self, networks: Networks, which: Sequence[int] | None = None) -> list[NDArray[np.float64]]:
        """Scores of the sources' rows, the target's train rows and its test rows, by network, or by `which` of them."""
        found = [networks.scores(part) for part in (self.source, self.target.train, self.test)]
        return found if which is None else [part[list(which)] for part in found]

    def _scored(self, setups: list[Setup], scores: Sequence[NDArray[np.float64]]) -> Scored:
        return Scored(self.target, self.group, setups, *scores)


def _by_budget(setups: Iterable[Setup]) -> Mapping[int, list[Setup]]:
    found: dict[int, list[Setup]] = {}
    for setup in setups:
        found.setdefault(setup[0], []).append(setup)
    return found
