"""The strength of adapted CAST for one model, chosen on validation prompts of the languages that it is adapted to.

Conditions are tuned as those of arm cast are, on all val prompts of a language; `steering.prompts` of each class are
then answered. A language without val prompts of both classes is left out.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from polygate import files
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings
from polygate.stages.choose import answering
from polygate.stages.fit_adasteer import read
from polygate.steering import cast_strength, validation
from polygate.steering.cast import Cast, Condition


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: model, generation, judging; prompts of steering")
    parser.add_argument("--strengths", required=True, nargs="+", type=float, help="candidates, ascending")
    parser.add_argument("--model-folder", required=True, help="Hugging Face folder")
    parser.add_argument("--cast", required=True, help="what `fit-cast` wrote")
    parser.add_argument("--languages", required=True, nargs="+", help="languages that it is adapted to")
    parser.add_argument("--activations", required=True, nargs="+", help="activation stores, parallel to --languages")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables, parallel to --languages")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, tune, choose, write."""
    settings = stage_settings(args.settings)
    stores, tables = read(args.languages, args.activations, args.prompts)
    model = identity.asked_for(args.of, stores[0].metadata)
    found = Cast.load(args.cast, model=model)
    cases: dict[str, cast_strength.Case] = {}
    conditions: dict[str, Condition] = {}
    for name, store, prompts in zip(args.languages, stores, tables, strict=True):
        files.expect(store.path, store.metadata, model=model)
        found.check_fits(store, args.cast)
        rows = validation.validation_rows(prompts, settings.steering.prompts)
        if len(rows):
            tuned_on = prompts.select("val")
            conditions[name] = found.tuned(store, tuned_on, prompts.harmful[tuned_on])
            cases[name] = cast_strength.Case(prompts, rows, found.fires(store, rows, conditions[name]))
    if not cases:
        raise PolygateError(
            "no language has harmful and harmless val prompts to choose CAST's strength on",
            do="add val prompts, or give baselines.cast.strength",
        )
    total = cast_strength.generations(cases, len(args.strengths))
    with answering(args, settings, total) as (generate, judge, facts):
        chosen = cast_strength.choose(cases, found, args.strengths, generate, judge)
    facts |= {
        "model": dump(settings.model),
        "settings": dump({"generation": settings.generation, "prompts": settings.steering.prompts}),
        "strengths": args.strengths,
        "conditions": {name: asdict(one) for name, one in conditions.items()},
    }
    chosen.save(args.output, provenance("polygate.stages.choose_cast", **facts), {"model": model})
