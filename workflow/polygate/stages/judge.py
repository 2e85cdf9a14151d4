"""Judgements of the completions of one language, for every arm that generated text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from polygate import files, judges
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.forward.job import ARM_ACTIONS
from polygate.judges import Judgement, phrases
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings

COLUMNS = ["prompt_id", "subset", "completion"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with judging")
    parser.add_argument("--dataset", help="data set of the prompts, where given: what the files must be of")
    parser.add_argument("--language", required=True, help="language of the prompts")
    parser.add_argument("--prompts", required=True, help="prompt table of the language")
    parser.add_argument("--completions", required=True, nargs="+", help="completions, one file per arm")
    parser.add_argument("--outputs", required=True, nargs="+", help="judgements, parallel to --completions")
    parser.add_argument("--arms", nargs="+", choices=ARM_ACTIONS, help="arms of --completions, which are then checked")
    parser.add_argument("--steering", nargs="?", help="steering vector of the language: whether ablation does anything")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, judge, write."""
    judging = stage_settings(args.settings).judging
    prompts = files.read_parquet(args.prompts, ["prompt_id", "text", "reference"])
    metadata = files.parquet_metadata(prompts)
    dataset = args.dataset or metadata.get("dataset", "")
    files.expect(args.prompts, metadata, dataset=dataset, language=args.language)
    actions = arm_actions(args.arms or [], args.steering)
    model = ""
    judge = judges.load(judging, metadata, args.language)
    rows = {row["prompt_id"]: row for row in prompts.to_pylist()}
    own = phrases.own_file(judging.phrases, args.language)
    told = judging.model_copy(update={"phrases": own and Path(own.name)})
    made = provenance("polygate.stages.judge", judging=dump(told), language=args.language)
    for index, (source, output) in enumerate(zip(args.completions, args.outputs, strict=True)):
        completions = files.read_parquet(source, COLUMNS)
        said = files.parquet_metadata(completions)
        model = model or identity.asked_for(args.of, said)
        arm, action = actions[index] if actions else ("", said.get("action", ""))
        of = {"model": model, "dataset": dataset, "action": action}
        files.expect(source, said, language=args.language, **of)
        asked = [rows.get(name) for name in completions["prompt_id"].to_pylist()]
        if None in asked:
            unknown = completions["prompt_id"][asked.index(None)].as_py()
            raise PolygateError(f"completion of {unknown!r}, which is not among the prompts", where=source)
        known = [row for row in asked if row is not None]
        of["prompts"] = table.fingerprint(args.language, [(row["prompt_id"], row["text"]) for row in known])
        files.expect(source, said, prompts=of["prompts"])
        judged = judge.outcomes(
            args.language,
            [row["text"] for row in known],
            completions["completion"].to_pylist(),
            [row["reference"] for row in known],
        )
        of.update(arm=arm, judge=judging.judge)
        files.write_parquet(output, judgement_table(completions, judged, args.language), made, of)


def arm_actions(arms: Sequence[str], steering: str | None) -> list[tuple[str, str]]:
    """Arms with the action that their completions must have come about by: ablation of scope "none" is no action."""
    scope = files.safetensors_metadata(steering).get("ablation") if steering else None
    idle = {"ablation": "none"} if scope == "none" else {}
    return [(arm, idle.get(arm, ARM_ACTIONS[arm])) for arm in arms]


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
