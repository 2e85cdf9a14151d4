"""How many examples of a language recover its harmfulness direction? AUC on test prompts against the budget.

Without examples: `v_hrl` (the source languages' direction, no example) and `full_local` (the language's own difference
in means over all its train prompts). With b harmful and b harmless train prompts: `local` (their difference in means);
on features standardised on these examples, as the paper does, `logistic` (converged, or the paper's 40 epochs of AdamW
where `gate.solver` says so) and `mlp` (a hidden layer of 32, 40 epochs of Adam); and the controls `permuted` (the
difference in means under shuffled labels) and `random` (a random direction).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.decision.gate import Solver
from polygate.decision.probes import full_space, scoring
from polygate.decision.probes import rows as probe_rows
from polygate.decision.probes.estimates import Cell, Collector, Probe
from polygate.decision.probes.full_space import RIDGE
from polygate.decision.probes.parallel import spread
from polygate.decision.probes.rows import Language, Setup
from polygate.representation.directions import pc1_of_diffs

HIDDEN, EPOCHS = 32, 40
_NEWTON_STEPS = 50


def recoverability(
    languages: Sequence[Language], pivot: str, seed: int, *, mlp: bool = True, solver: Solver = "convex"
) -> tuple[pa.Table, pa.Table]:
    """Estimates by fit and their means (`estimates.DRAWS`, `estimates.MEANS`); `pivot` orients v_HRL."""
    collected = Collector()
    differences = {language.name: language.difference() for language in languages}
    cells: dict[str, list[Cell]] = {}

    def scored(language: Language) -> dict[str, Cell]:
        high = {other.name: differences[other.name] for other in languages if other.tier == "high"}
        high.pop(language.name, None)
        v_hrl = (
            pc1_of_diffs(np.stack(list(high.values())), high.get(pivot, next(iter(high.values())))) if high else None
        )
        return _cells(language, differences[language.name], v_hrl, seed, mlp=mlp, solver=solver)

    with warnings.catch_warnings():
        # A small network is trained for all its epochs: not having converged by then is meant.
        warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
        found = spread(scored, [(language,) for language in languages if language.tested])
    for own in found:
        for name, cell in own.items():
            cells.setdefault(name, []).append(cell)
    for name, group in cells.items():
        collected.add(Probe(name, "high" if name == "v_hrl" else ""), group)
    return collected.tables()


def _cells(
    language: Language,
    own: NDArray[np.float64],
    v_hrl: NDArray[np.float64] | None,
    seed: int,
    *,
    mlp: bool,
    solver: Solver,
) -> dict[str, Cell]:
    """AUC of every probe in one language; `own` [d] is its difference in means over all its train rows."""
    found: dict[str, tuple[list[Setup], NDArray[Any]]] = {"full_local": ([(0, 0)], own[None])}
    if v_hrl is not None:
        found["v_hrl"] = ([(0, 0)], v_hrl[None])
    setups, test = list(language.examples), language.test()
    scores: dict[str, tuple[list[Setup], NDArray[np.float64]]] = {}
    if setups:
        found |= {name: (setups, weights) for name, weights in _directions(language, seed, solver).items()}
        if mlp:
            scores["mlp"] = (setups, _mlp_scores(language, test, seed))
    for name, (at, weights) in found.items():
        scores[name] = (at, (np.asarray(weights, np.float32) @ test.T).astype(np.float64))
    return {
        name: Cell(language, at, "auc", scoring.auc(values, language.test_harmful))
        for name, (at, values) in scores.items()
    }


def _directions(language: Language, seed: int, solver: Solver) -> dict[str, NDArray[np.float32]]:
    """Directions [setups, d] learnt from the examples of each setup, and the controls."""
    setups = list(language.examples)
    local = np.stack([probe_rows.mean_difference_weights(language, setup) for setup in setups])
    permuted = local.copy()
    for row, setup in zip(permuted, setups, strict=True):
        own = language.examples[setup]
        row[own] = _stream(language, setup, seed, 1).permutation(row[own])
    logistic = [
        _logistic(language.train[own].astype(np.float64), language.labels(setup[0]), solver, seed + setup[1])
        for setup, own in language.examples.items()
    ]
    width = language.train.shape[1]
    random = np.stack([_stream(language, setup, seed, 2).standard_normal(width, np.float32) for setup in setups])
    mixed = np.concatenate([local, permuted]) @ language.train
    return {
        "local": mixed[: len(setups)],
        "permuted": mixed[len(setups) :],
        "logistic": np.stack(logistic).astype(np.float32),
        "random": random,
    }


def _stream(language: Language, setup: Setup, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, *setup, crc32(language.name.encode())])


def _logistic(rows: NDArray[np.float64], harmful: NDArray[np.bool_], solver: Solver, seed: int) -> NDArray[np.float64]:
    """Weights [d] on activations of a logistic regression on standardised features; `rows` [n, d], `harmful` bool [n].

    "convex": converged, Σ loss + ½·ridge·|w|² on features that are divided by √d as in `full_space`; "adamw": the
    paper's 40 epochs.
    """
    scale = _scale(rows)
    features = (rows - rows.mean(axis=0)) / scale
    if solver == "adamw":
        return full_space.adamw(features, harmful, EPOCHS, seed)[0] / scale
    features /= np.sqrt(rows.shape[1])
    weights: NDArray[np.float64] = _dual_logistic(features @ features.T, harmful) @ features
    weights /= scale * np.sqrt(rows.shape[1])
    return weights


def _scale(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Population standard deviations [d] of `rows` [n, d]; ∞ for a constant feature, which is thereby 0 everywhere."""
    constant = rows.min(axis=0) == rows.max(axis=0)
    found: NDArray[np.float64] = np.where(constant, np.inf, rows.std(axis=0))
    return found


