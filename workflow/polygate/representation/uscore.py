"""U-Score: how far a language's prompts lie nearer to their own English translation than to other English prompts.

At a layer, with the representations (mean over a prompt's tokens) of n prompts in the pivot language and in another
one, U = mean cosine of the n translated pairs − mean cosine of the n·(n − 1) pairs that are no translations, per class
(harmful, harmless), averaged over the classes (OMNIGuard, Verma et al. 2025, arXiv 2505.23856). It lies between −2 and
2, and is 0 where a translation is no nearer than any other prompt.

Each prompt has its part of both means, so that U is a mean over prompts: of `pair`, the cosine with its translation,
less `apart`, the mean cosine of it with the others' translations and of its translation with the others. The sum of all
cosines is the product of two sums of unit vectors: nothing of size n² is formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.prompts.table import SUBSETS, PromptTable, TableSplit
from polygate.representation.store import ActivationStore
from polygate.settings.types import Tier

POSITION = "mean"
SPLITS: tuple[TableSplit, ...] = ("train", "test")
"""Train prompts choose a layer, test prompts are reported."""
SCHEMA = pa.schema(
    [
        ("language", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("layer", pa.int16()),
        ("pair", pa.float64()),
        ("apart", pa.float64()),
    ]
)
"""Of every prompt of a language: cosine with its translation, mean cosine with what is none (see `Likeness`)."""
CHOOSING: tuple[Tier, ...] = ("high", "mid")
"""Tiers whose languages choose a layer: the first that has any."""
FEWEST = 2
"""Pairs per class without which there are no non-pairs."""
_TINY = 1e-30


@dataclass(frozen=True)
class Likeness:
    """Of n prompts, float64 [n]: cosine with the translation, and mean cosine with what is no translation."""

    pair: NDArray[np.float64]
    apart: NDArray[np.float64]

    @property
    def score(self) -> float:
        """U of these prompts, of one class."""
        return float((self.pair - self.apart).mean())

    @property
    def influence(self) -> NDArray[np.float64]:
        """What each prompt adds to U by being drawn, [n], with squares that sum to the variance of U.

        U is a statistic of pairs of prompts; each prompt takes part in its own row and column, so that its `apart`
        counts twice (Hoeffding 1948).
        """
        each = self.pair - 2 * self.apart
        n = len(each)
        found: NDArray[np.float64] = (each - each.mean()) / np.sqrt(n * (n - 1))
        return found


def likeness(pivot: NDArray[np.float32], other: NDArray[np.float32]) -> Likeness:
    """Of representations of the same n prompts, in the same order: `pivot`, `other` float32 [n, d], n ≥ 2."""
    a, b = _unit(pivot), _unit(other)
    n = len(a)
    pair = np.einsum("ij,ij->i", a, b, dtype=np.float64)
    to_others = a @ b.sum(axis=0, dtype=np.float64) + b @ a.sum(axis=0, dtype=np.float64)
    return Likeness(pair, (to_others - 2 * pair) / (2 * (n - 1)))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    wide /= np.maximum(length, _TINY)[:, None]
    return wide


@dataclass(frozen=True)
class Shared:
    """The prompts of one split and class that both languages have: `ids` [n], rows in either store int64 [n]."""

    ids: tuple[str, ...]
    pivot: NDArray[np.int64]
    other: NDArray[np.int64]


def shared_prompts(pivot: PromptTable, other: PromptTable, split: TableSplit) -> Mapping[str, Shared]:
    """By class, in the order of the pivot's table; multiple-choice prompts left out, classes of a single one too."""
    found: dict[str, Shared] = {}
    for subset in SUBSETS:
        there = {other.ids[row]: row for row in other.select(split, subset).tolist()}
        rows = [row for row in pivot.select(split, subset).tolist() if pivot.ids[row] in there]
        ids = tuple(pivot.ids[row] for row in rows)
        if len(ids) >= FEWEST:
            found[subset] = Shared(ids, np.array(rows, np.int64), np.array([there[name] for name in ids], np.int64))
    return found


