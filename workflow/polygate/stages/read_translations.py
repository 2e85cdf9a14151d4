"""Stage `read-translations`: translations that somebody else made, from a plain file."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from polygate.prompts import table
from polygate.prompts.translation import given, kept
from polygate.prompts.translation.given import DIRECTIONS
from polygate.provenance import provenance


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--file", required=True, type=Path, help="{language}.csv, .jsonl or .parquet")
    parser.add_argument("--prompts", required=True, type=Path, help="prompt table that was translated")
    parser.add_argument("--language", required=True, help="the language that isn't the pivot")
    parser.add_argument("--direction", required=True, choices=DIRECTIONS, help="into it, or back into the pivot")
    parser.add_argument("--output", required=True, type=Path, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, check, write; rows of prompts that the run doesn't have are counted on stderr."""
    prompts = table.read(args.prompts, align=True)
    found, others = given.read(args.file, args.direction, prompts)
    if others:
        print(
            f"polygate read-translations: note: {others} rows of {args.file.name} are of prompts that this run lacks",
            file=sys.stderr,
        )
    facts = provenance(__name__, sha256={args.file.name: hashlib.sha256(args.file.read_bytes()).hexdigest()})
    kept.write(args.output, prompts, found, args.language, args.direction, f"file {args.file.name}", facts)
