"""Numerical kernels: projections, means, products, ranking metrics, thresholds, bootstrap intervals, logistic fits.

A thin face of the Rust extension `polygate._kernels`; importing it needs numpy alone. What holds for every function:

- Arrays are numpy arrays of the shapes given; float32 and integers are widened to float64 where float64 is asked for,
  labels must be bool. Anything else is a ValueError that names the argument.
- "Harmful" is the positive class (True). A row is flagged when score > threshold, in float64.
- `threads` is the number of threads, 0 for all cores; results are the same, bit for bit, for any number.
- Sums are in float64. The interpreter lock is released while the kernels run, on copies of the arrays.
- Ctrl-C in the main thread ends them with KeyboardInterrupt; a result without room in memory is a MemoryError.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polygate import _kernels

Objective = Literal["macro_f1", "balanced_f1", "balanced_accuracy"]
Statistic = Literal["auc", "average_precision", "f1", "balanced_accuracy", "rate", "selectivity"]
Average = Literal["none", "groups", "methods", "both"]
Interval = Literal["percentile", "bca", "studentized"]
Solver = Literal["convex", "adamw"]
Store = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A safetensors file, or files of one type and width whose rows follow each other: the shards of one store."""


def project(path: Store, tensors: Sequence[str], directions: ArrayLike, *, threads: int = 0) -> NDArray[np.float32]:
    """Dot products of stored rows with directions, in one pass over a safetensors file or its shards.

    `tensors` names t tensors [n, d] of one shape (bf16, f16, f32 or f64), of any layers and positions. `directions` is
    [k, d], shared by all tensors, or [t, k, d]. Returns float32 [t, n, k], within 1e-6·|row|·|direction| of float64; a
    row's scores don't depend on the other rows. Memory: the output, a copy of the directions, and for each thread
    512 KB, or a row where that is more.

    Where the file's metadata holds CRC-32 digests of its tensors (`polygate.digests`), they are compared on the way.
    Raises ValueError for a truncated, damaged or foreign file, an unknown tensor, shapes that don't fit, and
    activations that are NaN or infinite (naming file, tensor and row of the file); FileNotFoundError or OSError when a
    file can't be read.
    """
    values = _floats("directions", directions, (2, 3))
    per_tensor = values.ndim == 3
    if per_tensor and len(values) != len(tensors):
        raise ValueError(f"directions have shape {values.shape}, expected [{len(tensors)} tensors, k, d]")
    blocks = values if per_tensor else values[None]
    return _kernels.project(_paths(path), list(tensors), blocks, per_tensor, _threads(threads))


def class_means(path: Store, tensors: Sequence[str], labels: ArrayLike, *, threads: int = 0) -> NDArray[np.float64]:
    """Mean of the stored rows of each class, streamed in float64.

    `tensors` names t tensors [n, d] of one shape; `labels`, integer [n], holds classes 0 … c-1, and -1 for rows to
    leave out. Returns float64 [t, c, d]. Errors as for `project`; ValueError too for a class without rows. Rows left
    out may hold anything.
    """
    return _kernels.class_means(_paths(path), list(tensors), _integers("labels", labels, np.int32), _threads(threads))


def gram(path: Store, tensors: Sequence[str], *, threads: int = 0) -> NDArray[np.float64]:
    """Gram matrices X·Xᵀ of stored rows, uncentred, in float64.

    `tensors` names t tensors [n, d] of one shape. Returns float64 [t, n, n], symmetric to the bit. Memory: the output,
    and for each thread 512 rows in float64. Time grows with n²·d. Errors as for `project`.
    """
    return _kernels.gram(_paths(path), list(tensors), _threads(threads))


