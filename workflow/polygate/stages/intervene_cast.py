"""What CAST does to every test prompt of a language, its condition tuned there: on all of val, and on examples alone.

The examples are those of the language that the directions were fitted on: the gates' first draw of that budget. All of
val is more than these, which is why there are two arms. Both have the same strength: that of the settings, or the one
chosen on all of val (`steering.cast_strength`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from polygate import files
from polygate.decision.calibration import draw_examples
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.settings.types import stage_settings
from polygate.steering.cast import Cast
from polygate.steering.cast_strength import StrengthChoice


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: baselines, seed")
    parser.add_argument("--cast", required=True, help="what `fit-cast` wrote")
    parser.add_argument("--strength", nargs="?", type=float, help="how much of the behaviour is added")
    parser.add_argument("--chosen", nargs="?", help="what `choose-cast` wrote, in place of --strength")
    parser.add_argument("--language", required=True, help="the language that is steered")
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--arms", required=True, nargs=2, help="what the arms tuned on val and on examples are called")
    parser.add_argument("--outputs", required=True, nargs=2, help="safetensors, parallel to --arms")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, tune, decide, write."""
    settings = stage_settings(args.settings)
    prompts = table.read_to_fit(args.prompts, language=args.language)
    store = open_matching(args.activations, prompts)
    model = identity.asked_for(args.of, store.metadata)
    files.expect(args.activations, store.metadata, model=model)
    found = Cast.load(args.cast, model=model)
    found.check_fits(store, args.cast)
    if (args.strength is None) == (args.chosen is None):
        raise PolygateError("give --strength or --chosen, one of them")
    strength = StrengthChoice.load(args.chosen, model=model).strength if args.strength is None else args.strength
    examples = draw_examples(prompts, settings.baselines.examples, 0, settings.seed)
    test = prompts.select("test")
    for arm, rows, output in zip(args.arms, (prompts.select("val"), examples), args.outputs, strict=True):
        condition = found.tuned(store, rows, prompts.harmful[rows])
        of = {"model": model, "dataset": prompts.dataset, "language": args.language, "arm": arm}
        of["prompts"] = prompts.fingerprint()
        facts = {"tuned_on": len(rows), "condition": asdict(condition), "strength": strength}
        made = provenance("polygate.stages.intervene_cast", **facts)
        found.intervention(store, test, condition, strength).save(output, made, of)
