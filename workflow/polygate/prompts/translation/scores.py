"""BLEU and chrF++ with sacrebleu, kept as its statistics per prompt, so that any set of prompts can be scored anew.

Both are scores of a corpus: sums over prompts of counts of n-grams (`statistics`), and a formula of these sums. The
counts are sacrebleu's, and so are the formulas (Post 2018; Popović 2015, 2017), computed here for many resamples at
once; a test compares them with sacrebleu's own scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError

ORDERS = 4
"""Longest n-gram of BLEU, in words."""
BETA = 2.0
"""How much more recall weighs than precision in chrF."""


@dataclass(frozen=True)
class Counted:
    """Statistics of n pairs of texts: `bleu` int64 [n, 10], `chrf` int64 [n, 24], and how sacrebleu signs each."""

    bleu: NDArray[np.int64]
    chrf: NDArray[np.int64]
    signatures: Mapping[str, str]


def metrics() -> dict[str, Any]:
    """sacrebleu's BLEU and chrF++ as they come; `PolygateError` when it is not installed."""
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError as error:
        raise PolygateError(
            f"the Python package sacrebleu can't be used ({error})",
            do="run `make install`, or `pip install sacrebleu`",
        ) from None
    return {"bleu": BLEU(), "chrf": CHRF(word_order=2)}


def count(found: Sequence[str], sources: Sequence[str]) -> Counted:
    """Statistics of back-translations `found` against what they should say again, pair by pair."""
    kinds = metrics()
    arrays = {}
    for name, kind in kinds.items():
        # Signatures name the number of references, which a score must have been made for.
        kind.corpus_score([""], [[""]])
        rows = kind._extract_corpus_statistics(list(found), [list(sources)])
        arrays[name] = np.asarray(rows, np.int64)
    signatures = {name: kind.get_signature().format() for name, kind in kinds.items()}
    return Counted(arrays["bleu"], arrays["chrf"], signatures)


def bleu(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Corpus BLEU, 0 to 1, float64 [...], from sums of statistics [..., 10]: lengths of the translation and of the
    source, n-grams that are right and all n-grams, each of 1 to 4 words. Orders without a match are smoothed as
    mteval-v13a does (sacrebleu's `exp`); without any match at all it is 0."""
    sums = np.asarray(sums, np.float64)
    length, wanted = sums[..., 0], sums[..., 1]
    right, total = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    halvings = np.cumsum(right == 0, axis=-1)
    smoothed = np.where(right > 0, right, 0.5**halvings)
    defined = (total > 0).all(axis=-1) & (right > 0).any(axis=-1)
    logs = np.log(np.where(total > 0, smoothed / np.maximum(total, 1), 1.0)).mean(axis=-1)
    brevity = np.minimum(0.0, 1 - wanted / np.maximum(length, 1))
    return np.asarray(np.where(defined, np.exp(brevity + logs), 0.0))


def chrf(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Corpus chrF++, 0 to 1, float64 [...], from sums of statistics [..., 24]: n-grams of the translation, of the
    source and of both, for 1 to 6 characters and 1 to 2 words. Orders that one side lacks are left out."""
    sums = np.asarray(sums, np.float64)
    made, wanted, both = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    there = (made > 0) & (wanted > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision, recall = (
        np.where(there, both / np.maximum(side, 1), 0.0).sum(axis=-1) / orders for side in (made, wanted)
    )
    below = BETA**2 * precision + recall
    return np.asarray(np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0), 0.0))
