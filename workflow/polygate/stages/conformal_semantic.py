"""Every rule of calibration for every language on a sentence encoder's embeddings, once for all models."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.controls import encoders, semantic
from polygate.decision import guarantees
from polygate.provenance import provenance
from polygate.settings.types import stage_settings
from polygate.stages import conformal


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate, calibration, controls, pivot and seed")
    parser.add_argument("--tiers", required=True, nargs="+", help="tier of each language")
    parser.add_argument("--languages", required=True, nargs="+", help="the languages that the files must be of")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt table of each language")
    parser.add_argument("--embeddings", required=True, nargs="+", help="its embeddings")
    parser.add_argument("--output", required=True, help="parquet, with the columns of the gates' decisions")


def run(args: argparse.Namespace) -> None:
    """Read, evaluate, write."""
    settings = stage_settings(args.settings)
    wanted = encoders.named(settings.controls)
    languages, encoder = guarantees.load_embedded(args.tiers, args.languages, args.prompts, args.embeddings, wanted)
    made = provenance("polygate.stages.conformal_semantic", **conformal.facts(settings))
    of = {semantic.ENCODER: encoder, "gate": settings.gate.described}
    files.write_parquet(args.output, conformal.decided([languages], settings), made, of)
