"""What a guard is asked about the completions of one arm: a prompt table like any other, of split test."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from polygate import files
from polygate.judges.guards import Framing
from polygate.prompts import table
from polygate.prompts.table import Prompt
from polygate.provenance import provenance


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--framing", required=True, help="what stands around prompt and completion")
    parser.add_argument("--dataset", required=True, help="what the files must be of")
    parser.add_argument("--language", required=True, help="what the files must be of")
    parser.add_argument("--prompts", required=True, help="prompt table of the language")
    parser.add_argument("--completions", required=True, help="completions of the arm")
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Read, frame, write."""
    framing = Framing.read(args.framing)
    prompts = table.read(args.prompts, dataset=args.dataset, language=args.language)
    completions = files.read_parquet(args.completions, ["prompt_id", "completion"])
    ids, texts = (completions[name].to_pylist() for name in completions.column_names)
    said = files.parquet_metadata(completions)
    rows = prompts.rows_of(ids)
    files.expect(
        args.completions,
        said,
        dataset=args.dataset,
        language=args.language,
        prompts=prompts.fingerprint(rows),
    )
    asked = [
        Prompt(name, framing.ask(prompts.texts[row], text)) for name, row, text in zip(ids, rows, texts, strict=True)
    ]
    found = replace(table.build(args.language, asked), dataset=args.dataset, tested=True)
    table.write(args.output, found, provenance("polygate.stages.guard_prompts"))
