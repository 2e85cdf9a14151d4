"""Logistic regression on whole activations is the convex fit that scikit-learn finds, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from polygate.decision.probes.full_space import RIDGE, Source, Standard

Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]


def world(n: int, m: int, width: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Source rows and a target's rows: correlated features, one of them constant, classes that overlap."""
    random = np.random.default_rng(seed)
    harmful = np.arange(n + m) % 9 < 5
    direction = random.normal(size=width) / np.sqrt(width)
    spread = np.linalg.qr(random.normal(size=(width, width)))[0] * np.arange(1, width + 1)[:, None] ** -0.5
    rows = random.normal(size=(n + m, width)) @ spread * 3 + np.where(harmful, 1.0, -1.0)[:, None] * direction
    rows[n:] += 0.7 * direction + 0.2 * random.normal(size=width)
    rows[:, 3] = 5.0
    values = rows.astype(np.float32)
    return (values[:n], harmful[:n]), (values[n:], harmful[n:])


def examples(harmful: NDArray[np.bool_], budget: int, seed: int) -> NDArray[np.int64]:
    random = np.random.default_rng([budget, seed])
    return np.concatenate([random.choice(np.flatnonzero(harmful == label), budget, False) for label in (True, False)])


def reference(standard: Standard, rows: Rows, points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits of `points` under the same loss, by scikit-learn's Newton solver in float64."""
    x, y = standard.features(rows[0])[:, :-1].astype(np.float64), rows[1]
    weight = {True: (~y).sum() / y.sum(), False: 1.0}
    model = LogisticRegression(C=1 / RIDGE, class_weight=weight, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    found: NDArray[np.float64] = model.fit(x, y).decision_function(standard.features(points)[:, :-1].astype(np.float64))
    return found


@pytest.mark.parametrize(("n", "width"), [(400, 40), (150, 220)])
def test_every_fit_is_the_optimum(n: int, width: int) -> None:
    source, own = world(n, 90, width)
    solved = Source.of(*source)
    drawn = [np.zeros(0, np.int64), *(examples(own[1], budget, seed) for budget in (1, 4, 30) for seed in (0, 1))]
    fits = solved.fit(*own, drawn)
    assert fits.converged.all()
    np.testing.assert_allclose(fits.logits, source[0] @ fits.weights + fits.bias, atol=1e-2)
    for fit, rows in enumerate(drawn):
        both = np.concatenate([source[0], own[0][rows]]), np.concatenate([source[1], own[1][rows]])
        expected = reference(solved.standard, both, own[0])
        logits = own[0].astype(np.float64) @ fits.weights[:, fit] + fits.bias[fit]
        # A loss within 1e-4 of the least one leaves logits about the square root of that.
        np.testing.assert_allclose(logits, expected, atol=0.03 + 0.005 * np.abs(expected).max())


def test_a_fit_depends_on_its_own_examples_only() -> None:
    source, own = world(300, 60, 30)
    solved = Source.of(*source)
    some = examples(own[1], 8, 0)
    alone = solved.fit(*own, [some]).weights[:, 0]
    beside = solved.fit(*own, [examples(own[1], 20, 1), some, np.zeros(0, np.int64)]).weights[:, 1]
    np.testing.assert_allclose(beside, alone, atol=0.02 * np.abs(alone).max())


def test_logits_of_similar_sources_change_the_way_and_not_the_end() -> None:
    source, own = world(300, 60, 30)
    plain = Source.of(*source)
    helped = Source.of(*source, near=plain.logits + np.float32(0.5))
    a, b = (one.fit(*own, [examples(own[1], 4, 0)]).weights[:, 0] for one in (plain, helped))
    np.testing.assert_allclose(a, b, atol=0.03 * np.abs(a).max())


def test_examples_that_contradict_the_sources_win_where_they_are_many() -> None:
    source, own = world(60, 400, 30)
    flipped = ~own[1]
    solved = Source.of(*source)
    fits = solved.fit(own[0], flipped, [np.arange(300)])
    assert fits.converged.all()
    logits = own[0] @ fits.weights[:, 0] + fits.bias[0]
    assert ((logits[300:] > 0) == flipped[300:]).mean() > 0.6
