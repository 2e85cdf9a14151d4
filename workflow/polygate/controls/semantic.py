"""What a small sentence encoder knows: the second control, beside the surface of the prompts.

A harmfulness direction that separates better than punctuation and length do may still tell no more than what any
multilingual encoder tells of the same text. So a logistic probe on sentence embeddings is fitted under the direction's
own protocol: the same source languages, never the target; the same examples and the same rule for the threshold. What
a model's activations add is the difference, paired by prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.controls.surface import SurfaceScores
from polygate.decision import calibration
from polygate.decision.calibration import Objective, Threshold
from polygate.decision.fitting import Examples, Fit, Fitted, SourceRows, settled, val_examples
from polygate.errors import PolygateError
from polygate.prompts.table import PromptTable
from polygate.settings.types import Gate

SCORER = "semantic"
"""The probe's name in the tables; it is label-free, as the direction is."""
C = 10.0
"""Inverse strength of the probe's ridge, on embeddings of unit length."""
TENSOR = "embeddings"
ENCODER = "encoder"
"""Key under which embeddings, and what is made of them, say which encoder they are by."""


@dataclass(frozen=True)
class Embedded:
    """The prompts of one language and their embeddings, float32 [n, d] in the order of the table.

    `encoder`: which one they are by, `Encoder.facts`.
    """

    prompts: PromptTable
    values: NDArray[np.float32]
    encoder: Mapping[str, str]

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Write the embeddings, which say what prompts they are of, and by which encoder."""
        of = {**_of(self.prompts), "language": self.prompts.language, ENCODER: described(self.encoder)}
        files.write_safetensors(path, {TENSOR: self.values}, {}, provenance, of)

    @classmethod
    def load(cls, path: str | Path, prompts: PromptTable, wanted: Mapping[str, str]) -> Embedded:
        """Read the embeddings of a table's prompts; `PolygateError` for those of others.

        `wanted`: what their encoder must say of itself (`encoders.named`), or they are another's, and refused too.
        """
        tensors, said = files.read_safetensors(path)
        files.expect(path, said, language=prompts.language, **_of(prompts))
        with files.understood(path, "embeddings"):
            encoder: dict[str, str] = json.loads(said[ENCODER])
            found = {what: encoder.get(what) for what in wanted}
        if found != dict(wanted):
            raise PolygateError(
                f"embeddings by {_told(found)}, the settings ask for {_told(wanted)}",
                where=path,
                do="delete the embeddings and rerun",
            )
        values = tensors.get(TENSOR)
        if values is None or values.shape[:1] != (len(prompts),) or not np.isfinite(values).all():
            raise PolygateError(
                f"not embeddings of the {len(prompts)} prompts", where=path, do="delete the file and rerun"
            )
        return cls(prompts, values, encoder)


def described(encoder: Mapping[str, str]) -> str:
    """An encoder's facts as files say them."""
    return json.dumps(dict(encoder), sort_keys=True)


def _told(encoder: Mapping[str, str | None]) -> str:
    return ", ".join(f"{what} {value!r}" for what, value in encoder.items())


def _of(prompts: PromptTable) -> dict[str, object]:
    return {"dataset": prompts.dataset, "prompts": prompts.fingerprint()}


def expect_one_encoder(paths: Sequence[str | Path], embedded: Sequence[Embedded]) -> None:
    """`PolygateError` unless all embeddings, of these `paths`, are by the first's encoder, and as wide."""
    for path, one in zip(paths, embedded, strict=True):
        if one.encoder != embedded[0].encoder:
            differ = [
                what
                for what in {**embedded[0].encoder, **one.encoder}
                if one.encoder.get(what) != embedded[0].encoder.get(what)
            ]
            here, there = ({what: of.encoder.get(what) for what in differ} for of in (one, embedded[0]))
            raise PolygateError(
                f"embeddings by {_told(here)}, others by {_told(there)}: they are of different encoders",
                where=path,
                do="delete the embeddings and rerun",
            )
        if one.values.shape[1:] != embedded[0].values.shape[1:]:
            widths = sorted({other.values.shape[1] for other in (embedded[0], one)})
            raise PolygateError(
                f"embeddings have widths {widths}: they are of different encoders",
                where=path,
                do="delete the embeddings and rerun",
            )


