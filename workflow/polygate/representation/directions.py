"""Harmfulness directions: difference in means per language, and the high-resource direction v_HRL.

All statistics are taken at the last token of the whole prompt (t_post_inst) over train rows, multiple-choice
prompts left out, and computed in float64; only the finished unit vectors are stored as float32, for a vector
normalised in bfloat16 is off by 1.5e-3.

A target language never lends a prompt to the directions it is tested with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate import files, kernels
from polygate.errors import PolygateError
from polygate.prompts.table import SUBSETS, PromptTable
from polygate.representation.store import ActivationStore
from polygate.representation.subspace import subspace

if TYPE_CHECKING:
    import pyarrow as pa

POSITION = "t_post_inst"
"""Where everything is measured: the last token of the whole prompt, chat template included."""
SCORERS = ("v_hrl", "v_hrl_pooled", "local")
"""Scorers of a projections table: pc1_of_diffs, pooled_dim, and the language's own direction."""
ESTIMATORS = {
    "v_hrl": "pc1_of_diffs",
    "direction": "pc1_of_diffs",
    "v_hrl_pooled": "pooled_dim",
    "local": "difference_in_means",
    "full_local": "difference_in_means",
    "target": "difference_in_means",
    "permuted": "difference_in_means",
}
"""How the direction that a scorer or probe reads was estimated; others read no single direction, or a random one."""


