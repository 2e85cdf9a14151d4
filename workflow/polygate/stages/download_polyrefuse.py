"""Stage `download-polyrefuse`: PolyRefuse at its pinned revision into a flat folder, checksums compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from polygate.prompts.sources import download
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section prompts")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download, compare, and say on stderr what differs from the pinned revision."""
    settings = stage_settings(args.settings)
    for notice in download.polyrefuse(args.output, settings.prompts.revision):
        print(f"polygate download-polyrefuse: note: {notice}", file=sys.stderr)
