"""What CAST as released does to every test prompt of a language: where the condition that it brings fires."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from polygate.errors import PolygateError
from polygate.provenance import provenance
from polygate.stages.intervene_adasteer import Steered, of_an_arm
from polygate.steering.cast import Cast


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--cast", required=True, help="what `fit-cast-released` wrote")
    parser.add_argument("--strength", required=True, type=float, help="how much of the behaviour is added")
    of_an_arm(parser)


def run(args: argparse.Namespace) -> None:
    """Read, decide, write."""
    given = Steered.read(args)
    found = Cast.load(args.cast, model=given.model)
    found.check_fits(given.store, args.cast)
    if found.fixed is None:
        raise PolygateError("holds no condition of its own", where=args.cast, do="give what `fit-cast-released` wrote")
    facts = {"arm": args.arm, "condition": asdict(found.fixed), "strength": args.strength}
    made = provenance("polygate.stages.intervene_cast_released", **facts)
    test = given.prompts.select("test")
    found.intervention(given.store, test, found.fixed, args.strength).save(args.output, made, given.of)