@dataclass(frozen=True)
class Moments:
    """Counts, means and scatter matrices of classes, which combine over shards or languages as if read at once."""

    counts: NDArray[np.int64]
    """[c] rows of each class."""
    means: NDArray[np.float64]
    """[t, c, d]."""
    scatter: NDArray[np.float64]
    """[t, c, d, d]: Σ (x − mean)(x − mean)ᵀ over the rows of a class."""

    def covariances(self) -> NDArray[np.float64]:
        """Unbiased covariance of each class, scatter / (count − 1), [t, c, d, d]; ValueError for a class of one row."""
        if (self.counts < 2).any():
            raise ValueError(f"class {int(np.argmin(self.counts))} has one row, a covariance needs two")
        covariances: NDArray[np.float64] = self.scatter / (self.counts[:, None, None] - 1)
        return covariances

    @classmethod
    def combine(cls, parts: Sequence[Moments]) -> Moments:
        """Moments of all rows from those of parts, by the pairwise update of Chan, Golub & LeVeque (1983)."""
        if not parts:
            raise ValueError("no moments to combine")
        shapes = {part.scatter.shape for part in parts}
        if len(shapes) > 1:
            raise ValueError(f"moments of different shapes [t, c, d, d]: {sorted(shapes)}")
        counts, means, scatter = parts[0].counts, parts[0].means.copy(), parts[0].scatter.copy()
        for part in parts[1:]:
            total = counts + part.counts
            delta = part.means - means
            weights = counts * (part.counts / total)
            scatter += part.scatter
            for tensor, label in np.ndindex(delta.shape[:2]):
                scatter[tensor, label] += weights[label] * np.outer(delta[tensor, label], delta[tensor, label])
            means += delta * (part.counts / total)[:, None]
            counts = total
        return cls(counts, means, scatter)


def moments(path: Store, tensors: Sequence[str], labels: ArrayLike | None = None, *, threads: int = 0) -> Moments:
    """Counts, means and scatter matrices of stored rows by class, in float64.

    `tensors` names t tensors [n, d] of one shape; `labels`, integer [n], holds classes 0 … c-1, and -1 for rows to
    leave out; without labels all rows are one class. Reads twice, means first, so that means far from 0 cost no
    digits. Memory: the output, and for each class 256 rows in float64. Time grows with n·d². Errors as for
    `class_means`.
    """
    classes = None if labels is None else _integers("labels", labels, np.int32)
    counts, means, scatter = _kernels.moments(_paths(path), list(tensors), classes, _threads(threads))
    return Moments(counts.astype(np.int64), means, scatter)


def auc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, threads: int = 0) -> Any:
    """Area under the ROC curve: the share of harmful-harmless pairs in which the harmful row scores higher.

    `scores` [n] gives a float, [m, n] gives float64 [m]; `labels` bool [n]; `weights` ≥ 0 [n]. A tied pair counts
    half (mid-ranks: Hanley & McNeil 1982; DeLong et al. 1988), so constant scores give 0.5. Without weights the pairs
    are counted exactly. ValueError for NaN, infinities and a single class.
    """
    return _rank("auc", scores, labels, weights, threads)


def average_precision(
    scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, *, threads: int = 0
) -> Any:
    """Average precision: the sum over distinct scores, from the top, of recall gained × precision.

    Shapes and errors as for `auc`. Tied rows enter together, so their order doesn't matter and constant scores give
    the share of harmful rows. No interpolation; the definition of scikit-learn's `average_precision_score`.
    """
    return _rank("average_precision", scores, labels, weights, threads)


def placements(scores: ArrayLike, labels: ArrayLike, *, threads: int = 0) -> NDArray[np.float64]:
    """Where each row stands among the rows of the other class, float64 of the shape of `scores`, [n] or [m, n].

    For a harmful row the share of harmless rows below it, for a harmless row the share of harmful rows above it, ties
    counting half. Their mean over either class is the AUC, and their variances over both give its standard error
    (DeLong, DeLong & Clarke-Pearson 1988). Errors as for `auc`.
    """
    values = _floats("scores", scores, (1, 2))
    found = _kernels.placements(np.atleast_2d(values), _booleans("labels", labels), _threads(threads))
    return found[0] if values.ndim == 1 else found


