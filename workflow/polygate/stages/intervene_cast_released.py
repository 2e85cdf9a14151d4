"""What CAST as released does to every test prompt of a language: where the condition that it brings fires."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from polygate import files
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.steering.cast import Cast


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--cast", required=True, help="what `fit-cast-released` wrote")
    parser.add_argument("--arm", required=True, help="what the arm is called")
    parser.add_argument("--dataset", help="data set of the prompts")
    parser.add_argument("--language", required=True, help="the language that is steered")
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, decide, write."""
    prompts = table.read(args.prompts, language=args.language, dataset=args.dataset)
    store = open_matching(args.activations, prompts)
    model = identity.asked_for(args.of, store.metadata)
    files.expect(args.activations, store.metadata, model=model)
    found = Cast.load(args.cast, model=model)
    found.check_fits(store, args.cast)
    if found.fixed is None:
        raise PolygateError("holds no condition of its own", where=args.cast, do="give what `fit-cast-released` wrote")
    of = {"model": model, "dataset": prompts.dataset, "language": args.language, "arm": args.arm}
    of["prompts"] = prompts.fingerprint()
    made = provenance("polygate.stages.intervene_cast_released", arm=args.arm, condition=asdict(found.fixed))
    found.intervention(store, prompts.select("test"), found.fixed).save(args.output, made, of)
