"""Projections of one target language's val and test prompts at every token position, on what its sources show there."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation import directions, positions


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--pivot", required=True, help="the language whose direction orients signs, where a source")
    parser.add_argument("--target", required=True, help="the language the directions are tested on")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--means", required=True, nargs="+", help="their class means by position, in their order")
    parser.add_argument("--activations", required=True, help="activation store of the target")
    parser.add_argument("--prompts", required=True, help="prompt table of the target")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    prompts = table.read(args.prompts, language=args.target)
    store = directions.open_matching(args.activations, prompts)
    model = identity.asked_for(args.of, store.metadata)
    files.expect(args.activations, store.metadata, model=model)
    sources = {
        name: positions.PositionMeans.load(path, language=name, model=model)
        for name, path in zip(args.sources, args.means, strict=True)
    }
    found = positions.scores(store, prompts, positions.for_target(args.target, sources, args.pivot))
    made = provenance("polygate.stages.positions", pivot=args.pivot, target=args.target, sources=args.sources)
    files.write_parquet(args.output, found, made, {"model": model, "prompts": prompts.fingerprint()})
