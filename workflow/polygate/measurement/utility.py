"""How well a task with options is answered, read off the options' logits where the answer would begin.

All functions take `logits` float64 [n, k], -inf where a question has fewer than k options, and give float64 [n];
`right` int64 [n] is the place of the right option. Every question has at least two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def padded(logits: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Logits of n questions with a number of options each, as [n, k] for the largest number k."""
    found = np.full((len(logits), max(map(len, logits), default=0)), -np.inf)
    for row, values in enumerate(logits):
        found[row, : len(values)] = values
    return found


def accuracy(logits: NDArray[np.float64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where the right option has the largest logit, 0 where it has not; of t equally large ones, 1/t.

    Half-precision logits tie often, and the order of the options must not decide.
    """
    largest = logits == logits.max(axis=1, keepdims=True)
    return np.asarray(_at(largest, right) / largest.sum(axis=1))


def margin(logits: NDArray[np.float64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logit of the right option less the largest of the wrong ones."""
    wrong = logits.copy()
    wrong[np.arange(len(wrong)), right] = -np.inf
    found: NDArray[np.float64] = _at(logits, right) - wrong.max(axis=1)
    return found


def entropy(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of the choice among the options (softmax of their logits), in nats: 0 to ln k."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = odds / odds.sum(axis=1, keepdims=True)
    terms: NDArray[np.float64] = np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0)
    return np.asarray(-terms.sum(axis=1))


def chance(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy of drawing lots: one by the number of options."""
    return np.asarray(1.0 / np.isfinite(logits).sum(axis=1))


def _at(values: NDArray[np.generic], right: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(values[np.arange(len(values)), right], np.float64)
