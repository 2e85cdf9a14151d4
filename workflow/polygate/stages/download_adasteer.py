"""Stage `download-adasteer`: AdaSteer's released vectors of a model, from their repository at a pinned commit."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.steering import released


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--model", required=True, help="the model's folder in the repository")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download and compare."""
    released.download(args.output, args.model)
