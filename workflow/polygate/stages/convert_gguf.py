"""Stage `convert-gguf`: a GGUF file as a plain Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--source", required=True, help="path of a .gguf file, or the package that carries one")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Convert the file."""
    from polygate.models.gguf import convert

    convert(args.source, args.output)
