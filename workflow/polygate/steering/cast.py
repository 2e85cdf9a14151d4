"""CAST: a condition read in the lower blocks decides whether a behaviour is added in the upper ones.

Method: Lee et al. 2024 (arXiv 2409.05907). A direction from pairs (p_i, n_i) is the first principal component,
uncentred, of p_i - c_i and n_i - c_i with c_i = (p_i + n_i)/2, of unit length and turned so that most p_i lie higher
than their n_i. The condition compares a prompt's mean activation x with what is left of it along the condition's
direction c: similarity = cos(x, tanh(P x)), P x = (x·c / c·c) c. It fires where the similarity is above a threshold
("above"), or below ("below"); for prompts that fire, h ← h + strength · b at every behaviour block and on every token.
Conditions lie below all behaviours, so that they are functions of the unsteered prompt.

- *Adapted*: pairs are harmful and harmless train prompts of the low-resource languages, means over a prompt's tokens
  for the condition, its last token for the behaviour. Layer, threshold and comparison are tuned in the target language;
  the strength is the settings', or chosen (`steering.cast_strength`).
- *Released* (zero-shot): pairs are those of CAST's own English data (see `prompts.sources.cast_data`), means over a
  prompt's tokens for the condition; for the behaviour the same questions with a refusing and with a compliant opening
  of the answer, means over the opening's tokens. Layer, threshold and comparison are tuned once, on the data's second
  part, and the same in every language. The strength is the published one, unless the settings name another.

Mended: means are over a prompt's own tokens and over an opening's own (the release's include padding, so that they
depend on the batch, and count as many tokens as the first opening has), conditions are fitted on prompts as they are
answered (the release fits them without a generation prompt and reads them with one), and blocks are read before the
final norm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.forward.interventions import Intervention, Part
from polygate.representation.store import ActivationStore
from polygate.settings.types import Cast as CastSettings
from polygate.settings.types import Thresholds, blocks_within

MEAN = "mean"
"""Position of the condition: the mean over all of a prompt's tokens."""
Comparison = Literal["below", "above"]
COMPARISONS: tuple[Comparison, ...] = ("below", "above")
"""In the order in which they are tried."""


def pairwise_direction(positive: NDArray[Any], negative: NDArray[Any]) -> NDArray[np.float64]:
    """The first principal component of pairs around their centres, float64 [d], of unit length.

    `positive`, `negative` [n, d], row i of both a pair. p_i - c_i and n_i - c_i are half the difference of a pair and
    its negative, so this is the top right-singular vector of the differences, by way of the smaller of their Gram
    matrices. Raises `PolygateError` where pairs don't differ.
    """
    from scipy import linalg

    differences = np.asarray(positive, np.float64) - np.asarray(negative, np.float64)
    if not differences.any():
        raise PolygateError("the pairs of a CAST direction do not differ")
    tall = len(differences) > differences.shape[1]
    gram = differences.T @ differences if tall else differences @ differences.T
    top = linalg.eigh(gram, subset_by_index=(len(gram) - 1, len(gram) - 1))[1][:, 0]
    along = top if tall else top @ differences
    found: NDArray[np.float64] = along / np.linalg.norm(along)
    higher = int((differences @ found > 0).sum())
    return found if 2 * higher >= len(differences) else -1.0 * found


def similarity(x: NDArray[Any], condition: NDArray[Any]) -> NDArray[np.float64]:
    """cos(x, tanh(P x)) of mean activations x [n, d] and a condition's direction [d], float64 [n]; 0 where P x is 0."""
    wide, c = np.asarray(x, np.float64), np.asarray(condition, np.float64)
    bounded = np.tanh(np.outer(wide @ c / (c @ c), c))
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(bounded, axis=1)
    products = (wide * bounded).sum(axis=1)
    found: NDArray[np.float64] = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1.0), 0.0)
    return found


