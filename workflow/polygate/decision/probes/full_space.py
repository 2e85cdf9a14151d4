"""Logistic regression on whole activations, for many small sets of examples added to the same source rows.

Each fit minimises Σ ω·loss + ½·0.01·|w|² over source rows and its own examples, ω being negatives / positives for
harmful rows: the loss of `kernels.fit_logistic`, on d features. These are standardised on the source rows and divided
by √d: a row has length 1 on average, so that the ridge means the same at any width.

Newton's method with conjugate gradients, many fits at once. The parameters are those of a metric in which the source
rows' own Hessian H₀ (at fixed weights D₀) is the identity: with X' = X·L⁻ᵀ, L·Lᵀ = H₀ = Xᵀ·D₀·X + ridge, the ridge
term of a gradient at v is v − X'ᵀ·D₀·X'·v, so that a gradient or a product with the Hessian costs two products with X'
and nothing else, and a handful of examples changes the Hessian by as many rank-one terms, which the preconditioner has
in closed form (Woodbury). Nothing of size d² is formed again for a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from polygate.decision.fitting import initial_weights

RIDGE = 0.01
"""Ridge of the weights, as in `kernels.fit_logistic`."""
_NEWTON_STEPS = 30
_CG_STEPS = 60
_FIRST_STEPS = 2
_LEAST = 1e-4
"""Least curvature of a source row in the metric: rows far from the boundary may come nearer with examples."""
_FORCING, _TINY = 0.01, 1e-30
_DECREMENT = 2e-4
"""A fit is done when a Newton step would lower its summed loss by less than this."""

Matrix = NDArray[np.float32]
Logits = tuple[Matrix, Matrix]
"""Of the source rows [n, f] and of the target's [m, f]."""


@dataclass(frozen=True)
class Standard:
    """Features of activations x [n, d]: (x − mean) / scale, and a 1 for the bias; `mean`, `scale` float32 [d]."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Matrix) -> Standard:
        """Mean and √d × standard deviation of `rows` [n, d]; the deviation of a constant feature counts as 1."""
        mean = rows.mean(axis=0, dtype=np.float64)
        deviation = np.sqrt(np.maximum(np.einsum("ij,ij->j", rows, rows, dtype=np.float64) / len(rows) - mean**2, 0))
        deviation[deviation <= 1e-6 * np.abs(mean)] = 1.0
        deviation[deviation == 0] = 1.0
        return cls(mean.astype(np.float32), (deviation * np.sqrt(rows.shape[1])).astype(np.float32))

    def features(self, rows: Matrix) -> Matrix:
        """Features float32 [n, d + 1]."""
        found = np.empty((len(rows), rows.shape[1] + 1), np.float32)
        np.subtract(rows, self.mean, out=found[:, :-1])
        found[:, :-1] /= self.scale
        found[:, -1] = 1.0
        return found

    def unfold(self, weights: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights [d + 1, f] on features as weights [d, f] on activations and bias [f], float64."""
        raw = np.asarray(weights[:-1], np.float64) / self.scale[:, None]
        return raw, np.asarray(weights[-1], np.float64) - self.mean.astype(np.float64) @ raw