def semantic_scores(sources: Sequence[Embedded], own: Embedded) -> SurfaceScores:
    """The probe's log-odds of harm on the test prompts of `own`, fitted on the sources' train prompts.

    Multiple-choice prompts take no part. Raises `PolygateError` when the sources' train prompts lack a class.
    """
    source = _rows(sources, multiple_choice=False)
    fit = _fit(source.features, source.labels)
    rows = own.prompts.select("test")
    return SurfaceScores(rows, {SCORER: fit.score(own.values[rows])})


def semantic_gates(sources: Sequence[Embedded], own: Embedded, settings: Gate, seed: int) -> Iterator[Fitted]:
    """Gates on the embeddings, fitted and calibrated as the model's are: same sources, examples, threshold rule.

    Their solver is the converged one whatever the settings say: the paper's has no ridge, and more dimensions here than
    its few epochs could fit.
    """
    source = _rows(sources, multiple_choice=True)
    width = source.features.shape[1]
    fit = settled(fit_source(source, settings.objective), None, settings)
    yield Fitted(width, 0, 0, fit, source.balance())
    labels, wide = own.prompts.harmful, np.asarray(own.values, np.float64)
    val = val_examples(own.prompts, wide[own.prompts.select("val")], settings)
    for budget in (budget for budget in settings.budgets if budget > 0):
        balance = {**source.balance(), own.prompts.language: (budget, budget)}
        for draw in range(settings.draws):
            rows = calibration.draw_examples(own.prompts, budget, draw, seed)
            fit = fit_examples(source, Examples(wide[rows], labels[rows]), settings.objective)
            yield Fitted(width, budget, draw, settled(fit, val, settings), balance)


def fit_source(source: SourceRows, objective: Objective) -> Fit:
    """The gate of budget 0 on embeddings: fitted on the source languages, its threshold chosen on the same rows."""
    fit = _fit(source.features, source.labels)
    scores = fit.score(source.features)
    return replace(fit, threshold=calibration.source_threshold(scores, source.labels, source.languages, objective))


def fit_examples(source: SourceRows, examples: Examples, objective: Objective) -> Fit:
    """The gate of one draw: fitted on the source rows and the examples, its threshold chosen on the examples."""
    features = np.concatenate([source.features, examples.features])
    fit = _fit(features, np.concatenate([source.labels, examples.labels]))
    scores = fit.score(examples.features)
    return replace(fit, threshold=calibration.example_threshold(scores, examples.labels, objective))


def _rows(sources: Sequence[Embedded], *, multiple_choice: bool) -> SourceRows:
    """Train rows of the sources."""
    kept = [source.prompts.select("train", multiple_choice=multiple_choice) for source in sources]
    return SourceRows.stack(
        [source.prompts.language for source in sources],
        [source.values[rows] for source, rows in zip(sources, kept, strict=True)],
        [source.prompts.harmful[rows] for source, rows in zip(sources, kept, strict=True)],
    )


def _fit(features: NDArray[Any], labels: NDArray[np.bool_]) -> Fit:
    """Class-balanced logistic regression with a ridge, on embeddings as they are."""
    from sklearn.linear_model import LogisticRegression

    if labels.all() or not labels.any():
        raise PolygateError("the source languages' train prompts hold one class only", do="add the other class")
    values = np.asarray(features, np.float64)
    found = LogisticRegression(C=C, class_weight="balanced", max_iter=1000).fit(values, labels)
    weights = np.asarray(found.coef_[0], np.float64)
    still = Threshold(np.inf, 0.0, False, "source")
    converged = int(found.n_iter_[0]) < found.max_iter
    return Fit(np.zeros(len(weights)), np.ones(len(weights)), weights, float(found.intercept_[0]), converged, still)