@dataclass(frozen=True)
class Condition:
    """When the behaviour is added: where the similarity at `layer` lies on one side of `threshold`; `f1` on what it was
    tuned on."""

    layer: int
    threshold: float
    comparison: Comparison
    f1: float

    def fires(self, similarities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Bool [n] of similarities [n] at the condition's layer; a prompt on the threshold is left alone."""
        above = self.comparison == "above"
        return np.asarray(similarities > self.threshold if above else similarities < self.threshold)


def candidates(thresholds: Thresholds) -> NDArray[np.float64]:
    """Thresholds in ascending order: the first and every step up to the last, which counts within a rounding error."""
    count = int(np.floor((thresholds.last - thresholds.first) / thresholds.step + 1e-9)) + 1
    found: NDArray[np.float64] = thresholds.first + thresholds.step * np.arange(count, dtype=np.float64)
    return found


def tune(
    similarities: NDArray[np.float64],
    harmful: NDArray[np.bool_],
    layers: Sequence[int],
    thresholds: NDArray[np.float64],
) -> Condition:
    """The condition with the largest F1 of the harmful class, by layer, threshold and comparison: the first of equals.

    `similarities` [len(layers), n], `harmful` bool [n], which needs a harmful prompt.
    """
    best = Condition(layers[0], float(thresholds[0]), COMPARISONS[0], -1.0)
    for layer, here in zip(layers, similarities, strict=True):
        fired = np.stack([here[None] < thresholds[:, None], here[None] > thresholds[:, None]], axis=1)
        hits, alarms = fired[..., harmful].sum(axis=-1), fired[..., ~harmful].sum(axis=-1)
        values = 2 * hits / (hits + alarms + harmful.sum())
        place = int(np.argmax(values))
        if values.flat[place] > best.f1:
            threshold, comparison = np.unravel_index(place, values.shape)
            value = float(values.flat[place])
            best = Condition(layer, float(thresholds[threshold]), COMPARISONS[int(comparison)], value)
    return best


def layers_within(shares: list[float], depth: int) -> tuple[int, ...]:
    """The 0-based blocks l of `depth` with first ≤ l/depth ≤ last; `PolygateError` where there are none."""
    found = blocks_within(shares, depth)
    if not found:
        raise PolygateError(
            f"a model of {depth} decoder blocks has none between {shares[0]:g} and {shares[1]:g} of its depth",
            do="widen baselines.cast.condition or baselines.cast.behaviour",
        )
    return found


@dataclass(frozen=True, eq=False)
class Cast:
    """Directions of a model: `condition` float32 [k, d] at `condition_layers`, `behaviour` [m, d] at
    `behaviour_layers`, of unit length; and candidate `thresholds`.

    `fixed` is the condition where it isn't tuned in each language. Raises `PolygateError` unless conditions lie below
    all behaviours.
    """

    condition_layers: tuple[int, ...]
    condition: NDArray[np.float32]
    behaviour_layers: tuple[int, ...]
    behaviour: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    metadata: Mapping[str, str] = field(default_factory=dict)
    fixed: Condition | None = None

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in pairwise([*self.condition_layers, *self.behaviour_layers]))
        if not ascending:
            raise PolygateError("CAST's conditions must be read below all blocks at which its behaviour is added")

    def check_fits(self, store: ActivationStore, where: object = None) -> None:
        """`PolygateError` unless vectors and layers are those of the model that the activations are of."""
        if self.behaviour.shape[1] != store.width or self.behaviour_layers[-1] >= store.layers:
            raise PolygateError(
                f"CAST's vectors have width {self.behaviour.shape[1]} and reach layer {self.behaviour_layers[-1]}, but "
                f"the model has layers 0 to {store.layers - 1} of width {store.width}",
                where=where,
                do="delete the file and rerun",
            )

    def similarities(self, store: ActivationStore, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of the prompts in `rows` of a store, at every condition layer, float64 [k, n]."""
        found = []
        for layer, direction in zip(self.condition_layers, self.condition, strict=True):
            x = store.read(layer, MEAN, rows)
            store.check_finite(x, layer, rows)
            found.append(similarity(x, direction))
        return np.stack(found)

    def tuned(self, store: ActivationStore, rows: NDArray[np.int64], harmful: NDArray[np.bool_]) -> Condition:
        """The condition tuned on the prompts in `rows`, which `harmful` bool [n] labels."""
        if not harmful.any() or harmful.all():
            raise PolygateError(
                f"CAST can't be tuned in {store.language}: it needs harmful and harmless prompts",
                do="add val prompts, or take cast out of baselines.methods",
            )
        return tune(self.similarities(store, rows), harmful, self.condition_layers, self.thresholds)

    def fires(self, store: ActivationStore, rows: NDArray[np.int64], condition: Condition) -> NDArray[np.bool_]:
        """Whether the condition holds of the prompts in `rows` of a store, bool [n]."""
        return condition.fires(self.similarities(store, rows)[self.condition_layers.index(condition.layer)])

    def adding(self, coefficients: NDArray[np.float64]) -> Part:
        """The behaviour, added to every token of each prompt as often as `coefficients` [n] say."""
        return Part(self.behaviour_layers, self.behaviour, "add", "every", coefficients)

    def intervention(
        self, store: ActivationStore, rows: NDArray[np.int64], condition: Condition, strength: float
    ) -> Intervention:
        """What is done to the prompts in `rows` of a store: those whose condition holds get `strength` · behaviour."""
        ids = tuple(store.prompt_ids[row] for row in rows.tolist())
        return Intervention(ids, (self.adding(np.where(self.fires(store, rows, condition), strength, 0.0)),))

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors: `condition`, `behaviour`, `thresholds`; layers and fixed condition in the metadata."""
        tensors: dict[str, NDArray[Any]] = {
            "condition": self.condition,
            "behaviour": self.behaviour,
            "thresholds": self.thresholds,
        }
        described = {
            "condition": self.condition_layers,
            "behaviour": self.behaviour_layers,
            "fixed": None if self.fixed is None else asdict(self.fixed),
        }
        files.write_safetensors(path, tensors, {"cast": json.dumps(described)}, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> Cast:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        files.expect(path, metadata, **wanted)
        with files.understood(path, "a CAST of this workflow"):
            said = json.loads(metadata["cast"])
            return cls(
                tuple(said["condition"]),
                tensors["condition"],
                tuple(said["behaviour"]),
                tensors["behaviour"],
                tensors["thresholds"],
                metadata,
                None if said["fixed"] is None else Condition(**said["fixed"]),
            )


Pairs = Callable[[int], tuple[NDArray[Any], NDArray[Any]]]
"""Activations of pairs at a block: positive [n, d] and negative [n, d]."""


def pairs_of(store: ActivationStore, position: str, positive: NDArray[np.int64], negative: NDArray[np.int64]) -> Pairs:
    """Pairs of a store's rows at a position; reading them raises `PolygateError` where one isn't finite."""

    def read(layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        found = store.read(layer, position, positive), store.read(layer, position, negative)
        for values, rows in zip(found, (positive, negative), strict=True):
            store.check_finite(values, layer, rows)
        return found

    return read


def fit(conditions: Pairs, behaviours: Pairs, depth: int, settings: CastSettings) -> Cast:
    """Directions at all condition and behaviour layers of a model of `depth` blocks, each from its pairs."""
    lower, upper = layers_within(settings.condition, depth), layers_within(settings.behaviour, depth)
    condition = [pairwise_direction(*conditions(layer)) for layer in lower]
    behaviour = [pairwise_direction(*behaviours(layer)) for layer in upper]
    return Cast(
        lower,
        np.stack(condition).astype(np.float32),
        upper,
        np.stack(behaviour).astype(np.float32),
        candidates(settings.thresholds),
    )
