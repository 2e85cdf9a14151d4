"""Directions for one target language from its sources' class means, and its val and test prompts' projections."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation import directions
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate and pivot")
    parser.add_argument("--target", required=True, help="the language the directions are tested on")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--means", required=True, nargs="+", help="class means of the sources, in their order")
    parser.add_argument("--own-means", required=True, help="class means of the target")
    parser.add_argument("--activations", required=True, help="activation store of the target")
    parser.add_argument("--prompts", required=True, help="prompt table of the target")
    parser.add_argument("--directions", required=True, help="output, safetensors")
    parser.add_argument("--projections", required=True, help="output, parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    settings = stage_settings(args.settings)
    prompts = table.read_to_fit(args.prompts, language=args.target)
    store = directions.open_matching(args.activations, prompts)
    model = identity.asked_for(args.of, store.metadata)
    files.expect(args.activations, store.metadata, model=model)
    of = {"model": model, "dataset": prompts.dataset, "prompts": prompts.fingerprint()}
    sources = {
        name: directions.ClassMeans.load(path, language=name, model=model)
        for name, path in zip(args.sources, args.means, strict=True)
    }
    found = directions.for_target(
        args.target,
        sources,
        directions.ClassMeans.load(args.own_means, language=args.target, **of),
        pivot=settings.pivot,
        rank=settings.gate.ranks[-1],
    )
    made = provenance("polygate.stages.directions", pivot=settings.pivot, target=args.target, sources=args.sources)
    found.save(args.directions, made, of)
    files.write_parquet(args.projections, directions.projections(store, prompts, found), made, of)
