"""Where in the prompt harmfulness is read: the high-resource direction at every token position, fitted there.

At each position that the stores hold and each layer, v_HRL is estimated as `directions` does at t_post_inst: from the
train rows of the source languages at that same position. The target language's prompts are projected on it there.
A target never lends a prompt, nor its class means, to the directions that it is tested with.

That harmfulness and refusal live at different positions was shown in English (Zhao et al. 2025, arXiv 2507.11878).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate import files, kernels
from polygate.errors import PolygateError
from polygate.prompts.table import PromptTable
from polygate.representation.directions import (
    ClassMeans,
    check_sources,
    explained,
    pc1_of_diffs,
    pooled_dim,
    prompt_columns,
    stacked,
    train_classes,
)
from polygate.representation.store import ActivationStore

if TYPE_CHECKING:
    import pyarrow as pa

DIRECTIONS = ("v_hrl", "v_hrl_pooled")
"""The two estimates of v_HRL, pc1_of_diffs and pooled_dim."""


@dataclass(frozen=True)
class PositionMeans:
    """Class means of one language's train prompts, position → means at every layer, in the order of the store."""

    at: Mapping[str, ClassMeans]
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)

    def save(
        self, path: str | Path, language: str, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None
    ) -> None:
        """Write as safetensors: `{position}.harmful`, `{position}.harmless` [L, d], `counts`; `of`: what it is of."""
        tensors: dict[str, NDArray[Any]] = {}
        for position, means in self.at.items():
            tensors[f"{position}.harmful"], tensors[f"{position}.harmless"] = means.harmful, means.harmless
            tensors["counts"] = np.array(means.counts, np.int64)
        metadata = {"language": language, "positions": json.dumps(list(self.at))}
        files.write_safetensors(path, tensors, metadata, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> PositionMeans:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        with files.understood(path, "class means by position"):
            positions = [str(name) for name in json.loads(metadata["positions"])]
            harmful, harmless = (int(count) for count in tensors["counts"])
            at = {
                name: ClassMeans(tensors[f"{name}.harmful"], tensors[f"{name}.harmless"], (harmful, harmless))
                for name in positions
            }
        files.expect(path, metadata, **wanted)
        return cls(at, metadata)


def position_means(activations: ActivationStore, prompts: PromptTable) -> PositionMeans:
    """Class means over the train rows of one language at every position and layer of its store, in one pass over it.

    Multiple-choice prompts are left out. Raises `PolygateError` when a class has no train prompt or an activation is
    not finite.
    """
    labels, counts = train_classes(prompts)
    with explained(activations):
        means = kernels.class_means(activations.path, _tensors(activations), labels)
    by_position = means.reshape(len(activations.positions), activations.layers, 2, activations.width)
    return PositionMeans(
        {
            name: ClassMeans(found[:, 0], found[:, 1], counts)
            for name, found in zip(activations.positions, by_position, strict=True)
        }
    )


def directions_at(sources: Mapping[str, ClassMeans], pivot: str) -> NDArray[np.float32]:
    """v_HRL of `sources` at one position, by both estimators, unit vectors [L, 2, d] in the order of `DIRECTIONS`.

    The pivot's direction orients the sign; the first source's does when the pivot is no source.
    """
    differences, towards = stacked(sources, pivot)
    first = [pc1_of_diffs(differences[:, layer], towards[layer]) for layer in range(differences.shape[1])]
    return np.stack([np.stack(first), pooled_dim(list(sources.values()))], axis=1).astype(np.float32)


def for_target(target: str, sources: Mapping[str, PositionMeans], pivot: str) -> dict[str, NDArray[np.float32]]:
    """Directions for `target` at every position of its sources, which must not hold it: position → [L, 2, d].

    Raises `PolygateError` for a target among its own sources, no source, and sources of other positions or shapes.
    """
    check_sources(target, sources)
    kinds = {name: _kind(means) for name, means in sources.items()}
    if len(set(kinds.values())) > 1:
        raise PolygateError(f"class means of different positions or shapes [layers, width]: {kinds}")
    positions = next(iter(sources.values())).at
    return {
        position: directions_at({name: means.at[position] for name, means in sources.items()}, pivot)
        for position in positions
    }


def _kind(means: PositionMeans) -> str:
    return ", ".join(f"{position} {list(found.harmful.shape)}" for position, found in means.at.items())


def scores(
    activations: ActivationStore, prompts: PromptTable, directions: Mapping[str, NDArray[np.float32]]
) -> pa.Table:
    """Projections of val and test prompts on the directions of each position, where they were fitted.

    Long table, sorted by position, layer, direction, then prompt: prompt_id, split, subset, position, layer int16,
    direction, score float64. Raises `PolygateError` when the store has other positions or another shape than the
    directions, or an activation that is not finite.
    """
    import pyarrow as pa

    positions, layers = activations.positions, activations.layers
    wanted = (layers, len(DIRECTIONS), activations.width)
    if set(directions) != set(positions) or any(found.shape != wanted for found in directions.values()):
        raise PolygateError(
            f"activations at {', '.join(positions)} ({layers} layers of {activations.width}), but directions at "
            f"{', '.join(directions)} {[list(found.shape) for found in directions.values()]}",
            where=activations.path,
            do="delete the file and rerun",
        )
    rows = np.concatenate([prompts.select("val"), prompts.select("test")])
    along = np.concatenate([directions[position] for position in positions])
    with explained(activations):
        found = kernels.project(activations.path, _tensors(activations), along)[:, rows].astype(np.float64)
    blocks, n = len(positions) * layers * len(DIRECTIONS), len(rows)
    columns = {
        **prompt_columns(prompts, rows, blocks),
        "position": pa.array(np.repeat(positions, layers * len(DIRECTIONS) * n).tolist(), pa.string()),
        "layer": pa.array(
            np.tile(np.repeat(np.arange(layers, dtype=np.int16), len(DIRECTIONS) * n), len(positions)), pa.int16()
        ),
        "direction": pa.array(np.tile(np.repeat(DIRECTIONS, n), len(positions) * layers).tolist(), pa.string()),
        "score": pa.array(np.moveaxis(found, 2, 1).reshape(-1), pa.float64()),
    }
    return pa.table(columns).replace_schema_metadata({"language": prompts.language})


def _tensors(activations: ActivationStore) -> list[str]:
    """Names of all tensors, positions outermost."""
    return [
        activations.kernels_name(layer, position)
        for position in activations.positions
        for layer in range(activations.layers)
    ]
