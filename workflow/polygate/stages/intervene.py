"""Interventions of the arms that gates route to, on the test prompts of one language: addition and ablation.

Both act on every prompt alike; a gate's decisions select between them afterwards.
"""

from __future__ import annotations

import argparse

import numpy as np

from polygate import files
from polygate.decision import fitting
from polygate.forward import identity
from polygate.forward.interventions import Intervention
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import Directions, open_matching
from polygate.steering import interventions
from polygate.steering.choice import Choice
from polygate.steering.strength import for_target


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--target", required=True, help="the language that is steered")
    parser.add_argument("--dataset", help="data set of the prompts")
    parser.add_argument("--prompts", required=True, help="prompt table of the target")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--source-activations", required=True, nargs="+", help="their activation stores")
    parser.add_argument("--source-prompts", required=True, nargs="+", help="their prompt tables")
    parser.add_argument("--directions", required=True, help="directions of the target")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument("--addition", required=True, help="output, safetensors")
    parser.add_argument("--ablation", required=True, help="output, safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, decide, write."""
    directions = Directions.load(args.directions, language=args.target)
    model = identity.asked_for(args.of, directions.metadata)
    files.expect(args.directions, directions.metadata, model=model)
    directions.check_sources(args.sources, args.directions)
    choice = Choice.load(args.choices, model=model)
    choice.check_layer(len(directions.basis), args.choices)
    tables, readings = {}, {}
    for name, store, path in zip(args.sources, args.source_activations, args.source_prompts, strict=True):
        tables[name] = table.read_to_fit(path, language=name)
        readings[name] = fitting.read(open_matching(store, tables[name], model), directions, [choice.layer])
    steering = for_target(directions, choice, fitting.source_gap(tables, readings, 0))
    prompts = table.read(args.prompts, language=args.target, dataset=args.dataset)
    ids = tuple(prompts.ids[row] for row in prompts.select("test"))
    everyone, depth = np.ones(len(ids)), len(directions.pooled_dim)
    parts = {
        "addition": (interventions.addition(steering.v, steering.layer, steering.alpha * everyone),),
        "ablation": interventions.ablation(steering.v, steering.layer, steering.scope, depth, everyone),
    }
    facts = {"target": args.target, "sources": args.sources, "layer": steering.layer, "scope": steering.scope}
    made = provenance("polygate.stages.intervene", **facts, strength=steering.strength, gap=steering.gap)
    for arm, chosen in parts.items():
        of = {"model": model, "dataset": prompts.dataset, "language": args.target, "arm": arm}
        of["prompts"] = prompts.fingerprint()
        Intervention(ids, chosen).save(getattr(args, arm), made, of)
