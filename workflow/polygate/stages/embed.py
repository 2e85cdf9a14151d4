"""Sentence embeddings of one language's prompts, once for all models."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.controls import encoders
from polygate.controls.semantic import Embedded
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with controls")
    parser.add_argument("--folder", type=Path, nargs="*", default=[], help="folder of a hub encoder")
    parser.add_argument("--cache", type=Path, help="where hashes of its files are kept")
    parser.add_argument("--prompts", required=True, help="prompt table")
    parser.add_argument("--language", required=True, help="its language")
    parser.add_argument("--output", required=True, type=Path, help="safetensors")


def run(args: argparse.Namespace) -> None:
    """Read, embed, write."""
    controls = stage_settings(args.settings).controls
    prompts = table.read(args.prompts, language=args.language)
    encoder = encoders.load(controls, next(iter(args.folder), None), args.cache)
    made = provenance("polygate.stages.embed", language=args.language, **encoder.facts)
    Embedded(prompts, encoder.embed(prompts.texts), encoder.facts).save(args.output, made)
