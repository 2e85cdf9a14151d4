"""Judgements of the completions of one language, for every arm that generated text."""

from __future__ import annotations

import argparse

import pyarrow as pa

from polygate import files, judges
from polygate.errors import PolygateError
from polygate.judges import Judgement
from polygate.provenance import provenance
from polygate.settings import dump, stage_settings

COLUMNS = ["prompt_id", "subset", "completion"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with judging")
    parser.add_argument("--language", required=True, help="language of the prompts")
    parser.add_argument("--prompts", required=True, help="prompt table of the language")
    parser.add_argument("--completions", required=True, nargs="+", help="completions, one file per arm")
    parser.add_argument("--outputs", required=True, nargs="+", help="judgements, parallel to --completions")


def run(args: argparse.Namespace) -> None:
    """Read, judge, write."""
    judging = stage_settings(args.settings).judging
    prompts = files.read_parquet(args.prompts, ["prompt_id", "text", "reference"])
    metadata = {key.decode(): value.decode() for key, value in (prompts.schema.metadata or {}).items()}
    judge = judges.load(judging, metadata)
    rows = {row["prompt_id"]: row for row in prompts.to_pylist()}
    made = provenance("polygate.stages.judge", judging=dump(judging), language=args.language)
    for source, output in zip(args.completions, args.outputs, strict=True):
        completions = files.read_parquet(source, COLUMNS)
        asked = [rows.get(name) for name in completions["prompt_id"].to_pylist()]
        if None in asked:
            unknown = completions["prompt_id"][asked.index(None)].as_py()
            raise PolygateError(f"completion of {unknown!r}, which is not among the prompts", where=source)
        known = [row for row in asked if row is not None]
        judged = judge.outcomes(
            args.language,
            [row["text"] for row in known],
            completions["completion"].to_pylist(),
            [row["reference"] for row in known],
        )
        files.write_parquet(output, judgement_table(completions, judged, args.language), made)


def judgement_table(completions: pa.Table, judged: list[Judgement], language: str) -> pa.Table:
    """Columns prompt_id, subset, outcome, refusal_language, raw; rows as in `completions`."""
    columns = {
        "prompt_id": completions["prompt_id"],
        "subset": completions["subset"],
        "outcome": pa.array([judgement.outcome for judgement in judged], pa.string()),
        "refusal_language": pa.array([judgement.refusal_language for judgement in judged], pa.string()),
        "raw": pa.array([judgement.raw for judgement in judged], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({"language": language})
