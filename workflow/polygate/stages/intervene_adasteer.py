"""What AdaSteer does to every test prompt of a language: coefficients read off the prompts' own activations."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.steering.adasteer import AdaSteer


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--adasteer", required=True, help="what `fit-adasteer` or `read-adasteer` wrote")
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
    found = AdaSteer.load(args.adasteer, model=model)
    found.check_fits(store, args.adasteer)
    of = {"model": model, "dataset": prompts.dataset, "language": args.language, "arm": args.arm}
    of["prompts"] = prompts.fingerprint()
    constants = {name: steer.constants.model_dump() for name, steer in found.steers.items()}
    made = provenance("polygate.stages.intervene_adasteer", arm=args.arm, constants=constants)
    found.intervention(store, prompts.select("test")).save(args.output, made, of)
