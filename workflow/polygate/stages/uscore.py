"""The parts of every prompt in the U-Scores of every language but the pivot, by layer, for one model."""

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
    parser.add_argument("--languages", required=True, nargs="+", help="the languages, the pivot among them")
    parser.add_argument("--activations", required=True, nargs="+", help="activation store of each language")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt table of each language")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.representation import uscore

    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations[0]))
    found = {}
    for name, path, store in zip(args.languages, args.prompts, args.activations, strict=True):
        prompts = table.read_to_fit(path, language=name)
        found[name] = prompts, directions.open_matching(store, prompts, model)
    pivot = found.pop(args.pivot)
    made = provenance("polygate.stages.uscore", pivot=args.pivot, position=uscore.POSITION)
    scores = uscore.by_layer(*pivot, list(found.values()))
    files.write_parquet(args.output, scores, made, {"model": model, "pivot": args.pivot})
