"""AdaSteer: two vectors per block, added with coefficients that are read off each prompt.

Method: Zhao et al. 2025 (arXiv 2504.09466). A prompt with residual h at its last token lies, along the line from one
anchor a (mean of class a) to another b (mean of class b), at s = 100 · (h - a)·u / |b - a| with u = (b - a) / |b - a|:
0 at a, 100 at b. Its coefficient is multiplier · (s + offset) + bias within bounds, and h ← h + α·R + β·H at every
block, vectors as they are, on generated tokens or those that the settings name (the paper's comparison acts on
generated tokens, the method's own release on those of the prompt). Coefficients are functions of the unsteered prompt,
so they are computed from stored activations.

- *Released*: the vectors R (refusal direction) and H (harmfulness direction) of the model, each with its own anchors.
  In the released files both directions share class a. Class b of H is harmless, class b of R is refused: R = a - b
  points away from refusal, hence the negative bounds of the published α (Qwen, Llama). Every released H is R's multiple
  (cosine 1): the component of H's difference of means along R.
- *Adapted*: classes a and b are harmful and harmless train prompts of the low-resource languages, R = H = a - b, with
  the published constants. There a - b points *towards* refusal, so that these constants mean something else than on
  released vectors; published results were made so, and it is kept for the models that have constants.
- *Adapted, constants fitted* (`fitted_constants`), for models without published ones.

Mended: a prompt's scale is its own (the release averages it over the batch), and no vector is taken after the final
norm (the release's last one is, and is left out when read: it belongs to no residual stream).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files, kernels
from polygate.errors import PolygateError
from polygate.forward.interventions import Intervention, Part, Tokens
from polygate.representation.directions import POSITION, unit
from polygate.representation.store import ActivationStore
from polygate.settings.types import Coefficient, Unit
from polygate.steering.strength import counted, projection_gap

_SCALES = ("multiplier", "offset", "bias", "lowest", "highest")


@dataclass(frozen=True, eq=False)
class Steer:
    """One vector per block, and what decides how much of it a prompt gets.

    `vectors` float32 [k, d], at `layers` (0-based blocks, ascending); `anchors` float64 [2, d], means of classes a and
    b at block `constants.layer`; `tokens` that are acted on. Raises `PolygateError` where the anchors are one point.
    """

    layers: tuple[int, ...]
    vectors: NDArray[np.float32]
    anchors: NDArray[np.float64]
    constants: Coefficient
    tokens: Tokens = "generated"

    def __post_init__(self) -> None:
        if not np.any(self.anchors[0] != self.anchors[1]):
            raise PolygateError(f"AdaSteer's anchors at layer {self.constants.layer} are the same point")

    def coefficients(self, activations: NDArray[Any]) -> NDArray[np.float64]:
        """Coefficients, float64 [n], of prompts with `activations` [n, d] at block `constants.layer`."""
        return coefficients(coordinates(activations, self.anchors), self.constants)

    def part(self, activations: NDArray[Any]) -> Part:
        """What is added to prompts with these activations [n, d]."""
        return Part(self.layers, self.vectors, "add", self.tokens, self.coefficients(activations))


@dataclass(frozen=True, eq=False)
class AdaSteer:
    """What a model is steered with: along the refusal direction, and along the harmfulness direction where β isn't 0.

    `metadata` is what the file that it was read from says of itself.
    """

    refusal: Steer
    harmfulness: Steer | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def steers(self) -> dict[str, Steer]:
        """Both by name, or the one that there is."""
        both = {"refusal": self.refusal, "harmfulness": self.harmfulness}
        return {name: steer for name, steer in both.items() if steer is not None}

    def check_fits(self, store: ActivationStore, where: object = None) -> None:
        """`PolygateError` unless vectors and layers are those of the model that the activations are of."""
        for name, steer in self.steers.items():
            deepest = max(steer.layers[-1], steer.constants.layer)
            if steer.vectors.shape[1] != store.width or deepest >= store.layers:
                raise PolygateError(
                    f"AdaSteer's {name} vectors have width {steer.vectors.shape[1]} and reach layer {deepest}, but the "
                    f"model has layers 0 to {store.layers - 1} of width {store.width}",
                    where=where,
                    do="use vectors and constants of this model",
                )

    def intervention(self, store: ActivationStore, rows: NDArray[np.int64]) -> Intervention:
        """What is done to the prompts in `rows` of a store."""
        parts = []
        for steer in self.steers.values():
            here = store.read(steer.constants.layer, POSITION, rows)
            store.check_finite(here, steer.constants.layer, rows)
            parts.append(steer.part(here))
        return Intervention(tuple(store.prompt_ids[row] for row in rows.tolist()), tuple(parts))

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors: `{direction}.vectors`, `{direction}.anchors`; layers and constants in the metadata."""
        tensors: dict[str, NDArray[Any]] = {}
        described = {}
        for name, steer in self.steers.items():
            tensors |= {f"{name}.vectors": steer.vectors, f"{name}.anchors": steer.anchors}
            described[name] = {
                "layers": steer.layers,
                "constants": steer.constants.model_dump(),
                "tokens": steer.tokens,
            }
        files.write_safetensors(path, tensors, {"adasteer": json.dumps(described)}, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> AdaSteer:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        files.expect(path, metadata, **wanted)
        with files.understood(path, "an AdaSteer of this workflow"):
            found = {
                name: Steer(
                    tuple(said["layers"]),
                    tensors[f"{name}.vectors"],
                    tensors[f"{name}.anchors"],
                    Coefficient(**said["constants"]),
                    said["tokens"],
                )
                for name, said in json.loads(metadata["adasteer"]).items()
            }
            return cls(found["refusal"], found.get("harmfulness"), metadata)


def coordinates(activations: NDArray[Any], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where prompts lie between two anchors, float64 [n]: 0 at the first, 100 at the second.

    `activations` [n, d], `anchors` [2, d].
    """
    first, second = np.asarray(anchors, np.float64)
    along = unit(second - first)
    scaled: NDArray[np.float64] = 100 * ((activations.astype(np.float64) - first) @ along) / ((second - first) @ along)
    return scaled


def coefficients(s: NDArray[np.float64], constants: Coefficient) -> NDArray[np.float64]:
    """multiplier · (s + offset) + bias for every s [n], kept within the bounds that there are."""
    lowest = -np.inf if constants.lowest is None else constants.lowest
    highest = np.inf if constants.highest is None else constants.highest
    return np.clip(constants.multiplier * (s + constants.offset) + constants.bias, lowest, highest)


@dataclass(frozen=True, eq=False)
class Pooled:
    """Examples of several languages: means of the harmful and the harmless, float64 [2, L, d]."""

    means: NDArray[np.float64]

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Harmful less harmless at every block, [L, d]."""
        difference: NDArray[np.float64] = self.means[0] - self.means[1]
        return difference

    def anchors(self, layer: int) -> NDArray[np.float64]:
        """The two means at a block, [2, d]."""
        return self.means[:, layer]


def pool(stores: Sequence[ActivationStore], rows: Sequence[NDArray[np.int64]], labels: NDArray[np.bool_]) -> Pooled:
    """Class means over `rows` of every store, taken together; `labels` bool, of all rows one below the other.

    Raises `PolygateError` for activations that are NaN or infinite.
    """
    means = np.stack([_class_means(together(stores, rows, layer), labels) for layer in range(stores[0].layers)])
    return Pooled(np.moveaxis(means, 0, 1))


def together(
    stores: Sequence[ActivationStore], rows: Sequence[NDArray[np.int64]], layer: int, position: str = POSITION
) -> NDArray[np.float64]:
    """Activations of `rows` of every store at a block, one below the other, float64 [n, d]; checked to be finite."""
    found = []
    for store, chosen in zip(stores, rows, strict=True):
        here = store.read(layer, position, chosen)
        store.check_finite(here, layer, chosen)
        found.append(here.astype(np.float64))
    return np.concatenate(found)


def _class_means(x: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.stack([x[labels].mean(axis=0), x[~labels].mean(axis=0)])


def adapted(pooled: Pooled, alpha: Coefficient, beta: Coefficient | None, tokens: Tokens = "generated") -> AdaSteer:
    """R = H = harmful less harmless at every block, with given constants; none of H where `beta` is None."""
    depth = len(pooled.vectors)
    for constants in (alpha, beta):
        if constants is not None and constants.layer >= depth:
            raise PolygateError(
                f"AdaSteer reads layer {constants.layer}, but the model has layers 0 to {depth - 1}",
                do="correct the model's adasteer in the settings",
            )
    layers, vectors = tuple(range(depth)), pooled.vectors.astype(np.float32)
    steers = [
        None if constants is None else Steer(layers, vectors, pooled.anchors(constants.layer), constants, tokens)
        for constants in (alpha, beta)
    ]
    assert steers[0] is not None
    return AdaSteer(steers[0], steers[1])


@dataclass(frozen=True, eq=False)
class Seen:
    """Validation prompts of one language: activations by block, float [n, d] each, and labels, bool [n]."""

    activations: Sequence[NDArray[Any]]
    harmful: NDArray[np.bool_]


def reading_layer(pooled: Pooled, seen: Sequence[Seen]) -> tuple[int, float]:
    """The block whose s separates validation prompts best, with its AUC, a mean over languages; the first of equals."""
    values = []
    for layer in range(len(pooled.vectors)):
        anchors = pooled.anchors(layer)
        aucs = [kernels.auc(-coordinates(one.activations[layer], anchors), one.harmful) for one in seen]
        values.append(float(np.mean(aucs)))
    best = int(np.argmax(values))
    return best, values[best]


@dataclass(frozen=True)
class Where:
    """Where fitted constants read a prompt (`layer`), and block and λ of our own arms (`at`, `strength` in `unit`s)."""

    layer: int
    at: int
    strength: float
    unit: Unit = "gap"


def fitted_constants(
    pooled: Pooled, projections: NDArray[np.float64], labels: NDArray[np.bool_], where: Where
) -> Coefficient:
    """Constants of α for a model that has no published ones: a ramp from c at the harmful anchor to 0 at the harmless.

    α = -c/100 · (s - 100) within [0, c], read at `where.layer` (see `reading_layer`): R points from harmless to
    harmful, so adding it adds refusal, most to what looks most harmful. β is 0. c is such that what a prompt at the
    harmful anchor has received by block `where.at` is as long along R there as what our own addition gives it, λ·gap:
    c · Σ_{l ≤ at} R_l·û = λ·gap with û = R_at/|R_at|, for R is added at every block. The gap is that of `projections`
    [n] on û of the examples with `labels` bool [n].

    Raises `PolygateError` where the classes do not lie apart, or R's blocks point against one another.
    """
    along = unit(pooled.vectors[where.at])
    received = float((pooled.vectors[: where.at + 1] @ along).sum())
    if not received > 0:
        raise PolygateError(
            f"AdaSteer's vectors up to layer {where.at} point against the one there: it can't be adapted"
        )
    highest = where.strength * counted(projection_gap(projections, labels), where.unit) / received
    return Coefficient(layer=where.layer, multiplier=-highest / 100, offset=-100, lowest=0, highest=highest)
