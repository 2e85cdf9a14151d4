"""OMNIGuard (Verma et al. 2025, arXiv 2505.23856): a small network on the mean over a prompt's tokens.

It reads the layer of the best U-Score (`representation.uscore`) and learns from the high- and mid-resource languages
without the target. Three ways of giving it the target's b + b examples:

- `omniguard`: not at all, they set its threshold alone;
- `omniguard_budgeted`: they join the rows that it is trained on, from the start;
- `omniguard_fine_tuned`: `omniguard` trained on by them alone, 20 epochs at half the rate.

Every network starts from several seeds, and estimates are means over draws and seeds; thresholds as in
`calibrated`. The layer is one for all targets, so that a high-resource target's train prompts took part in choosing it,
their labels too: U-Scores are those within a class. The schedule is the published one, in steps of 256 rows: with few
train prompts the networks take few steps, and end short of what they could learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from polygate.decision.calibration import Objective
from polygate.decision.probes.calibrated import Scored, cells
from polygate.decision.probes.estimates import Collector, Probe
from polygate.decision.probes.features import Group
from polygate.decision.probes.networks import (
    Networks,
    Rows,
    Schedule,
    enough_threads,
    joined,
    side_by_side,
    train,
    tune,
)
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
    collected = Collector()
    with enough_threads([languages[0].train.shape[1], *settings.hidden]):
        found = Guards(languages, settings, seed, device or torch.device("cpu")).scored()
    for name, scored in found.items():
        collected.add(Probe(name, SOURCES), cells(scored, objective))
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


@dataclass(frozen=True)
class _Job:
    """A network of a target and setup: the rows of the pool that it learns from, and its stream of random numbers."""

    target: Language
    group: Group
    setup: Setup
    rows: NDArray[np.int64]
    seed: tuple[int, ...]


Parts = tuple[NDArray[np.float64], ...]
"""Scores of the sources' rows, the target's train rows and its test rows, by network."""


class Guards:
    """The networks of all targets, on one pool of the train rows of all languages."""

    def __init__(self, languages: Sequence[Language], settings: Omniguard, seed: int, device: torch.device) -> None:
        self.settings, self.seed = settings, seed
        ends = np.cumsum([0, *(len(language.train) for language in languages)])
        self.place = {one.name: np.arange(ends[n], ends[n + 1]) for n, one in enumerate(languages)}
        self.pool = Rows.of(
            np.concatenate([language.train for language in languages]),
            np.concatenate([language.harmful for language in languages]),
            device,
        )
        found = [(target, sources(languages, target)) for target in languages if target.tested]
        self.targets = [(_with_seeds(target, settings), group) for target, group in found if group is not None]
        self.full = self._full()

    def scored(self) -> dict[str, list[Scored]]:
        """Every variant's scores by target; the variants that learn from examples where there are any."""
        found = {FULL: [self._unchanged(*pair) for pair in self.targets]}
        tuned = [self._job(*pair, setup, whole=False) for pair in self.targets for setup in pair[0].examples]
        budgeted = [self._job(*pair, setup, whole=True) for pair in self.targets for setup in pair[0].examples]
        found[BUDGETED] = self._each(budgeted, lambda jobs: self._train(jobs, TRAINING))
        found[FINE_TUNED] = self._each(tuned, self._tune)
        return {name: scored for name, scored in found.items() if scored}

    def _full(self) -> dict[tuple[tuple[str, ...], int], Networks]:
        """One network per group of sources and seed, on the sources' rows."""
        groups = {group.names: (target, group) for target, group in self.targets}
        jobs = [
            _Job(*pair, (0, number), self._sources(pair[1]), (self.seed, number))
            for pair in groups.values()
            for number in range(self.settings.seeds)
        ]
        found = {}
        for places in side_by_side([job.rows for job in jobs]):
            networks = self._train([jobs[place] for place in places], TRAINING)
            for at, place in enumerate(places):
                found[jobs[place].group.names, jobs[place].setup[1]] = networks.pick([at])
        return found

    def _unchanged(self, target: Language, group: Group) -> Scored:
        """The networks that have seen no example; every setup has that of its seed."""
        count = self.settings.seeds
        setups = [*((0, number) for number in range(count)), *target.examples]
        each = [self._parts(self.full[group.names, number], target, group) for number in range(count)]
        which = [draw % count for _, draw in setups]
        return Scored(target, group, setups, *(np.concatenate(part)[which] for part in zip(*each, strict=True)))

    def _each(self, jobs: Sequence[_Job], made: Callable[[Sequence[_Job]], Networks]) -> list[Scored]:
        """Scores of a network per job; each is scored and forgotten as soon as it is made."""
        found: dict[tuple[str, Setup], Parts] = {}
        for places in side_by_side([job.rows for job in jobs]):
            networks = made([jobs[place] for place in places])
            for at, place in enumerate(places):
                job = jobs[place]
                found[job.target.name, job.setup] = self._parts(networks.pick([at]), job.target, job.group)
        scored = []
        for target, group in self.targets:
            setups = list(target.examples)
            if setups:
                parts = zip(*(found[target.name, setup] for setup in setups), strict=True)
                scored.append(Scored(target, group, setups, *(np.concatenate(part) for part in parts)))
        return scored

    def _job(self, target: Language, group: Group, setup: Setup, *, whole: bool) -> _Job:
        """On the examples of a setup, after the sources' rows if `whole`."""
        budget, draw = setup
        own = self.place[target.name][target.examples[setup]]
        rows = np.concatenate([self._sources(group), own]) if whole else own
        count = self.settings.seeds
        return _Job(
            *(target, group, setup, rows),
            (self.seed, draw % count, budget, draw // count, crc32(target.name.encode())),
        )

    def _train(self, jobs: Sequence[_Job], schedule: Schedule) -> Networks:
        members = np.stack([job.rows for job in jobs])
        return train(self.pool, members, self.settings.hidden, [job.seed for job in jobs], schedule)

    def _tune(self, jobs: Sequence[_Job]) -> Networks:
        count = self.settings.seeds
        start = joined([self.full[job.group.names, job.setup[1] % count] for job in jobs])
        return tune(start, self.pool, np.stack([job.rows for job in jobs]), [job.seed for job in jobs], TUNING)

    def _sources(self, group: Group) -> NDArray[np.int64]:
        return np.concatenate([self.place[name] for name in group.names])

    def _parts(self, network: Networks, target: Language, group: Group) -> Parts:
        values, device = self.pool.values, self.pool.values.device
        test = torch.from_numpy(target.test()).to(device)
        own, source = (torch.from_numpy(rows).to(device) for rows in (self.place[target.name], self._sources(group)))
        return tuple(network.scores(part) for part in (values[source], values[own], test))
