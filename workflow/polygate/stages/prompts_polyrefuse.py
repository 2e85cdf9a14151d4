"""Stage `prompts-polyrefuse`: one language's prompt table from a local copy of PolyRefuse."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from polygate.prompts import table
from polygate.prompts.checks import shared
from polygate.prompts.sources import polyrefuse
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section prompts")
    parser.add_argument("--dataset", default="", help="name of the data set")
    parser.add_argument("--language", required=True)
    parser.add_argument("--folder", required=True, type=Path, help="flat folder, or a clone of upstream's repository")
    parser.add_argument(
        "--pivot", default=polyrefuse.ORIGINAL, help="language that rows are compared with, and English"
    )
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Read, check, write; a hole that the settings allow is named on stderr and in the table's metadata."""
    settings = stage_settings(args.settings).prompts
    prompts = polyrefuse.read(args.folder, args.language, settings, args.pivot)
    for hole in prompts.missing:
        print(f"polygate prompts-polyrefuse: note: {args.language} goes on without {hole} prompts", file=sys.stderr)
    repeated = [str(each) for each in shared(zip(prompts.ids, prompts.texts, strict=True))]
    for each in repeated:
        print(f"polygate prompts-polyrefuse: note: in {args.language} {each}", file=sys.stderr)
    facts = provenance(
        __name__,
        source="polyrefuse",
        normalise=settings.normalise,
        limit=settings.limit.model_dump(),
        align=settings.align,
        shared=repeated,
        sha256=polyrefuse.checksums(args.folder, args.language),
    )
    table.write(args.output, replace(prompts, dataset=args.dataset), facts)