def adamw(
    features: NDArray[Any], harmful: NDArray[np.bool_], epochs: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Weights [d] and bias of a class-balanced logistic regression by the paper's optimiser, of float64.

    `features` [n, d] are standardised. As `kernels.fit_logistic` has it: full-batch AdamW (Loshchilov & Hutter 2019) at
    a learning rate of .05, decay .01, Xavier-uniform weights first.
    """
    weights = initial_weights("adamw", features.shape[1], seed)
    parameters = np.append(np.zeros(features.shape[1]) if weights is None else weights, 0.0)
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    weight = np.where(harmful, _balance(harmful, 0), 1.0) / len(harmful)
    for epoch in range(1, epochs + 1):
        logits = features @ parameters[:-1].astype(features.dtype) + parameters[-1]
        residual = weight * (1 / (1 + np.exp(-np.clip(logits, -500, 500))) - harmful)
        slope = np.append(features.T @ residual.astype(features.dtype), residual.sum())
        first += 0.1 * (slope - first)
        second += 0.001 * (slope**2 - second)
        root = np.sqrt(second / (1 - 0.999**epoch)) + 1e-8
        parameters = parameters * (1 - 0.05 * 0.01) - 0.05 * first / (1 - 0.9**epoch) / root
    return parameters[:-1], float(parameters[-1])


@dataclass(frozen=True)
class Fits:
    """f fits: `weights` float64 [d, f] and `bias` [f] on activations, `logits` float32 [n, f] of the source rows."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    logits: Matrix
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """Source rows in the metric of their Hessian: `rows` X' float32 [n, d + 1], `harmful` bool [n], `start` float32
    [d + 1] the solution without examples, `curvature` D₀ float32 [n], `factor` L float32 [d + 1, d + 1]."""

    standard: Standard
    rows: Matrix
    harmful: NDArray[np.bool_]
    curvature: NDArray[np.float32]
    factor: Matrix
    start: NDArray[np.float32]

    @classmethod
    def of(cls, activations: Matrix, harmful: NDArray[np.bool_], near: NDArray[np.float32] | None = None) -> Source:
        """Factor the Hessian and solve for budget 0. `activations` float32 [n, d], `harmful` bool [n], both classes.

        The Hessian is that at the logits `near` [n], of a solution on similar sources; without them it is taken at
        weights 0 first. They change the time that the solution takes, not the solution.
        """
        standard = Standard.of(activations)
        features = standard.features(activations)
        weight = np.where(harmful, _balance(harmful, 0), 1.0).astype(np.float32)
        if near is None:
            start = cls._at(standard, features.copy(), harmful, weight * np.float32(0.25))
            at, _ = _newton(start, start.start[:, None], Target.none(features), _FIRST_STEPS)
            near = start.rows @ at[:, 0]
        curvature = _curvature(_probability(near), weight).clip(min=_LEAST)
        found = cls._at(standard, features, harmful, curvature)
        # The solution of the least squares problem that the logits stand for is near the solution.
        guess = found.rows.T @ (found.curvature * near)
        solved, _ = _newton(found, guess[:, None], Target.none(features), _NEWTON_STEPS)
        return replace(found, start=np.ascontiguousarray(solved[:, 0]))

    @classmethod
    def _at(
        cls, standard: Standard, features: Matrix, harmful: NDArray[np.bool_], curvature: NDArray[np.float32]
    ) -> Source:
        """In the metric of the Hessian at a curvature D₀ [n]; `start` is 0. Overwrites `features`, to save memory."""
        weighted = features * np.sqrt(curvature)[:, None]
        hessian = weighted.T @ weighted
        del weighted
        hessian[np.arange(len(hessian) - 1), np.arange(len(hessian) - 1)] += RIDGE
        factor = linalg.cholesky(hessian, lower=True, overwrite_a=True, check_finite=False)
        rows = linalg.solve_triangular(factor, features.T, lower=True, overwrite_b=True, check_finite=False).T
        return cls(standard, np.ascontiguousarray(rows), harmful, curvature, factor, np.zeros(len(factor), np.float32))

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits of the source rows at budget 0, float32 [n]."""
        return self.rows @ self.start

    def fit(self, own: Matrix, own_harmful: NDArray[np.bool_], examples: Sequence[NDArray[np.int64]]) -> Fits:
        """One fit per set of examples: rows `examples[f]` of `own` float32 [m, d], `own_harmful` bool [m].

        An empty set gives the fit on source rows alone.
        """
        features = linalg.solve_triangular(self.factor, self.standard.features(own).T, lower=True).T
        used = np.zeros((len(own), len(examples)), bool)
        for index, rows in enumerate(examples):
            used[rows, index] = True
        target = Target(np.ascontiguousarray(features), features @ features.T, own_harmful, used)
        solved, converged = _newton(self, self._near(target), target, _NEWTON_STEPS)
        weights, bias = self.standard.unfold(linalg.solve_triangular(self.factor, solved, lower=True, trans="T"))
        return Fits(weights, bias, self.rows @ solved, converged)

    def _near(self, target: Target) -> Matrix:
        """Solutions [d + 1, f] with the source's loss replaced by its quadratic model at budget 0.

        With H₀ = I the model is ½|v − v₀|² and v − v₀ a combination of the examples, so each fit is a problem in as
        many dimensions as it has examples, solved by Newton's method on their logits.
        """
        first = target.rows @ self.start
        added = np.zeros((len(target.rows), target.used.shape[1]), np.float32)
        for fit in range(added.shape[1]):
            rows = np.flatnonzero(target.used[:, fit])
            if len(rows):
                harmful = target.harmful[rows]
                weight = np.where(harmful, _balance(self.harmful, int(harmful.sum())), 1.0)
                added[rows, fit] = _pulled(target.gram[np.ix_(rows, rows)], first[rows], harmful, weight)
        return self.start[:, None] + target.rows.T @ added


def _pulled(
    gram: Matrix, first: NDArray[np.float32], harmful: NDArray[np.bool_], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """a [n] that minimises ½·aᵀ·K·a + Σ weight·loss(first + K·a), for a Gram matrix K [n, n]."""
    kernel = gram.astype(np.float64)
    dual, logits = np.zeros(len(first)), first.astype(np.float64)
    for _ in range(_NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        spread = weight * np.maximum(probability * (1 - probability), 1e-10)
        # Optimal is dual = −weight·(probability − label); Newton: (1 + D·K)·change = −(dual + residual).
        residual = weight * (probability - harmful)
        change = np.linalg.solve(np.eye(len(first)) + spread[:, None] * kernel, -(dual + residual))
        moved = kernel @ change
        length = min(1.0, 5.0 / max(float(np.abs(moved).max()), 1e-30))
        dual, logits = dual + length * change, logits + length * moved
        if np.abs(moved).max() < 1e-2:
            break
    return dual


@dataclass(frozen=True)
class Target:
    """Rows of the target in the source's metric: `rows` float32 [m, d + 1], their inner products `gram` [m, m],
    `harmful` bool [m], `used` bool [m, f]."""

    rows: Matrix
    gram: Matrix
    harmful: NDArray[np.bool_]
    used: NDArray[np.bool_]

    @classmethod
    def none(cls, features: Matrix) -> Target:
        """No rows at all, for one fit."""
        return cls(features[:0], np.zeros((0, 0), np.float32), np.zeros(0, bool), np.zeros((0, 1), bool))

    def only(self, fits: NDArray[np.int64]) -> Target:
        """Some of the fits."""
        return replace(self, used=self.used[:, fits])


def _balance(harmful: NDArray[np.bool_], more: int | NDArray[np.int64]) -> Any:
    """Negatives / positives of rows with `more` further rows of each class."""
    return (np.sum(~harmful) + more) / (np.sum(harmful) + more)


def _probability(logits: Matrix) -> Matrix:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)


def _curvature(probability: Matrix, weight: NDArray[Any]) -> Matrix:
    return np.asarray(weight * probability * (1 - probability), np.float32)


class _Batch:
    """Residuals and curvatures of a batch of fits at given logits."""

    def __init__(self, source: Source, target: Target) -> None:
        self.source, self.target = source, target
        balance = _balance(source.harmful, target.used[target.harmful].sum(axis=0)).astype(np.float32)
        self.weight = np.where(source.harmful[:, None], balance, np.float32(1))
        self.own_weight = np.where(
            target.used, np.where(target.harmful[:, None], balance, np.float32(1)), np.float32(0)
        )
        self.label = source.harmful[:, None].astype(np.float32)
        self.own_label = target.harmful[:, None].astype(np.float32)

    def logits(self, at: Matrix) -> Logits:
        """Logits at parameters [d + 1, f]."""
        return self.source.rows @ at, self.target.rows @ at

    def back(self, factors: Logits) -> Matrix:
        """Σ over rows of their factor times the row, [d + 1, f]."""
        found: Matrix = self.source.rows.T @ factors[0]
        if len(self.target.rows):
            found += self.target.rows.T @ factors[1]
        return found

    def residuals(self, logits: Logits) -> Logits:
        """Derivative of the loss by logits, with −D₀·X'v for the ridge, to which v itself is still to be added."""
        found = self.weight * (_probability(logits[0]) - self.label) - self.source.curvature[:, None] * logits[0]
        return found, self.own_weight * (_probability(logits[1]) - self.own_label)

    def curvatures(self, logits: Logits) -> Logits:
        """Second derivatives by logits, less D₀ for the source rows."""
        found = _curvature(_probability(logits[0]), self.weight) - self.source.curvature[:, None]
        return found, _curvature(_probability(logits[1]), self.own_weight)


def _newton(source: Source, start: Matrix, target: Target, steps: int) -> tuple[Matrix, NDArray[np.bool_]]:
    """Newton steps from `start` [d + 1, f] for all fits at once; solution and convergence. Done fits are left out."""
    at = start.copy()
    active = np.arange(start.shape[1])
    for _ in range(steps):
        batch = _Batch(source, target.only(active))
        here = np.ascontiguousarray(at[:, active])
        logits = batch.logits(here)
        gradient = batch.back(batch.residuals(logits)) + here
        precondition = _Woodbury(batch, logits)
        ready = precondition(gradient)
        # Half of gᵀP⁻¹g is nearly what a Newton step would gain.
        going = _dot(gradient, ready) > 2 * _DECREMENT
        if not going.any():
            return at, np.ones(start.shape[1], bool)
        if not going.all():
            active = active[going]
            continue
        step, gained = _conjugate_gradients(batch, logits, -gradient, -ready, precondition)
        at[:, active] += _length(batch, here, logits, step, gained) * step
    converged = np.ones(start.shape[1], bool)
    converged[active] = False
    return at, converged


class _Woodbury:
    """Inverse of I + Σ over a fit's examples of curvature × row·rowᵀ, applied to gradients."""

    def __init__(self, batch: _Batch, logits: Logits) -> None:
        self.target = batch.target
        curvature = _curvature(_probability(logits[1]), batch.own_weight)
        self.inverse = []
        for fit in range(curvature.shape[1]):
            rows = np.flatnonzero(self.target.used[:, fit])
            root = np.sqrt(curvature[rows, fit])
            inner = np.eye(len(rows), dtype=np.float32) + root[:, None] * self.target.gram[np.ix_(rows, rows)] * root
            self.inverse.append((rows, (root[:, None] * np.linalg.inv(inner) * root).astype(np.float32)))

    def __call__(self, gradient: Matrix) -> Matrix:
        """P⁻¹ of each column of `gradient` [d + 1, f]."""
        along = self.target.rows @ gradient
        own = np.zeros_like(along)
        for fit, (rows, inverse) in enumerate(self.inverse):
            own[rows, fit] = inverse @ along[rows, fit]
        found: Matrix = gradient - self.target.rows.T @ own
        return found


def _conjugate_gradients(
    batch: _Batch, logits: Logits, right: Matrix, ready: Matrix, precondition: _Woodbury
) -> tuple[Matrix, Logits]:
    """Newton steps [d + 1, f] and their logits, `right` left to a tenth of its length or less; `ready` is its P⁻¹."""
    curvature = batch.curvatures(logits)
    step = np.zeros_like(right)
    gained = np.zeros_like(logits[0]), np.zeros_like(logits[1])
    residual, direction = right.copy(), ready
    first = size = _dot(residual, direction)
    for _ in range(_CG_STEPS):
        along = batch.logits(direction)
        product = batch.back((curvature[0] * along[0], curvature[1] * along[1])) + direction
        length = (size / np.maximum(_dot(direction, product), _TINY)).astype(np.float32)
        step += length * direction
        for total, part in zip(gained, along, strict=True):
            total += length * part
        residual -= length * product
        ready = precondition(residual)
        after = _dot(residual, ready)
        if (after < np.maximum(_FORCING * first, _DECREMENT)).all():
            break
        direction = ready + (after / np.maximum(size, _TINY)).astype(np.float32) * direction
        size = after
    return step, gained


def _length(batch: _Batch, at: Matrix, logits: Logits, step: Matrix, gained: Logits) -> NDArray[np.float32]:
    """Step lengths [f] at which the loss still falls, or rises less steeply than it fell: 1, ½, ¼, …"""
    squares, mixed = _dot(step, step), _dot(at, step)

    def slope(length: NDArray[np.float32]) -> NDArray[np.float64]:
        residual = batch.residuals((logits[0] + length * gained[0], logits[1] + length * gained[1]))
        return _dot(residual[0], gained[0]) + _dot(residual[1], gained[1]) + mixed + length * squares

    length = np.ones(len(squares), np.float32)
    before = np.abs(slope(np.zeros_like(length)))
    for _ in range(20):
        steep = slope(length) > 0.5 * before
        if not steep.any():
            break
        length = np.where(steep, length / 2, length)
    return length


def _dot(a: Matrix, b: Matrix) -> NDArray[np.float64]:
    """Inner products of the columns of a and b, float64 [f]."""
    found: NDArray[np.float64] = np.einsum("ij,ij->j", a, b, dtype=np.float64)
    return found
