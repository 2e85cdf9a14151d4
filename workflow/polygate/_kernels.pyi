"""Kernels of polygate; `polygate.kernels` documents them and is what to import."""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bootstrap",
    "caliper_auc",
    "class_means",
    "crc32",
    "fit_logistic",
    "gram",
    "moments",
    "placements",
    "project",
    "rank",
    "roc",
    "sweep_threshold",
    "wilson",
]

def project(
    paths: list[str], tensors: list[str], directions: NDArray[np.float64], per_tensor: bool, threads: int
) -> NDArray[np.float32]: ...
def class_means(
    paths: list[str], tensors: list[str], labels: NDArray[np.int32], threads: int
) -> NDArray[np.float64]: ...
def gram(paths: list[str], tensors: list[str], threads: int) -> NDArray[np.float64]: ...
def moments(
    paths: list[str], tensors: list[str], labels: NDArray[np.int32] | None, threads: int
) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]: ...
def rank(
    metric: str,
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    threads: int,
) -> NDArray[np.float64]: ...
def placements(scores: NDArray[np.float64], labels: NDArray[np.bool_], threads: int) -> NDArray[np.float64]: ...
def roc(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def caliper_auc(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    covariate: NDArray[np.float64],
    stratum: NDArray[np.int64],
    caliper: float,
    threads: int,
) -> tuple[NDArray[np.float64], int]: ...
def sweep_threshold(
    scores: NDArray[np.float64],
    labels: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
    weights: NDArray[np.float64] | None,
    objective: str,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]: ...
def bootstrap(
    statistic: str,
    values: NDArray[np.float64],
    labels: NDArray[np.bool_] | None,
    groups: NDArray[np.int64] | None,
    clusters: NDArray[np.int64] | None,
    weights: NDArray[np.float64] | None,
    average: str,
    reference: int | None,
    resamples: int,
    confidence: float,
    interval: str,
    seed: int,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def crc32(path: str, start: int, length: int) -> int: ...
def wilson(successes: float, n: float, confidence: float) -> tuple[float, float]: ...
def fit_logistic(
    source: NDArray[np.float64],
    source_labels: NDArray[np.bool_],
    extra: NDArray[np.float64],
    extra_labels: NDArray[np.bool_],
    extra_rows: NDArray[np.int64] | None,
    solver: str,
    initial: NDArray[np.float64] | None,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]: ...
