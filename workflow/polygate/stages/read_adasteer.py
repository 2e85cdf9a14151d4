"""AdaSteer as released for one model: its vectors and anchors, read without running what their files hold."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.forward import identity
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings
from polygate.steering import released


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: baselines, and adasteer, the model's constants")
    parser.add_argument("--folder", required=True, type=Path, help="folder with HD and RD")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, check, write."""
    settings = stage_settings(args.settings)
    constants = settings.adasteer
    found = released.read(args.folder, constants, settings.baselines.adasteer_tokens)
    made = provenance("polygate.stages.read_adasteer", alpha=dump(constants.alpha), beta=dump(constants.beta))
    found.save(args.output, made, {"model": identity.asked_for(args.of, {})})
