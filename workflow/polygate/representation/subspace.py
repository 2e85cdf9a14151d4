"""The low-rank harmfulness subspace of the source languages: singular vectors of their stacked directions.

Method: each language's difference-in-means direction is normalised, the directions of the source languages are
stacked and decomposed without centring (centring would remove what they share, which is the signal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Subspace:
    """Right singular vectors of a stack of s directions, in the order of their singular values.

    `basis` is float64 [r, d], orthonormal rows; `singular_values` float64 [r]. For unit directions the squared
    singular values sum to s over all ranks: s in the first alone when the languages share one direction.
    """

    basis: NDArray[np.float64]
    singular_values: NDArray[np.float64]


def subspace(directions: NDArray[np.float64], rank: int, towards: NDArray[np.float64]) -> Subspace:
    """The first `rank` right singular vectors of `directions` [s, d], uncentred; at most s of them.

    Signs of singular vectors are arbitrary, and an optimiser run for a fixed number of steps depends on them: each
    row is turned so that `towards` [d] (the pivot's direction) has a positive component on it.
    """
    _, values, rows = np.linalg.svd(np.asarray(directions, np.float64), full_matrices=False)
    kept = min(rank, len(rows))
    return Subspace(orient(rows[:kept], towards), values[:kept])


def orient(rows: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.float64]:
    """`rows` [r, d], each negated where needed so that its inner product with `towards` [d] is positive.

    A row orthogonal to `towards` (within rounding) has its largest component made positive instead.
    """
    along = rows @ towards
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]
    undecided = np.abs(along) < 1e-9 * np.linalg.norm(towards)
    turned: NDArray[np.float64] = rows * np.where(np.where(undecided, largest, along) < 0, -1.0, 1.0)[:, None]
    return turned
