"""The parts of every prompt in a language's U-Score, by layer, beside the pivot language."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation import directions


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--pivot", required=True, help="the language that prompts are translated from")
    parser.add_argument("--language", required=True, help="the other language")
    parser.add_argument("--pivot-activations", required=True, help="activation store of the pivot")
    parser.add_argument("--pivot-prompts", required=True, help="prompt table of the pivot")
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="prompt table of the language")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.representation import uscore

    pivot = table.read_to_fit(args.pivot_prompts, language=args.pivot)
    own = table.read_to_fit(args.prompts, language=args.language)
    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations))
    stores = [
        directions.open_matching(path, prompts, model)
        for path, prompts in ((args.pivot_activations, pivot), (args.activations, own))
    ]
    found = uscore.by_layer(pivot, stores[0], own, stores[1])
    made = provenance("polygate.stages.uscore", pivot=args.pivot, language=args.language, position=uscore.POSITION)
    files.write_parquet(args.output, found, made, {"model": model, "prompts": own.fingerprint(), "pivot": args.pivot})