def _dual_logistic(kernel: NDArray[np.float64], harmful: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights a [n] on centred rows: w = Σ a·row minimises logistic loss + ½·ridge·|w|², the bias free.

    `kernel` [n, n]: inner products of the rows; `harmful` bool [n] holds as many rows of each class. Newton's method on
    the n + 1 parameters.
    """
    n = len(kernel)
    logits, dual = np.zeros(n), np.zeros(n)
    system = np.ones((n + 1, n + 1))
    system[n, n] = 0.0
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-logits))
        spread = np.maximum(probability * (1 - probability), 1e-12)
        # Iteratively reweighted least squares: (K + ridge/D)·a + bias = logits + residual/D, Σ a = 0.
        system[:n, :n] = kernel + np.diag(RIDGE / spread)
        solved = np.linalg.solve(system, np.append(logits + (harmful - probability) / spread, 0.0))
        change = kernel @ solved[:n] + solved[n] - logits
        shift = float(np.abs(change).max())
        length = min(1.0, 4.0 / max(shift, 1e-30))
        logits += length * change
        dual += length * (solved[:n] - dual)
        if shift < 1e-7:
            break
    return dual


def _mlp_scores(language: Language, test: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Harmful log odds of a small network by setup, float64 [setups, m], on features standardised on the examples."""
    from sklearn.neural_network import MLPClassifier

    found = []
    for setup, own in language.examples.items():
        rows = language.train[own].astype(np.float64)
        mean, scale = rows.mean(axis=0), _scale(rows)
        network = MLPClassifier(
            (HIDDEN,),
            batch_size=len(own),
            learning_rate_init=0.01,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS,
            random_state=seed + setup[1],
        )
        network.fit(((rows - mean) / scale).astype(np.float32), language.labels(setup[0]))
        first, second = network.coefs_
        # The first layer takes activations as they are: no second copy of the test rows for each of many fits.
        inner = test @ (first / scale[:, None]).astype(np.float32)
        hidden = np.maximum(inner + (network.intercepts_[0] - (mean / scale) @ first).astype(np.float32), 0)
        found.append((hidden @ second + network.intercepts_[1])[:, 0].astype(np.float64))
    return np.stack(found)
