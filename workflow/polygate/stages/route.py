"""Routed completions and judgements of one language, every budget and draw: selections from the steered arms."""

from __future__ import annotations

import argparse

import pyarrow as pa

from polygate import files
from polygate.provenance import provenance
from polygate.steering import conditional

COMPLETION = ["prompt_id", "subset", "completion", "prompt_tokens", "new_tokens", "finished"]
JUDGEMENT = ["prompt_id", "subset", "outcome", "refusal_language", "raw"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--scores", required=True, help="gate scores of the language")
    parser.add_argument("--rank", required=True, type=int, help="rank of the gates that route")
    for arm in ("addition", "ablation"):
        parser.add_argument(f"--{arm}-completions", required=True)
        parser.add_argument(f"--{arm}-judgements", required=True)
    parser.add_argument("--budgets", required=True, nargs="+", type=int)
    parser.add_argument("--completions", required=True, nargs="+", help="outputs, one per budget")
    parser.add_argument("--judgements", required=True, nargs="+", help="outputs, one per budget")


def run(args: argparse.Namespace) -> None:
    """Read, select, write."""
    scores = files.read_parquet(args.scores, conditional.SCORE_COLUMNS)
    completions = [
        files.read_parquet(path, COMPLETION) for path in (args.addition_completions, args.ablation_completions)
    ]
    judgements = [files.read_parquet(path, JUDGEMENT) for path in (args.addition_judgements, args.ablation_judgements)]
    for budget, to_completions, to_judgements in zip(args.budgets, args.completions, args.judgements, strict=True):
        decided = conditional.decisions(scores, args.rank, budget)
        made = provenance("polygate.stages.route", rank=args.rank, budget=budget)
        texts = _with(conditional.select(decided, *completions), decided, "draw", "gate_score", "flagged")
        files.write_parquet(to_completions, texts, made)
        outcomes = _with(conditional.select(decided, *judgements), decided, "draw", "flagged")
        files.write_parquet(to_judgements, outcomes, made)


def _with(rows: pa.Table, decided: pa.Table, *columns: str) -> pa.Table:
    for name in columns:
        rows = rows.append_column(name, decided[name])
    return rows.replace_schema_metadata(None)
