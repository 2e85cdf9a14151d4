"""Fitting gates: every rank, budget and draw of one target language.

Budget 0 is fitted on the train prompts of the source languages, b ≥ 1 on those and on b harmful and b harmless train
prompts of the target. Multiple-choice prompts of the sources are among the harmless ones, or the gate takes any
multiple-choice prompt for a harmful one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate import kernels
from polygate.decision import calibration
from polygate.decision.calibration import Objective, Threshold
from polygate.decision.gate import Solver, coordinates, logits
from polygate.errors import PolygateError
from polygate.prompts.table import PromptTable
from polygate.representation.directions import POSITION, Directions
from polygate.representation.store import ActivationStore
from polygate.steering.strength import projection_gap

if TYPE_CHECKING:
    from polygate.settings.types import Gate as GateSettings


@dataclass(frozen=True)
class Reading:
    """The prompts of one language as a target's directions see them, at t layers.

    `features` float32 [t, n, R]: coordinates in the subspace; `along` float32 [t, n]: projections on the pooled
    difference in means, which steers.
    """

    features: NDArray[np.float32]
    along: NDArray[np.float32]


def read(activations: ActivationStore, directions: Directions, layers: Sequence[int]) -> Reading:
    """Coordinates of all prompts of a store in the subspace of `directions` at `layers`.

    Raises `PolygateError` for activations that are NaN or infinite.
    """
    scores = []
    for layer in layers:
        rows = np.concatenate([directions.basis[layer], directions.pooled_dim[layer][None]])
        scores.append(coordinates(activations.read(layer, POSITION), rows))
        activations.check_finite(scores[-1], layer)
    found = np.stack(scores)
    return Reading(found[:, :, :-1], found[:, :, -1])


@dataclass(frozen=True)
class SourceRows:
    """Train rows of the source languages, all languages below one another.

    `features` float64 [n, R] on the subspace, `labels` bool [n] (harmful), `languages` int64 [n] (index into
    `names`).
    """

    features: NDArray[np.float64]
    labels: NDArray[np.bool_]
    languages: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def stack(
        cls, names: Sequence[str], features: Sequence[NDArray[Any]], labels: Sequence[NDArray[np.bool_]]
    ) -> SourceRows:
        """Rows of several languages: features [n_l, R] and labels [n_l] of each."""
        return cls(
            np.concatenate([np.asarray(f, np.float64) for f in features]),
            np.concatenate(list(labels)),
            np.repeat(np.arange(len(names), dtype=np.int64), [len(values) for values in labels]),
            tuple(names),
        )

    def balance(self) -> dict[str, tuple[int, int]]:
        """(harmful, harmless) rows per language."""
        return calibration.class_balance(
            self.names, [self.labels[self.languages == index] for index in range(len(self.names))]
        )


def source_rows(prompts: Mapping[str, PromptTable], readings: Mapping[str, Reading], index: int) -> SourceRows:
    """Train rows of the sources at the `index`-th layer read, multiple-choice prompts among them."""
    rows = {name: table.select("train", multiple_choice=True) for name, table in prompts.items()}
    return SourceRows.stack(
        list(prompts),
        [readings[name].features[index, rows[name]] for name in prompts],
        [prompts[name].harmful[rows[name]] for name in prompts],
    )


def source_gap(prompts: Mapping[str, PromptTable], readings: Mapping[str, Reading], index: int) -> float:
    """Projection gap over the sources' train rows at the `index`-th layer read, multiple-choice prompts left out."""
    rows = {name: table.select("train") for name, table in prompts.items()}
    along = np.concatenate([readings[name].along[index, rows[name]] for name in prompts]).astype(np.float64)
    return projection_gap(along, np.concatenate([prompts[name].harmful[rows[name]] for name in prompts]))


