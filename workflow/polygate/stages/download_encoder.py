"""Stage `download-encoder`: a sentence encoder at a pinned commit of the Hugging Face hub, as a plain local folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.stages.download_model import fetch


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section controls")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download the encoder and check that weights, configuration and tokenizer have come."""
    controls = stage_settings(args.settings).controls
    fetch(controls.encoder, controls.revision, args.output)
