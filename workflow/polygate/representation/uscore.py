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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.prompts.table import SUBSETS, PromptTable, TableSplit
from polygate.representation.store import ActivationStore

POSITION = "mean"
SPLITS: tuple[TableSplit, ...] = ("train", "test")
"""Train prompts choose a layer, test prompts are reported."""
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("layer", pa.int16()),
        ("pair", pa.float64()),
        ("apart", pa.float64()),
    ]
)
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


def layer_likeness(
    pivot: ActivationStore, other: ActivationStore, prompts: Shared, layer: int, position: str = POSITION
) -> Likeness:
    """Of the prompts that two stores share, at a layer.

    Raises `PolygateError` when a store lacks the layer or position, the widths differ, or a value is not finite.
    """
    if pivot.width != other.width:
        raise PolygateError(
            f"activations of width {other.width}, but {pivot.width} in {pivot.language}",
            where=other.path,
            do="delete the file and rerun",
        )
    parts = []
    for store, rows in ((pivot, prompts.pivot), (other, prompts.other)):
        values = store.read(layer, position, rows)
        store.check_finite(values, layer, rows)
        parts.append(values)
    return likeness(*parts)


def by_layer(pivot: PromptTable, pivot_store: ActivationStore, own: PromptTable, store: ActivationStore) -> pa.Table:
    """Long table of train and test prompts: prompt_id, split, subset, layer int16, pair and apart float64.

    Sorted by split, layer, class, then prompt. Empty where the languages share no prompts.
    """
    parts = []
    for split in SPLITS:
        shared = shared_prompts(pivot, own, split)
        for layer in range(store.layers):
            for subset, prompts in shared.items():
                found = layer_likeness(pivot_store, store, prompts, layer)
                n = len(prompts.ids)
                columns = {
                    "prompt_id": list(prompts.ids),
                    "split": [split] * n,
                    "subset": [subset] * n,
                    "layer": np.full(n, layer, np.int16),
                    "pair": found.pair,
                    "apart": found.apart,
                }
                parts.append(pa.table(columns, SCHEMA))
    whole = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    return whole.replace_schema_metadata({"language": own.language})


def best_layer(scores: Mapping[str, pa.Table]) -> int | None:
    """The layer whose U-Score of train prompts is highest on average over `scores`, language → what `by_layer` gives.

    The first of equals; None where none of the languages shares train prompts with the pivot.
    """
    each: dict[int, list[float]] = {}
    for table in scores.values():
        for layer, value in layer_scores(table, "train").items():
            each.setdefault(layer, []).append(value)
    means = {layer: round(float(np.mean(values)), 12) for layer, values in each.items()}
    return min(means, key=lambda layer: (-means[layer], layer), default=None)


def layer_scores(table: pa.Table, split: TableSplit) -> dict[int, float]:
    """U-Score by layer of one language's prompts of a split, averaged over the classes."""
    frame = table.filter(pc.equal(table["split"], split)).to_pandas()
    frame["score"] = frame["pair"] - frame["apart"]
    by_class = frame.groupby(["layer", "subset"])["score"].mean()
    return {int(layer): float(value) for layer, value in by_class.groupby("layer").mean().items()}