@dataclass(frozen=True)
class Roc:
    """A ROC curve, from the strictest threshold to the laxest; float64 [points] each.

    A point flags the rows with score ≥ its threshold; the first threshold is +∞.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def roc(scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> Roc:
    """The whole ROC curve of `scores` [n]: a point for each distinct score, and the origin. Errors as for `auc`."""
    return Roc(*_kernels.roc(_floats("scores", scores, (1,)), _booleans("labels", labels), _weights(weights)))


def caliper_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    covariate: ArrayLike,
    stratum: ArrayLike,
    caliper: float,
    *,
    threads: int = 0,
) -> tuple[Any, int]:
    """AUC over matched harmful-harmless pairs only, and the number of such pairs.

    A pair is matched when its `stratum` (integer [n], such as the class of final punctuation) is equal and its
    `covariate` [n] (such as log length) differs by at most `caliper` ≥ 0. `scores` [n] gives a float, [m, n] float64
    [m]; NaN when no pair is matched. The rank-based twin of weighting to matched prompts: what such a surface cue
    alone could tell apart doesn't count. Time grows with the number of pairs. Errors as for `auc`.
    """
    values = _floats("scores", scores, (1, 2))
    areas, pairs = _kernels.caliper_auc(
        np.atleast_2d(values),
        _booleans("labels", labels),
        _floats("covariate", covariate, (1,)),
        _integers("stratum", stratum, np.int64),
        float(caliper),
        _threads(threads),
    )
    return (float(areas[0]) if values.ndim == 1 else areas), pairs


@dataclass(frozen=True)
class Threshold:
    """The best threshold and the objective's value there: two floats and a bool, or for m methods arrays [m].

    `informative` is False when no threshold beats flagging everything, as with constant scores; the threshold is then
    the next float below the lowest score.
    """

    threshold: Any
    value: Any
    informative: Any


def sweep_threshold(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    objective: Objective = "macro_f1",
    weights: ArrayLike | None = None,
    *,
    threads: int = 0,
) -> Threshold:
    """The threshold that maximises an objective: every one that changes a decision is tried, in O(n log n).

    `scores` [n] gives floats, [m, n] (methods that share everything else) arrays [m]; `labels` bool [n], `groups`
    integer [n] (languages), `weights` ≥ 0 [n]. Candidates are the next float below the lowest score, the midpoints
    between neighbouring distinct scores (or, between neighbouring floats, the lower of them) and the next float above
    the highest; the first maximum in that order wins, values within 1e-12 counting as equal. One below the lowest score
    flags all rows given, as -∞ would, but not a further row that lies lower still. The objective is the mean over
    groups of

    - "macro_f1": F1 of the harmful class,
    - "balanced_f1": F1 with each class weighted to one half, 2·tpr / (tpr + fpr + 1),
    - "balanced_accuracy": (tpr + 1 - fpr) / 2.

    With weights, counts are sums of weights (matched prompts), and a row of weight 0 is as if it were absent.
    ValueError for NaN, infinities, and a group in which a class has no rows or no weight.
    """
    values = _floats("scores", scores, (1, 2))
    found = _kernels.sweep_threshold(
        np.atleast_2d(values),
        _booleans("labels", labels),
        None if groups is None else _integers("groups", groups, np.int64),
        _weights(weights),
        objective,
        _threads(threads),
    )
    return Threshold(*(part[0].item() for part in found)) if values.ndim == 1 else Threshold(*found)


@dataclass(frozen=True)
class Intervals:
    """Estimates with bootstrap intervals, float64 [methods, groups] each; an axis that is averaged has length 1.

    `replicates`, float64 [resamples, methods, groups], holds the estimate on each resample (NaN where a resample
    lacks a class in a group, which can only happen when clusters don't cover every group).
    """

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    replicates: NDArray[np.float64]


def bootstrap(
    statistic: Statistic,
    values: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    average: Average = "none",
    reference: int | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    interval: Interval = "percentile",
    seed: int = 0,
    threads: int = 0,
) -> Intervals:
    """Bootstrap intervals, stratified by class, paired over methods, clustered by prompt.

    `values` [m, n] (or [n] for one method) are scores for "auc" and "average_precision", decisions 0 or 1 for "f1" and
    "balanced_accuracy", any numbers for "rate" (their mean) and "selectivity" (mean of harmful minus mean of harmless
    rows); NaN where a method lacks a row. `labels` bool [n] (may be left out for "rate"), `groups` integer [n]
    (languages; columns of the result in ascending order), `weights` ≥ 0 [n].

    A resample draws, within each class, as many clusters as there are, with replacement; all methods and groups of a
    resample share them. `clusters` integer [n] are prompt ids, the same in every language; without them each row is
    drawn by itself within its group and class. `average` takes the mean over "groups", "methods" or "both" within
    each resample. With `reference` every value is the difference to that method, which `average="methods"` then
    leaves out of the mean. There are at most ten million resamples.

    `interval` is "percentile", "bca" (bias-corrected and accelerated: Efron 1987; acceleration by the jackknife over
    clusters, strata as independent samples: Davison & Hinkley 1997, section 5.3.2) or "studentized". Where a rate is 0
    or 1 every replicate is the same and the interval has length 0: use `wilson` there.

    "studentized" is the bootstrap-t interval (Efron & Tibshirani 1993, chapter 12) for "auc", "balanced_accuracy",
    "rate" and "selectivity", their means and differences; it may reach beyond 0 and 1. Standard errors are those of
    sums over clusters of each row's influence: for the AUC its placement value (DeLong, DeLong & Clarke-Pearson 1988;
    clusters: Obuchowski 1997), for the others its deviation from the mean of its class, with n - 1 in the denominator
    per class. Resamples whose standard error is 0 are left out; where it is 0 on the sample itself, the interval has
    length 0. It covers well from about 60 rows on, and too little for fewer near 0 and 1.

    Resample i draws from stream i of the seed (SplitMix64), so results depend on the seed and the data alone; with
    clusters not even on the order of rows. ValueError for shapes that don't fit, a class missing in a group, a cluster
    of both classes, infinities, decisions other than 0 and 1, "studentized" for another statistic.
    """
    table = np.atleast_2d(_floats("values", values, (1, 2)))
    found = _kernels.bootstrap(
        statistic,
        table,
        None if labels is None else _booleans("labels", labels),
        None if groups is None else _integers("groups", groups, np.int64),
        None if clusters is None else _integers("clusters", clusters, np.int64),
        _weights(weights),
        average,
        None if reference is None else _count("reference", reference),
        _count("resamples", resamples),
        float(confidence),
        interval,
        _count("seed", seed),
        _threads(threads),
    )
    return Intervals(*found)


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for `successes` of `n` > 0 trials: low and high, both within 0 … 1.

    Exactly 0 is its lower end for no success and 1 its upper end for no failure, and it never has length 0, which
    makes it the one to use near 0 and 1.
    """
    return _kernels.wilson(float(successes), float(n), float(confidence))


