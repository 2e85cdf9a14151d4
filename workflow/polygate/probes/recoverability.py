"""How many examples of a language recover its harmfulness direction? AUC on test prompts against the budget.

Without examples: `v_hrl` (the source languages' direction, no example) and `full_local` (the
language's own difference in means over all its train prompts). With b harmful and b harmless train prompts:
`local` (their difference in means), `logistic` (ridge regression on whole activations), `mlp` (a hidden layer of 32),
and the controls `permuted` (the difference in means under shuffled labels) and `random` (a random direction).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.directions import pc1_of_diffs
from polygate.probes import rows as probe_rows
from polygate.probes import scoring
from polygate.probes.estimates import Cell, Collector, Probe
from polygate.probes.full_space import RIDGE
from polygate.probes.parallel import spread
from polygate.probes.rows import Language, Setup

HIDDEN, EPOCHS = 32, 40
_NEWTON_STEPS = 50


def recoverability(
    languages: Sequence[Language], pivot: str, seed: int, *, mlp: bool = True
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
        return _cells(language, differences[language.name], v_hrl, seed, mlp=mlp)

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
    language: Language, own: NDArray[np.float64], v_hrl: NDArray[np.float64] | None, seed: int, *, mlp: bool
) -> dict[str, Cell]:
    """AUC of every probe in one language; `own` [d] is its difference in means over all its train rows."""
    found: dict[str, tuple[list[Setup], NDArray[Any]]] = {"full_local": ([(0, 0)], own[None])}
    if v_hrl is not None:
        found["v_hrl"] = ([(0, 0)], v_hrl[None])
    setups, test = list(language.examples), language.test()
    scores: dict[str, tuple[list[Setup], NDArray[np.float64]]] = {}
    if setups:
        # Products of all train rows once: every fit on a few of them works with those alone.
        centred = language.train - language.train.mean(axis=0)
        gram = (centred @ centred.T).astype(np.float64)
        found |= {name: (setups, weights) for name, weights in _directions(language, gram, seed).items()}
        if mlp:
            scores["mlp"] = (setups, _mlp_scores(language, gram, test, seed))
    for name, (at, weights) in found.items():
        scores[name] = (at, (np.asarray(weights, np.float32) @ test.T).astype(np.float64))
    return {
        name: Cell(language, at, "auc", scoring.auc(values, language.test_harmful))
        for name, (at, values) in scores.items()
    }


def _directions(language: Language, gram: NDArray[np.float64], seed: int) -> dict[str, NDArray[np.float32]]:
    """Directions [setups, d] learnt from the examples of each setup, and the controls; `gram` [n, n] of train rows."""
    setups = list(language.examples)
    local = np.stack([probe_rows.mean_difference_weights(language, setup) for setup in setups])
    permuted = local.copy()
    for row, setup in zip(permuted, setups, strict=True):
        own = language.examples[setup]
        row[own] = _stream(language, setup, seed, 1).permutation(row[own])
    logistic = np.zeros_like(local)
    for budget in dict.fromkeys(budget for budget, _ in setups):
        at = [row for row, setup in enumerate(setups) if setup[0] == budget]
        own = np.stack([language.examples[setups[row]] for row in at])
        duals = _dual_logistic(gram[own[:, :, None], own[:, None, :]], language.labels(budget))
        for row, rows, dual in zip(at, own, duals, strict=True):
            logistic[row, rows] = dual
    width = language.train.shape[1]
    random = np.stack([_stream(language, setup, seed, 2).standard_normal(width, np.float32) for setup in setups])
    mixed = np.concatenate([local, permuted, logistic]) @ language.train
    return {
        "local": mixed[: len(setups)],
        "permuted": mixed[len(setups) : 2 * len(setups)],
        "logistic": mixed[2 * len(setups) :],
        "random": random,
    }


def _stream(language: Language, setup: Setup, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, *setup, crc32(language.name.encode())])


def _dual_logistic(gram: NDArray[np.float64], harmful: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights a [f, n] on the rows of f fits: w = Σ a·row minimises logistic loss + ½·ridge·|w|², the bias free.

    `gram` [f, n, n]: inner products of the rows, which are centred and scaled to a mean square of 1 here; `harmful`
    bool [n] holds as many rows of each class. Newton's method on the n + 1 parameters.
    """
    n = gram.shape[-1]
    centred = _centred(gram)
    size = np.trace(centred, axis1=1, axis2=2) / n
    kernel = centred / np.where(size > 0, size, 1.0)[:, None, None]
    logits, dual = np.zeros(kernel.shape[:2]), np.zeros(kernel.shape[:2])
    system = np.zeros((len(kernel), n + 1, n + 1))
    system[:, :n, n] = system[:, n, :n] = 1.0
    right = np.zeros((len(kernel), n + 1, 1))
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-logits))
        spread = np.maximum(probability * (1 - probability), 1e-12)
        # Iteratively reweighted least squares: (K + ridge/D)·a + bias = logits + residual/D, Σ a = 0.
        system[:, :n, :n] = kernel
        system[:, np.arange(n), np.arange(n)] += RIDGE / spread
        right[:, :n, 0] = logits + (harmful - probability) / spread
        solved = np.linalg.solve(system, right)[..., 0]
        change = (kernel @ solved[:, :n, None])[..., 0] + solved[:, n:] - logits
        shift = np.abs(change).max(axis=1, keepdims=True)
        length = np.minimum(1.0, 4.0 / np.maximum(shift, 1e-30))
        logits += length * change
        dual += length * (solved[:, :n] - dual)
        if (shift < 1e-7).all():
            break
    weights: NDArray[np.float64] = dual - dual.mean(axis=1, keepdims=True)
    return np.where(size[:, None] > 0, weights / np.where(size > 0, size, 1.0)[:, None], 0.0)


def _mlp_scores(
    language: Language, gram: NDArray[np.float64], test: NDArray[np.float32], seed: int
) -> NDArray[np.float64]:
    """Harmful probabilities of a small network by setup, float64 [setups, m]; `gram` [n, n] of all train rows.

    Its inputs are coordinates in the span of the examples, centred and scaled to a mean square of 1: the rest of a
    prompt is something that the examples can't teach about.
    """
    from sklearn.neural_network import MLPClassifier

    found = []
    mixed = (test @ language.train.T).astype(np.float64)
    for setup, own in language.examples.items():
        inner = gram[np.ix_(own, own)]
        squares, vectors = np.linalg.eigh(_centred(inner))
        kept = squares > 1e-9 * max(float(squares[-1]), 1e-30)
        if not kept.any():
            found.append(np.full(len(test), 0.5))
            continue
        # Rows of the examples are U·S; a further row x is (x·centred rows)·U/S.
        scale = np.sqrt(squares[kept].sum() / len(own))
        axes = vectors[:, kept] / np.sqrt(squares[kept]) / scale
        along = mixed[:, own] - mixed[:, own].mean(axis=1, keepdims=True) - (inner.mean(axis=0) - inner.mean())
        network = MLPClassifier(
            (HIDDEN,),
            batch_size=len(own),
            learning_rate_init=0.01,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS,
            random_state=seed + setup[1],
        )
        network.fit(_centred(inner) @ axes, language.labels(setup[0]))
        found.append(network.predict_proba(along @ axes)[:, 1])
    return np.stack(found)


def _centred(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products [..., n, n] of rows after their mean is taken off."""
    over_rows = gram.mean(axis=-1, keepdims=True)
    centred: NDArray[np.float64] = (
        gram - gram.mean(axis=-2, keepdims=True) - over_rows + over_rows.mean(-2, keepdims=True)
    )
    return centred
