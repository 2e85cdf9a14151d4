"""Gates of the high-resource languages and one more, tested on every other language, for one model."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.provenance import provenance
from polygate.settings.types import stage_settings
from polygate.steering.choice import Choice


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate, probes, pivot and seed")
    parser.add_argument("--tiers", required=True, nargs="+", help="tier of each language")
    parser.add_argument("--activations", required=True, nargs="+", help="activation store of each language")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt table of each language")
    parser.add_argument("--languages", required=True, nargs="+", help="the languages that the files must be of")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.decision.probes import rows
    from polygate.decision.probes.transfer import transfer

    settings = stage_settings(args.settings)
    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations[0]))
    layer = Choice.load(args.choices, model=model).layer
    languages = rows.load_all(
        args.tiers, args.prompts, args.activations, layer, settings.probes, settings.seed, args.languages, model
    )
    found = transfer(languages, settings.gate, settings.pivot, settings.seed)
    made = provenance("polygate.stages.transfer", layer=layer, seed=settings.seed, pivot=settings.pivot)
    files.write_parquet(args.output, found, made, {"model": model})
