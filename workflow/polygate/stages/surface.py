"""What the surface of one language's test prompts gives away: scores of the baselines, no model involved."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from polygate import files
from polygate.controls import surface
from polygate.controls.surface import SurfaceScores
from polygate.decision import calibration
from polygate.decision.fitting import Fitted
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings

GATE = "surface_gate"
"""Scorer of the rows that hold gates on the surface features, one per budget and draw."""
SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("subset", pa.string()),
        ("scorer", pa.string()),
        ("score", pa.float64()),
        ("log_characters", pa.float64()),
        ("punctuation", pa.string()),
        ("question", pa.bool_()),
        ("budget", pa.int16()),
        ("draw", pa.int16()),
        ("threshold_from", pa.string()),
        ("threshold", pa.float64()),
        ("flagged", pa.bool_()),
    ]
)
"""Scorers "surface", "length", "char_ngrams", "naive_bayes" leave the last five columns empty; "surface_gate" fills
them. `log_characters`, `punctuation` and `question` are the prompt's own, whatever the scorer."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", help="JSON with gate and seed: also fit gates on the surface features")
    parser.add_argument("--target", required=True, help="the language whose test prompts are scored")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables of the sources")
    parser.add_argument("--own-prompts", required=True, help="prompt table of the target")
    parser.add_argument("--output", required=True, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, score, write."""
    if args.target in args.sources:
        raise PolygateError(f"target {args.target} is among its own sources", do="leave it out")
    own = table.read_to_fit(args.own_prompts, language=args.target)
    sources = [table.read_to_fit(path, language=name) for name, path in zip(args.sources, args.prompts, strict=True)]
    facts: dict[str, Any] = {"target": args.target, "sources": args.sources}
    of = {"dataset": own.dataset, "prompts": own.fingerprint()}
    gates: Sequence[Fitted] = ()
    if args.settings:
        settings = stage_settings(args.settings)
        facts.update(gate=dump(settings.gate), seed=settings.seed)
        of["gate"] = settings.gate.described
        gates = surface.surface_gates(sources, own, settings.gate, settings.seed)
    scores = surface.surface_scores(sources, own)
    made = provenance("polygate.stages.surface", **facts)
    files.write_parquet(args.output, score_table(own, scores, gates), made, of)


def score_table(
    own: PromptTable,
    scores: SurfaceScores,
    gates: Sequence[Fitted],
    features: NDArray[Any] | None = None,
    scorer_of_gates: str = GATE,
) -> pa.Table:
    """One row per scorer and test prompt, then one per gate and test prompt.

    `features` are what the gates read of the test prompts, [n, r]; those of the surface when left out.
    """
    texts = [own.texts[row] for row in scores.rows]
    parts = [_rows(own, scores, texts, scorer, values) for scorer, values in scores.scores.items()]
    features = surface.surface_features(texts) if features is None else features
    for gate in gates:
        values = gate.fit.score(features)
        threshold = gate.fit.threshold
        decided = {
            "budget": gate.budget,
            "draw": gate.draw,
            "threshold_from": threshold.origin,
            "threshold": threshold.threshold,
            "flagged": calibration.decide(values, threshold.threshold),
        }
        parts.append(_rows(own, scores, texts, scorer_of_gates, values, decided))
    return pa.concat_tables(parts).replace_schema_metadata({"language": own.language})


def _rows(
    own: PromptTable,
    scores: SurfaceScores,
    texts: Sequence[str],
    scorer: str,
    values: Any,
    decided: dict[str, Any] | None = None,
) -> pa.Table:
    times = len(texts)
    columns: dict[str, Any] = {
        "prompt_id": [own.ids[row] for row in scores.rows],
        "split": own.split[scores.rows].tolist(),
        "subset": own.subset[scores.rows].tolist(),
        "scorer": [scorer] * times,
        "score": values,
        "log_characters": [surface.log_characters(text) for text in texts],
        "punctuation": [surface.final_punctuation(text) for text in texts],
        "question": [surface.is_question(text) for text in texts],
    }
    given = decided or {}
    for name in SCHEMA.names[len(columns) :]:
        value = given.get(name)
        columns[name] = value if name == "flagged" and value is not None else [value] * times
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    return pa.table(arrays, SCHEMA)
