"""Class means of one language's train activations at every token position and layer, from its activation store."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation import directions, positions


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--language", required=True, help="what it must be")
    parser.add_argument("--output", required=True, help="safetensors: harmful and harmless per position, counts")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    prompts = table.read_to_fit(args.prompts, language=args.language)
    store = directions.open_matching(args.activations, prompts)
    model = identity.asked_for(args.of, store.metadata)
    files.expect(args.activations, store.metadata, model=model)
    of = {"model": model, "prompts": prompts.fingerprint()}
    made = provenance("polygate.stages.position_means", positions=list(store.positions))
    positions.position_means(store, prompts).save(args.output, prompts.language, made, of)
