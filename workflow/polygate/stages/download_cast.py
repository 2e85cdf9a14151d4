"""Stage `download-cast`: CAST's own data from its repository, every file at a pinned commit, checksums compared."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.prompts.sources import cast_data, download


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download and compare."""
    download.published(args.output, cast_data.PUBLISHED, setting=cast_data.SETTING)
