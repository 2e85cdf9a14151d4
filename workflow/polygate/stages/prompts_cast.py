"""Prompt tables of CAST's own data: pairs that its condition is fitted on, and openings for its behaviour."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

from polygate.prompts import table
from polygate.prompts.sources import cast_data
from polygate.provenance import provenance


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--folder", required=True, type=Path, help="folder with CAST's files")
    parser.add_argument("--pairs", type=int, help="pairs of prompts of either part, the first ones; all when left out")
    parser.add_argument("--questions", required=True, type=int, help="questions that openings follow, the first ones")
    parser.add_argument("--openings", required=True, type=int, help="openings of each kind, the first ones")
    parser.add_argument("--conditions", required=True, help="prompt table of the pairs")
    parser.add_argument("--behaviours", required=True, help="prompt table of questions and openings")


def run(args: argparse.Namespace) -> None:
    """Read, check, write."""
    asked = {"pairs": args.pairs, "questions": args.questions, "openings": args.openings}
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in cast_data.files(args.folder)}
    facts = provenance("polygate.stages.prompts_cast", sha256=sums, **asked)
    parts = {
        args.conditions: cast_data.conditions(args.folder, args.pairs),
        args.behaviours: cast_data.behaviours(args.folder, args.questions, args.openings),
    }
    for path, prompts in parts.items():
        table.write(path, replace(table.build(cast_data.LANGUAGE, prompts), dataset=cast_data.DATASET), facts)