@dataclass(frozen=True)
class Examples:
    """Target-language examples of one draw: `features` float64 [2b, R], `labels` bool [2b]."""

    features: NDArray[np.float64]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class Fit:
    """A fitted and calibrated gate on subspace features: `mean`, `scale`, `weights` float64 [r]."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    converged: bool
    threshold: Threshold

    @property
    def rank(self) -> int:
        """Rank of the subspace it reads."""
        return len(self.weights)

    def score(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Logits, float64 [n], of features [n, ≥ r]."""
        return logits(features[:, : self.rank], self.mean, self.scale, self.weights, self.bias)

    def flags(self, features: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of features [n, ≥ r] are of harmful prompts, bool [n]."""
        return calibration.decide(self.score(features), self.threshold.threshold)


def fit_source(
    source: SourceRows, rank: int, *, solver: Solver = "convex", objective: Objective = "macro_f1", seed: int = 0
) -> Fit:
    """The gate of budget 0: fitted on the source languages, its threshold chosen on the same rows."""
    features = np.ascontiguousarray(source.features[:, :rank])
    fits = kernels.fit_logistic(
        features, source.labels, None, None, solver=solver, initial=initial_weights(solver, rank, seed)
    )
    draft = _fit(fits, 0)
    threshold = calibration.source_threshold(draft.score(features), source.labels, source.languages, objective)
    return replace(draft, threshold=threshold)


def fit_examples(
    source: SourceRows,
    draws: Sequence[Examples],
    rank: int,
    *,
    solver: Solver = "convex",
    objective: Objective = "macro_f1",
    seed: int = 0,
) -> list[Fit]:
    """One gate per draw of a budget b ≥ 1: fitted on source rows and the draw, its threshold chosen on the draw."""
    features = np.ascontiguousarray(source.features[:, :rank])
    extra = np.stack([draw.features[:, :rank] for draw in draws])
    labels = np.stack([draw.labels for draw in draws])
    fits = kernels.fit_logistic(
        features, source.labels, extra, labels, solver=solver, initial=initial_weights(solver, rank, seed)
    )
    drafts = [_fit(fits, index) for index in range(len(draws))]
    thresholds = [
        calibration.example_threshold(draft.score(draw.features), draw.labels, objective)
        for draft, draw in zip(drafts, draws, strict=True)
    ]
    return [replace(draft, threshold=threshold) for draft, threshold in zip(drafts, thresholds, strict=True)]


def _fit(fits: kernels.LogisticFits, index: int) -> Fit:
    return Fit(
        fits.mean[index],
        fits.scale[index],
        fits.weights[index],
        float(fits.bias[index]),
        bool(fits.converged[index]),
        Threshold(np.inf, 0.0, False, "source"),
    )


def initial_weights(solver: Solver, rank: int, seed: int) -> NDArray[np.float64] | None:
    """First weights of the optimiser: Xavier-uniform for a layer of `rank` inputs and one output, bias 0."""
    if solver == "convex":
        return None
    bound = np.sqrt(6 / (rank + 1))
    return np.random.default_rng([seed, rank]).uniform(-bound, bound, size=rank)


@dataclass(frozen=True)
class Fitted:
    """A gate of one rank, budget and draw: its `fit`, and the (harmful, harmless) prompts fitted on per language."""

    rank: int
    budget: int
    draw: int
    fit: Fit
    balance: dict[str, tuple[int, int]]


def usable_ranks(ranks: Sequence[int], available: int) -> list[int]:
    """`ranks` clipped to the dimensions of the subspace, ascending, each once.

    A high-resource target has one source fewer than the others, so a rank may be out of its reach.
    """
    return sorted({min(rank, available) for rank in ranks})


def fit_all(
    source: SourceRows, own: PromptTable, own_features: NDArray[Any], settings: GateSettings, seed: int
) -> Iterator[Fitted]:
    """Every gate of the target `own` [n prompts], whose features are `own_features` [n, R]: by rank, budget, draw."""
    labels = own.harmful
    drawn = {
        budget: [calibration.draw_examples(own, budget, draw, seed) for draw in range(settings.draws)]
        for budget in settings.budgets
        if budget > 0
    }
    wide = np.asarray(own_features, np.float64)
    val = val_examples(own, wide[own.select("val")], settings)
    options: dict[str, Any] = {"solver": settings.solver, "objective": settings.objective, "seed": seed}
    for rank in usable_ranks(settings.ranks, source.features.shape[1]):
        for budget in settings.budgets:
            if budget == 0:
                fits, balance = [fit_source(source, rank, **options)], source.balance()
            else:
                examples = [Examples(wide[rows], labels[rows]) for rows in drawn[budget]]
                fits, balance = fit_examples(source, examples, rank, **options), source.balance()
                balance[own.language] = (budget, budget)
            for draw, fit in enumerate(fits):
                yield Fitted(rank, budget, draw, settled(fit, val if budget else None, settings), balance)


def val_examples(own: PromptTable, features: NDArray[Any], settings: GateSettings) -> Examples | None:
    """All val prompts of a target, of `features` [n, R], where thresholds are chosen on them, else None.

    Raises `PolygateError` when it lacks a class there.
    """
    if settings.threshold_on != "val":
        return None
    rows = own.select("val")
    if len(set(own.harmful[rows].tolist())) < 2:
        raise PolygateError(
            f"language {own.language} lacks harmful or harmless val prompts, which gate.threshold_on: val needs",
            do="set gate.threshold_on: examples",
        )
    return Examples(features, own.harmful[rows])


def settled(fit: Fit, val: Examples | None, settings: GateSettings) -> Fit:
    """The fit with its threshold as the settings want it: chosen on `val`, where given, and with their `ties`."""
    found = fit.threshold
    if val is not None:
        found = calibration.example_threshold(fit.score(val.features), val.labels, settings.objective, "val")
    return replace(fit, threshold=replace(found, threshold=calibration.with_ties(found.threshold, settings.ties)))