@dataclass(frozen=True)
class LogisticFits:
    """b fits on r features: the logit of x is weights·(x - mean)/scale + bias.

    `mean`, `scale`, `weights` float64 [b, r]; `bias` float64 [b]; `converged` bool [b], whether the gradient vanished
    (False for "adamw", which stops after its epochs).
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    converged: NDArray[np.bool_]


def fit_logistic(
    source: ArrayLike,
    source_labels: ArrayLike,
    extra: ArrayLike | None = None,
    extra_labels: ArrayLike | None = None,
    *,
    extra_rows: ArrayLike | None = None,
    solver: Solver = "convex",
    initial: ArrayLike | None = None,
    threads: int = 0,
) -> LogisticFits:
    """A batch of logistic regressions, each on the source rows and its own extra rows.

    `source` [n, r], `source_labels` bool [n]; `extra` [b, m, r] and `extra_labels` bool [b, m], both None for a single
    fit (b = 1) on the source rows. `extra_rows` integer [b] is how many of the m each fit has (m by default): those
    after them are padding, never read, so that fits of different sizes are one batch. Features are standardised on all
    rows of the fit (population standard deviation, 1 for a constant feature). Harmful rows weigh negatives / positives
    in the loss.

    - "convex": to convergence on the loss summed over rows + ½·0.01·|weights|² (scikit-learn's C = 100); the bias is
      free. Finite on separable data, independent of `initial`. Newton's method on the source rows, once; each fit
      starts there and takes quasi-Newton steps (BFGS, from the exact Hessian: Nocedal & Wright 2006), or else Newton's
      with backtracking from 0. A fit depends on the source rows and its own, not on the batch.
    - "adamw": 80 full-batch epochs of AdamW (Loshchilov & Hutter 2019; learning rate .05, decoupled decay .01 on
      weights and bias, betas .9 and .999, epsilon 1e-8) on the mean loss, step for step as torch.optim.AdamW with
      BCEWithLogitsLoss(pos_weight), in float64. Starts from `initial` [r] (0 by default) and bias 0.

    ValueError for shapes that don't fit, NaN, infinities, and a fit of a single class.
    """
    rows = _floats("source", source, (2,))
    if (extra is None) != (extra_labels is None):
        raise ValueError("extra and extra_labels go together: give both or neither")
    own = np.zeros((1, 0, rows.shape[1])) if extra is None else _floats("extra", extra, (3,))
    own_labels = np.zeros((1, 0), bool) if extra_labels is None else _booleans("extra_labels", extra_labels, 2)
    if own.shape[:2] != own_labels.shape or own.shape[2] != rows.shape[1]:
        raise ValueError(
            f"extra has shape {own.shape} and extra_labels {own_labels.shape}, "
            f"expected [b, m, {rows.shape[1]}] and [b, m]"
        )
    counts = None if extra_rows is None else _integers("extra_rows", extra_rows, np.int64)
    start = None if initial is None else _floats("initial", initial, (1,))
    labels = _booleans("source_labels", source_labels)
    return LogisticFits(*_kernels.fit_logistic(rows, labels, own, own_labels, counts, solver, start, _threads(threads)))


def _rank(metric: str, scores: ArrayLike, labels: ArrayLike, weights: ArrayLike | None, threads: int) -> Any:
    values = _floats("scores", scores, (1, 2))
    found = _kernels.rank(
        metric, np.atleast_2d(values), _booleans("labels", labels), _weights(weights), _threads(threads)
    )
    return float(found[0]) if values.ndim == 1 else found


def _paths(path: Store) -> list[str]:
    return [os.fspath(path)] if isinstance(path, str | os.PathLike) else [os.fspath(part) for part in path]


def _floats(name: str, values: ArrayLike, dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    array = _unmasked(name, values)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {array.dtype}, expected float64 or what widens to it")
    _check_dimensions(name, array, dimensions)
    if array.dtype.kind in "iu" and array.size and not -(2**53) <= int(array.min()) <= int(array.max()) <= 2**53:
        raise ValueError(f"{name} holds integers beyond 2⁵³, which float64 can't tell apart")
    return np.ascontiguousarray(array, np.float64)


def _booleans(name: str, values: ArrayLike, dimensions: int = 1) -> NDArray[np.bool_]:
    array = _unmasked(name, values)
    if array.dtype != np.bool_:
        raise ValueError(f"{name} has dtype {array.dtype}, expected bool")
    _check_dimensions(name, array, (dimensions,))
    return np.ascontiguousarray(array)


def _integers(name: str, values: ArrayLike, dtype: type[np.int32] | type[np.int64]) -> NDArray[Any]:
    array = _unmasked(name, values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {array.dtype}, expected integers")
    _check_dimensions(name, array, (1,))
    limits = np.iinfo(dtype)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise ValueError(f"{name} exceeds the range of {limits.dtype}")
    return np.ascontiguousarray(array, dtype)


def _weights(weights: ArrayLike | None) -> NDArray[np.float64] | None:
    """Weights over a power of two: ratios keep every bit, and no product of two leaves the range of float64."""
    if weights is None:
        return None
    values = _floats("weights", weights, (1,))
    if not values.size or not np.all((values >= 0) & (values < np.inf)):
        return values
    with np.errstate(over="ignore"):
        if values.sum() == np.inf:
            raise ValueError("weights sum to inf, expected a finite number: divide them by a constant")
    scaled: NDArray[np.float64] = np.ldexp(values, -np.frexp(values.max())[1])
    return scaled


def _unmasked(name: str, values: ArrayLike) -> NDArray[Any]:
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries, which would count as numbers: leave them out")
    return np.asarray(values)


def _check_dimensions(name: str, array: NDArray[Any], dimensions: tuple[int, ...]) -> None:
    if array.ndim not in dimensions:
        expected = " or ".join(str(dimension) for dimension in dimensions)
        raise ValueError(f"{name} has shape {array.shape}, expected {expected} dimension{'s' * (expected != '1')}")


def _count(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} is {value!r}, expected an integer ≥ 0")
    if value >= 2**63:
        raise ValueError(f"{name} is {value}, expected an integer below 2⁶³")
    return int(value)


def _threads(threads: int) -> int:
    return _count("threads", threads)
