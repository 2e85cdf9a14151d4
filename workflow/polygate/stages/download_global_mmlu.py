"""Stage `download-global-mmlu`: the questions of Global-MMLU in one language, from the hub at the pinned revision."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.prompts.sources import global_mmlu


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--language", required=True)
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download."""
    global_mmlu.fetch(args.language, args.output)
