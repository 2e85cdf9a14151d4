"""Validation prompts of the languages that choose, and trying a way of steering on them.

Only train and val rows are read here: train rows of the sources for gates and gaps, val rows of the language itself
to be steered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from polygate.decision import fitting
from polygate.errors import PolygateError
from polygate.forward.interventions import Intervention, Part
from polygate.prompts.table import SUBSETS, PromptTable
from polygate.representation.directions import Directions
from polygate.representation.store import ActivationStore
from polygate.settings.types import Gate as GateSettings
from polygate.settings.types import Scope, Unit
from polygate.steering.choice import Trial
from polygate.steering.interventions import ablation, addition
from polygate.steering.strength import counted

if TYPE_CHECKING:
    from polygate.forward.generation import Completion


class Generate(Protocol):
    """Greedy completions of prompts under an intervention on them (`polygate.forward.generation.generate`)."""

    def __call__(self, prompts: Sequence[str], intervention: Intervention, /) -> Sequence[Completion]:
        """One completion per prompt, in their order."""


class Judge(Protocol):
    """What says whether a completion is a refusal; see `polygate.judges`."""

    def __call__(
        self, language: str, prompts: Sequence[str], completions: Sequence[str], references: Sequence[str], /
    ) -> Sequence[str]:
        """One outcome per completion."""


@dataclass(frozen=True)
class Chooser:
    """One language that takes part in choosing; `rows` int64 [n]: its validation prompts in `prompts`."""

    prompts: PromptTable
    rows: NDArray[np.int64]

    @property
    def harmful(self) -> NDArray[np.bool_]:
        """Labels of the validation prompts, bool [n]."""
        return self.prompts.harmful[self.rows]


@dataclass(frozen=True)
class Case(Chooser):
    """A language that chooses how our own routing steers.

    `flagged`: per layer the b = 0 gate's decisions, bool [n]; `gaps`: per layer the projection gap; `directions`: from
    its sources.
    """

    directions: Directions
    flagged: Mapping[int, NDArray[np.bool_]]
    gaps: Mapping[int, float]


def validation_rows(prompts: PromptTable, limit: int) -> NDArray[np.int64]:
    """The first `limit` val prompts of each class; none at all when the language lacks a class."""
    classes = [prompts.select("val", subset)[:limit] for subset in SUBSETS]
    return np.concatenate(classes) if all(len(rows) for rows in classes) else np.empty(0, np.int64)


def case(
    directions: Directions,
    rows: NDArray[np.int64],
    languages: Mapping[str, tuple[ActivationStore, PromptTable]],
    layers: Sequence[int],
    settings: GateSettings,
    seed: int,
    unit: Unit = "gap",
) -> Case:
    """The validation case of `directions.target`, its gates of budget 0 fitted at every candidate layer.

    `languages`: store and prompts of the target and of every source. A layer at which the classes do not lie apart
    along the direction has no gap, and no entry; `unit` raw makes the gaps of the others 1.
    """
    readings = {name: fitting.read(languages[name][0], directions, layers) for name in directions.sources}
    store, own = languages[directions.target]
    seen = fitting.read(store, directions, layers).features[:, rows]
    rank = min(settings.rank, seen.shape[2])
    tables = {name: languages[name][1] for name in directions.sources}
    flagged, gaps = {}, {}
    for index, layer in enumerate(layers):
        try:
            gaps[layer] = counted(fitting.source_gap(tables, readings, index), unit)
        except PolygateError:
            continue
        source = fitting.source_rows(tables, readings, index)
        fit = fitting.fit_source(source, rank, solver=settings.solver, objective=settings.objective, seed=seed)
        flagged[layer] = fitting.settled(fit, None, settings).flags(seen[index])
    return Case(own, rows, directions, flagged, gaps)


def generations(case: Case, layers: Sequence[int], strengths: int, scopes: int) -> int:
    """How many completions choosing needs of one language: flagged prompts per strength, the others per scope."""
    return sum(
        int(case.flagged[layer].sum()) * strengths + int((~case.flagged[layer]).sum()) * scopes for layer in layers
    )


def dips(cases: Mapping[str, Case], layers: Sequence[int], generate: Generate, judge: Judge) -> dict[int, float]:
    """Refusal of harmful prompts when v_HRL (pc1_of_diffs) of a layer is ablated at all layers, by layer.

    A mean over languages, 0 to 1; the lowest is the dip.
    """
    asked = [(name, layer, row) for layer in layers for name, one in cases.items() for row in one.rows[one.harmful]]
    names = tuple(cases[name].prompts.ids[row] for name, _, row in asked)
    parts: list[Part] = []
    for layer in layers:
        for name, one in cases.items():
            here = np.array([(of, at) == (name, layer) for of, at, _ in asked], dtype=np.float64)
            parts += ablation(one.directions.pc1_of_diffs[layer], layer, "all", len(one.directions.pc1_of_diffs), here)
    texts = [cases[name].prompts.texts[row] for name, _, row in asked]
    written = [completion.text for completion in generate(texts, Intervention(names, tuple(parts)))]
    rates: dict[int, list[float]] = {layer: [] for layer in layers}
    for layer in layers:
        for name, one in cases.items():
            mine = [i for i, (of, at, _) in enumerate(asked) if (of, at) == (name, layer)]
            references = [one.prompts.references[asked[i][2]] for i in mine]
            said = judge(name, [texts[i] for i in mine], [written[i] for i in mine], references)
            rates[layer].append(float(np.mean([outcome == "refused" for outcome in said])))
    return {layer: float(np.mean(values)) for layer, values in rates.items()}


def outcomes(
    trials: Sequence[Trial], cases: Mapping[str, Case], generate: Generate, judge: Judge
) -> list[dict[str, list[str]]]:
    """Steer, generate and judge `trials`, all in one call of `generate`; the form that `choice.choose` asks for."""
    groups = [trial.rows for trial in trials]
    count = sum(len(rows) for group in groups for rows in group.values())
    return answered(groups, cases, _parts(trials, cases, count), generate, judge)


def answered(
    groups: Sequence[Mapping[str, NDArray[np.int64]]],
    cases: Mapping[str, Chooser],
    parts: Iterable[Part],
    generate: Generate,
    judge: Judge,
) -> list[dict[str, list[str]]]:
    """Steer, generate and judge groups of validation prompts, all in one call of `generate`.

    `groups`: per group and language int64 rows into the language's validation prompts; `parts` have one coefficient for
    each, group below group. Returns per group and language one outcome for each of its rows.
    """
    steered = [(cases[name], rows) for group in groups for name, rows in group.items()]
    asked = [(one.prompts, row) for one, rows in steered for row in one.rows[rows]]
    names = tuple(prompts.ids[row] for prompts, row in asked)
    intervention = Intervention(names, tuple(parts))
    written = iter(generate([prompts.texts[row] for prompts, row in asked], intervention))
    results = []
    for group in groups:
        judged = {}
        for name, rows in group.items():
            chosen = cases[name]
            where = chosen.rows[rows]
            texts = [next(written).text for _ in where]
            given = [chosen.prompts.texts[row] for row in where]
            judged[name] = list(judge(name, given, texts, [chosen.prompts.references[row] for row in where]))
        results.append(judged)
    return results


def _parts(trials: Sequence[Trial], cases: Mapping[str, Case], count: int) -> Iterator[Part]:
    """The parts of an intervention on the `count` prompts of all trials, one below the other.

    One part for each direction, layer and scope: strengths are its coefficients.
    """
    coefficients: dict[tuple[str, int, Scope | None], NDArray[np.float64]] = {}
    start = 0
    for trial in trials:
        added = trial.action == "add"
        for name, rows in trial.rows.items():
            value = trial.strength * cases[name].gaps[trial.layer] if added else 1.0
            given = coefficients.setdefault((name, trial.layer, None if added else trial.scope), np.zeros(count))
            given[start : start + len(rows)] = value
            start += len(rows)
    for (name, layer, scope), given in coefficients.items():
        v, depth = cases[name].directions.pooled_dim[layer], len(cases[name].directions.pooled_dim)
        yield from (addition(v, layer, given),) if scope is None else ablation(v, layer, scope, depth, given)
