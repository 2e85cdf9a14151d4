"""Stage `download-dataset`: a published data set at its pinned revision into a flat folder, checksums compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from polygate.errors import PolygateError
from polygate.prompts import sources
from polygate.prompts.sources import download
from polygate.settings.types import Dataset, Origin


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--source", required=True, choices=get_args(Origin), help="which one")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download and compare."""
    published = sources.of(Dataset.model_construct(source=args.source)).PUBLISHED
    if published is None:
        raise PolygateError(f"nothing is downloaded as a whole for source {args.source}")
    download.published(args.output, published)
