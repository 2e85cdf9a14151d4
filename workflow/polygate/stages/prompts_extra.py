"""Stage `prompts-extra`: one language's prompt table from a plain file of the user's."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from polygate.prompts import table
from polygate.prompts.checks import shared
from polygate.prompts.sources import extra
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section prompts")
    parser.add_argument("--dataset", default="", help="name of the data set")
    parser.add_argument("--language", required=True)
    parser.add_argument("--file", required=True, type=Path, help="{language}.csv, .jsonl or .parquet")
    parser.add_argument(
        "--pivot-table",
        type=Path,
        nargs="?",
        help="prompt table of the pivot, whose ids the file uses; none for itself",
    )
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Read, check against the pivot's table, write; an allowed hole is named on stderr and in the metadata."""
    settings = stage_settings(args.settings).prompts
    pivot = table.read(args.pivot_table, align=True) if args.pivot_table else None
    prompts = extra.read(args.file, args.language, settings, pivot)
    for hole in prompts.missing:
        print(f"polygate prompts-extra: note: {args.language} goes on without {hole} prompts", file=sys.stderr)
    repeated = [str(each) for each in shared(zip(prompts.ids, prompts.texts, strict=True))]
    for each in repeated:
        print(f"polygate prompts-extra: note: in {args.language} {each}", file=sys.stderr)
    facts = provenance(
        __name__,
        source="extra",
        normalise=settings.normalise,
        limit=settings.limit.model_dump(),
        align=settings.align,
        shared=repeated,
        sha256={args.file.name: hashlib.sha256(args.file.read_bytes()).hexdigest()},
    )
    # Beside invented languages one's own prompts are answered, and judged, in the words of those.
    known = pivot.metadata if pivot else {}
    words = {name: known[name] for name in ("refusals", "openings") if name in known}
    table.write(args.output, replace(prompts, dataset=args.dataset), facts, words)
