"""Gates of the high-resource languages and one more, tested on every other language, for one model."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.provenance import provenance
from polygate.settings.types import stage_settings
from polygate.stages import recoverability


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    recoverability.of_all_languages(parser, "gate, probes, pivot and seed")
    parser.add_argument("--output", required=True, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.decision.probes import rows
    from polygate.decision.probes.transfer import transfer

    settings = stage_settings(args.settings)
    model, layer = recoverability.model_and_layer(args)
    languages = rows.load_all(
        args.tiers, args.prompts, args.activations, layer, settings.probes, settings.seed, args.languages, model
    )
    found = transfer(languages, settings.gate, settings.pivot, settings.seed)
    made = provenance("polygate.stages.transfer", layer=layer, seed=settings.seed, pivot=settings.pivot)
    files.write_parquet(args.output, found, made, {"model": model})
