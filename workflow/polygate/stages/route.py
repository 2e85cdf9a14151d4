"""Routed completions and judgements of one language, every budget and draw: selections from the steered arms."""

from __future__ import annotations

import argparse

import pyarrow as pa

from polygate import files
from polygate.forward import identity
from polygate.provenance import provenance
from polygate.steering import conditional

COMPLETION = ["prompt_id", "subset", "completion", "prompt_tokens", "new_tokens", "finished"]
JUDGEMENT = ["prompt_id", "subset", "outcome", "refusal_language", "raw"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--scores", required=True, help="gate scores of the language")
    parser.add_argument("--rank", required=True, type=int, help="rank of the gates that route")
    for arm in ("addition", "ablation"):
        parser.add_argument(f"--{arm}-completions", help="with --completions")
        parser.add_argument(f"--{arm}-judgements", required=True)
    parser.add_argument("--budgets", required=True, nargs="+", type=int)
    parser.add_argument("--completions", nargs="+", help="outputs, one per budget; without, judgements alone")
    parser.add_argument("--judgements", required=True, nargs="+", help="outputs, one per budget")
    parser.add_argument("--dataset", help="what the files must be of, where given")
    parser.add_argument("--language", help="what the files must be of, where given")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, select, write."""
    scores = files.read_parquet(args.scores, conditional.SCORE_COLUMNS)
    said = files.parquet_metadata(scores)
    of = {what: getattr(args, what) or said.get(what, "") for what in ("dataset", "language")}
    of["model"] = identity.asked_for(args.of, said)
    files.expect(args.scores, said, **of)
    completions, judgements, seen = [], [], {}
    same_judge: dict[str, str] = {}
    for arm in ("addition", "ablation"):
        path, judged = getattr(args, f"{arm}_completions"), getattr(args, f"{arm}_judgements")
        judgements.append(files.read_parquet(judged, JUDGEMENT))
        seen = files.parquet_metadata(judgements[-1])
        files.expect(judged, seen, arm=arm, **of, **same_judge)
        same_judge = {what: seen.get(what, "") for what in ("judge", "asked")}
        if not args.completions:
            continue
        completions.append(files.read_parquet(path, COMPLETION))
        same = {what: seen.get(what) for what in ("intervention", "prompts")}
        files.expect(path, files.parquet_metadata(completions[-1]), **same, **of)
    of |= {"prompts": seen.get("prompts", ""), **same_judge, "gate": said.get("gate", "")}
    texts_to = args.completions or [None] * len(args.budgets)
    for budget, to_completions, to_judgements in zip(args.budgets, texts_to, args.judgements, strict=True):
        decided = conditional.decisions(scores, args.rank, budget)
        made = provenance("polygate.stages.route", rank=args.rank, budget=budget)
        routed = {**of, "arm": "routed", "budget": str(budget)}
        if to_completions is not None:
            texts = _with(conditional.select(decided, *completions), decided, "draw", "gate_score", "flagged")
            files.write_parquet(to_completions, texts, made, routed)
        outcomes = _with(conditional.select(decided, *judgements), decided, "draw", "flagged")
        files.write_parquet(to_judgements, outcomes, made, routed)


def _with(rows: pa.Table, decided: pa.Table, *columns: str) -> pa.Table:
    for name in columns:
        rows = rows.append_column(name, decided[name])
    return rows.replace_schema_metadata(None)