def by_layer(
    pivot: PromptTable, pivot_store: ActivationStore, others: Sequence[tuple[PromptTable, ActivationStore]]
) -> pa.Table:
    """Long table (`SCHEMA`) of the train and test prompts that each of `others` shares with the pivot.

    Sorted by split, layer, language, class, then prompt. Empty where no language shares prompts with the pivot. Raises
    `PolygateError` when a store lacks a layer or the position, is of another width, or holds what is not finite.
    """
    for _, store in others:
        if store.width != pivot_store.width:
            raise PolygateError(
                f"activations of width {store.width}, but {pivot_store.width} in {pivot_store.language}",
                where=store.path,
                do="delete the file and rerun",
            )
    parts = []
    for split in SPLITS:
        shared = [(own, store, shared_prompts(pivot, own, split)) for own, store in others]
        for layer in range(pivot_store.layers):
            theirs = _Pivot.read(pivot, pivot_store, split, layer)
            for own, store, classes in shared:
                for subset, prompts in classes.items():
                    found = likeness(theirs.rows(prompts.pivot), _read(store, layer, prompts.other))
                    parts.append(_columns(own.language, split, subset, layer, prompts.ids, found))
    return pa.concat_tables([SCHEMA.empty_table(), *parts])


@dataclass(frozen=True)
class _Pivot:
    """The pivot's representations of a split at a layer, read once for all languages: [n, d], and the place of rows."""

    values: NDArray[np.float32]
    place: Mapping[int, int]

    @classmethod
    def read(cls, prompts: PromptTable, store: ActivationStore, split: TableSplit, layer: int) -> _Pivot:
        rows = prompts.select(split)
        return cls(_read(store, layer, rows), {row: place for place, row in enumerate(rows.tolist())})

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.values[[self.place[row] for row in rows.tolist()]]


def _read(store: ActivationStore, layer: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = store.read(layer, POSITION, rows)
    store.check_finite(values, layer, rows)
    return values


def _columns(language: str, split: str, subset: str, layer: int, ids: Sequence[str], found: Likeness) -> pa.Table:
    n = len(ids)
    columns = {
        "language": [language] * n,
        "prompt_id": list(ids),
        "split": [split] * n,
        "subset": [subset] * n,
        "layer": np.full(n, layer, np.int16),
        "pair": found.pair,
        "apart": found.apart,
    }
    return pa.table(columns, SCHEMA)


def best_layer(table: pa.Table, tiers: Mapping[str, Tier]) -> int | None:
    """The layer with the highest mean U-Score of train prompts over the high-resource languages, the first of equals.

    `table` as `by_layer` makes it, `tiers` of its languages. Over the mid-resource ones where no high-resource language
    shares train prompts with the pivot; None where these don't either.
    """
    scores = layer_scores(table, "train")
    for tier in CHOOSING:
        each: dict[int, list[float]] = {}
        for (language, layer), value in scores.items():
            if tiers[language] == tier:
                each.setdefault(layer, []).append(value)
        if each:
            means = {layer: round(float(np.mean(values)), 12) for layer, values in each.items()}
            return min(means, key=lambda layer: (-means[layer], layer))
    return None


def layer_scores(table: pa.Table, split: TableSplit) -> dict[tuple[str, int], float]:
    """U-Scores of the prompts of a split by language and layer, averaged over the classes."""
    rows = table.filter(pc.equal(table["split"], split))
    rows = rows.append_column("score", pc.subtract(rows["pair"], rows["apart"]))
    means = rows.group_by(["language", "layer", "subset"], use_threads=False).aggregate([("score", "mean")])
    each: dict[tuple[str, int], list[float]] = {}
    for row in means.to_pylist():
        each.setdefault((row["language"], row["layer"]), []).append(row["score_mean"])
    return {place: float(np.mean(classes)) for place, classes in each.items()}
