"""Gates out of distribution: harmful prompts of another data set, told from harmless ones.

A data set of harmful prompts says nothing by itself: each gate's flags on it are read against flags on harmless
prompts. These are the harmless test prompts of the data set that gates are fitted on, in the same language (`paired`);
where that language lacks them, the pivot's, as a last resort that is said; and the data set's own, where it has any.
Beside every gate stands one of the same protocol on the eleven surface features: the two data sets differ in more than
harm, and a gate that no more than tells the data sets apart is no better than that. Where there is a sentence encoder,
one on its embeddings stands beside it too: data sets differ in their topics, which any encoder reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate.controls import surface
from polygate.controls.semantic import SCORER as SEMANTIC
from polygate.decision import applying, calibration
from polygate.decision.card import Scored
from polygate.decision.fitting import Fitted
from polygate.decision.gate import Gate
from polygate.prompts.table import PromptTable
from polygate.representation.store import ActivationStore

GATE, SURFACE = "gate", "surface"
CONTROLS = (SURFACE, SEMANTIC)
"""Scorers of gates that no model takes part in, the second where there is an encoder."""
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("subset", pa.string()),
        ("dataset", pa.string()),
        ("spoken", pa.string()),
        ("category", pa.string()),
        ("scorer", pa.string()),
        ("rank", pa.int16()),
        ("budget", pa.int16()),
        ("draw", pa.int16()),
        ("threshold_from", pa.string()),
        ("score", pa.float64()),
        ("flagged", pa.bool_()),
    ]
)
"""One row per scorer ("gate", "surface", with an encoder "semantic"), rank, budget, draw and prompt. `dataset` is the
one that the prompt is of, `spoken` its language: another than the gates' for harmless prompts of the last resort."""


@dataclass(frozen=True)
class Prompts:
    """Some `rows` of a prompt table, with the table's activations and, where there is an encoder, its embeddings."""

    table: PromptTable
    store: ActivationStore
    rows: NDArray[np.int64]
    embeddings: NDArray[np.float32] | None = None


def paired(own: Prompts, pivot: Prompts) -> Prompts:
    """Harmless test prompts of the fitted data set: the language's own, the pivot's where it has none."""
    chosen = own if len(own.table.select("test", "harmless")) else pivot
    return replace(chosen, rows=chosen.table.select("test", "harmless"))


def score(
    parts: Sequence[Prompts],
    gates: Sequence[Gate],
    surface_gates: Sequence[Fitted],
    semantic_gates: Sequence[Fitted] = (),
) -> pa.Table:
    """What the gates of a language, and those of the controls, say of all prompts of `parts`: see `SCHEMA`."""
    tables = []
    for part in parts:
        texts = [part.table.texts[row] for row in part.rows]
        tables += [_rows(part, GATE, found) for found in applying.score(gates, part.store, part.rows)]
        if texts:
            features = surface.surface_features(texts)
            tables += [_rows(part, SURFACE, _of_control(gate, features)) for gate in surface_gates]
        if part.embeddings is not None:
            embeddings = part.embeddings[part.rows]
            tables += [_rows(part, SEMANTIC, _of_control(gate, embeddings)) for gate in semantic_gates]
    return pa.concat_tables(tables)


def _of_control(gate: Fitted, features: NDArray[Any]) -> Scored:
    threshold = gate.fit.threshold
    known = (gate.rank, gate.budget, gate.draw, "", threshold.origin, threshold.threshold, threshold.informative)
    return Scored(*known, gate.fit.score(features))


def _rows(part: Prompts, scorer: str, found: Scored) -> pa.Table:
    table, times = part.table, len(part.rows)
    columns = {
        "prompt_id": [table.ids[row] for row in part.rows],
        "subset": table.subset[part.rows].tolist(),
        "dataset": [table.dataset] * times,
        "spoken": [table.language] * times,
        "category": [table.categories[row] for row in part.rows],
        "scorer": [scorer] * times,
        "rank": [found.rank] * times,
        "budget": [found.budget] * times,
        "draw": [found.draw] * times,
        "threshold_from": [found.threshold_from] * times,
        "score": found.scores,
        "flagged": calibration.decide(found.scores, found.threshold),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], SCHEMA)
