"""CAST adapted to the low-resource languages of a run: directions of condition and behaviour of one model."""

from __future__ import annotations

import argparse
from typing import Any

from numpy.typing import NDArray

from polygate.forward import identity
from polygate.provenance import provenance
from polygate.representation.directions import POSITION
from polygate.settings.types import dump, stage_settings
from polygate.stages.fit_adasteer import examples
from polygate.steering import cast
from polygate.steering.adasteer import together


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: baselines, seed")
    parser.add_argument("--languages", required=True, nargs="+", help="languages that it is adapted to")
    parser.add_argument("--activations", required=True, nargs="+", help="activation stores, parallel to --languages")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables, parallel to --languages")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, fit, write."""
    settings = stage_settings(args.settings)
    stores, rows, harmful, model = examples(args, settings)

    def pairs(position: str) -> cast.Pairs:
        def read(layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
            x = together(stores, rows, layer, position)
            return x[harmful], x[~harmful]

        return read

    found = cast.fit(pairs(cast.MEAN), pairs(POSITION), stores[0].layers, settings.baselines.cast)
    facts = {"languages": args.languages, "baselines": dump(settings.baselines), "seed": settings.seed}
    found.save(args.output, provenance("polygate.stages.fit_cast", **facts), {"model": model})