@dataclass(frozen=True)
class ClassMeans:
    """Mean activations of one language's train prompts.

    `harmful`, `harmless`: float64 [L, d] over layers; `counts`: how many prompts of each class; `metadata`: what the
    file that they were read from says of itself.
    """

    harmful: NDArray[np.float64]
    harmless: NDArray[np.float64]
    counts: tuple[int, int]
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)

    def save(
        self,
        path: str | Path,
        language: str,
        provenance: Mapping[str, Any],
        of: Mapping[str, object] | None = None,
    ) -> None:
        """Write as safetensors (`harmful`, `harmless`, `counts`); `of`: see `files.write_safetensors`."""
        tensors = {"harmful": self.harmful, "harmless": self.harmless, "counts": np.array(self.counts, np.int64)}
        files.write_safetensors(path, tensors, {"language": language, "position": POSITION}, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> ClassMeans:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        _expect(path, tensors, "harmful", "harmless", "counts")
        files.expect(path, metadata, **wanted)
        with files.understood(path, "class means"):
            harmful, harmless = (int(count) for count in tensors["counts"])
        return cls(tensors["harmful"], tensors["harmless"], (harmful, harmless), metadata)


@dataclass(frozen=True)
class Directions:
    """Directions for one target language at every layer, all rows of unit length, float32.

    `pc1_of_diffs`, `pooled_dim` [L, d]: v_HRL by its two estimators, from `sources`; `local` [L, d]: the target's own
    difference in means; `basis` [L, R, d]: the harmfulness subspace, orthonormal rows; `singular_values` [L, R]
    float64 of the stacked source directions; `metadata`: what the file that they were read from says of itself.
    """

    target: str
    sources: tuple[str, ...]
    pc1_of_diffs: NDArray[np.float32]
    pooled_dim: NDArray[np.float32]
    local: NDArray[np.float32]
    basis: NDArray[np.float32]
    singular_values: NDArray[np.float64]
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors, target and sources in the metadata; `of`: see `files.write_safetensors`."""
        names = ("pc1_of_diffs", "pooled_dim", "local", "basis", "singular_values")
        metadata = {"language": self.target, "sources": json.dumps(self.sources), "position": POSITION}
        files.write_safetensors(path, {name: getattr(self, name) for name in names}, metadata, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> Directions:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        names = ("pc1_of_diffs", "pooled_dim", "local", "basis", "singular_values")
        _expect(path, tensors, *names)
        if not {"language", "sources"} <= metadata.keys():
            raise PolygateError("not directions of a target language", where=path, do="delete the file and rerun")
        files.expect(path, metadata, **wanted)
        with files.understood(path, "directions of a target language"):
            sources = tuple(json.loads(metadata["sources"]))
        arrays = {name: tensors[name] for name in names}
        return cls(metadata["language"], sources, **arrays, metadata=metadata)

    def check_sources(self, sources: Sequence[str], where: str | Path) -> None:
        """`PolygateError` unless the directions are from these sources, in this order and without the target."""
        if self.target in sources or self.sources != tuple(sources):
            what = f"directions for {self.target} are from {list(self.sources)}, not from {list(sources)}"
            raise PolygateError(what, where=where)


def class_means(activations: ActivationStore, prompts: PromptTable) -> ClassMeans:
    """Class means over the train rows of one language, multiple-choice prompts left out.

    Raises `PolygateError` when a class has no train prompt or an activation is not finite.
    """
    labels, counts = train_classes(prompts)
    tensors = [activations.kernels_name(layer, POSITION) for layer in range(activations.layers)]
    with explained(activations):
        means = kernels.class_means(activations.path, tensors, labels)
    return ClassMeans(means[:, 0], means[:, 1], counts)


def train_classes(prompts: PromptTable) -> tuple[NDArray[np.int32], tuple[int, int]]:
    """What class means are taken over: int32 [n], 0 harmful, 1 harmless, -1 left out; and how many of each class.

    Raises `PolygateError` when a class has no train prompt.
    """
    labels = np.full(len(prompts), -1, dtype=np.int32)
    counts = []
    for label, subset in enumerate(SUBSETS):
        rows = prompts.select("train", subset)
        if not len(rows):
            raise PolygateError(
                f"language {prompts.language} has no {subset} train prompts, so it has no direction",
                do="add them, or take the language out of the settings",
            )
        labels[rows] = label
        counts.append(len(rows))
    return labels, (counts[0], counts[1])


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """`vectors` [..., d] scaled to Euclidean length 1, in float64. Raises `PolygateError` for a vector of length 0."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise PolygateError("a direction of length 0: harmful and harmless prompts have the same mean activation")
    scaled: NDArray[np.float64] = wide / lengths
    return scaled


def difference_in_means(means: ClassMeans) -> NDArray[np.float64]:
    """d_l = mean(harmful) − mean(harmless), unit length, float64 [L, d]."""
    return unit(means.harmful - means.harmless)


def pooled_dim(means: Sequence[ClassMeans]) -> NDArray[np.float64]:
    """v_HRL as the difference in means over all source prompts pooled, unit length, float64 [L, d].

    Means of languages are weighted by their prompts, so a language that lacks a part counts for less.
    """
    harmful = _weighted([m.harmful for m in means], [m.counts[0] for m in means])
    harmless = _weighted([m.harmless for m in means], [m.counts[1] for m in means])
    return unit(harmful - harmless)


def _weighted(values: Sequence[NDArray[np.float64]], counts: Sequence[int]) -> NDArray[np.float64]:
    total = sum(value * count for value, count in zip(values, counts, strict=True))
    mean: NDArray[np.float64] = np.asarray(total, np.float64) / sum(counts)
    return mean


def pc1_of_diffs(differences: NDArray[np.float64], towards: NDArray[np.float64]) -> NDArray[np.float64]:
    """v_HRL as the top right singular vector of the uncentred stack `differences` [s, d] of unit d_l, float64 [d].

    Its sign is that of `towards` [d], the pivot's direction.
    """
    first: NDArray[np.float64] = subspace(differences, 1, towards).basis[0]
    return first


def for_target(target: str, sources: Mapping[str, ClassMeans], own: ClassMeans, *, pivot: str, rank: int) -> Directions:
    """Every direction for `target` from its `sources`, which must not hold it. `rank` is clipped to their number.

    The pivot's direction orients signs; the first source's does when the pivot is the target itself.
    """
    check_sources(target, sources)
    shapes = {name: means.harmful.shape for name, means in {target: own, **sources}.items()}
    if len(set(shapes.values())) > 1:
        raise PolygateError(f"activations of different shapes [layers, width]: {shapes}")
    differences, towards = stacked(sources, pivot)
    layers = range(differences.shape[1])
    spaces = [subspace(differences[:, layer], rank, towards[layer]) for layer in layers]
    basis = np.stack([space.basis for space in spaces])
    return Directions(
        target=target,
        sources=tuple(sources),
        pc1_of_diffs=basis[:, 0].astype(np.float32),
        pooled_dim=pooled_dim(list(sources.values())).astype(np.float32),
        local=difference_in_means(own).astype(np.float32),
        basis=basis.astype(np.float32),
        singular_values=np.stack([space.singular_values for space in spaces]),
    )


def check_sources(target: str, sources: Mapping[str, object]) -> None:
    """`PolygateError` when a target is among its own sources, or has none."""
    if target in sources:
        raise PolygateError(f"target language {target} is among its own sources {list(sources)}")
    if not sources:
        raise PolygateError(f"target language {target} has no source languages")


def stacked(sources: Mapping[str, ClassMeans], pivot: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The directions of `sources`, [s, L, d], and the one that orients signs, [L, d]: the pivot's, or the first."""
    differences = np.stack([difference_in_means(means) for means in sources.values()])
    return differences, difference_in_means(sources.get(pivot, next(iter(sources.values()))))


def projections(activations: ActivationStore, prompts: PromptTable, directions: Directions) -> pa.Table:
    """Projections of val and test prompts on every direction at every layer: a long table, one row per score.

    Columns: prompt_id, split, subset, token_count int32, layer int16, scorer, score float64. Sorted by scorer, layer,
    then prompt.
    """
    import pyarrow as pa

    rows = np.concatenate([prompts.select("val"), prompts.select("test")])
    by_scorer = np.stack([directions.pc1_of_diffs, directions.pooled_dim, directions.local], axis=1)
    tensors = [activations.kernels_name(layer, POSITION) for layer in range(activations.layers)]
    with explained(activations):
        scores = kernels.project(activations.path, tensors, by_scorer)[:, rows].astype(np.float64)
    layers, n = scores.shape[:2]
    repeats = layers * len(SCORERS)
    columns = {
        **prompt_columns(prompts, rows, repeats),
        "token_count": pa.array(np.tile(activations.token_count[rows], repeats), pa.int32()),
        "layer": pa.array(np.tile(np.repeat(np.arange(layers, dtype=np.int16), n), len(SCORERS)), pa.int16()),
        "scorer": pa.array(np.repeat(SCORERS, layers * n).tolist(), pa.string()),
        "score": pa.array(np.moveaxis(scores, 2, 0).reshape(-1), pa.float64()),
    }
    return pa.table(columns).replace_schema_metadata({"language": directions.target})


def prompt_columns(prompts: PromptTable, rows: NDArray[np.int64], times: int) -> dict[str, pa.Array]:
    """prompt_id, split and subset of `rows`, one after the other, `times` over."""
    import pyarrow as pa

    values = {"prompt_id": np.array(prompts.ids), "split": prompts.split, "subset": prompts.subset}
    return {name: pa.array(column[rows].tolist() * times, pa.string()) for name, column in values.items()}


def open_matching(path: str | Path, prompts: PromptTable, model: str | None = None) -> ActivationStore:
    """The activation store of `prompts`; `PolygateError` when it is of others, or of another model."""
    store = ActivationStore.open(path)
    store.check_matches(prompts.ids)
    of = {"dataset": prompts.dataset, "language": prompts.language, "prompts": prompts.fingerprint(), "model": model}
    files.expect(path, store.metadata, **of)
    return store


@contextmanager
def explained(activations: ActivationStore) -> Iterator[None]:
    """Name the store in what a kernel refuses about it: that it is damaged, or activations that are not finite."""
    try:
        yield
    except ValueError as error:
        activations.check_whole()
        raise PolygateError(str(error), where=activations.path, do="delete the file and rerun") from None


def _expect(path: str | Path, tensors: Mapping[str, NDArray[Any]], *names: str) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise PolygateError(f"tensor {missing[0]!r} is missing", where=path, do="delete the file and rerun")
