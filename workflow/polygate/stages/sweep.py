"""Sweeps of one target language: every point of the grid as an intervention on its prompts.

The layer sweep is on harmful test prompts, the strength sweep on harmful val prompts.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision.gate import coordinates
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import POSITION, ClassMeans, Directions, open_matching, unit
from polygate.settings.types import dump, stage_settings
from polygate.steering import sweeps
from polygate.steering.choice import Choice
from polygate.steering.strength import counted, projection_gap


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with sweeps")
    parser.add_argument("--target", required=True, help="the language that is steered")
    parser.add_argument("--prompts", required=True, help="prompt table of the target")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--source-activations", required=True, nargs="+", help="their activation stores")
    parser.add_argument("--source-prompts", required=True, nargs="+", help="their prompt tables")
    parser.add_argument("--pivot", required=True, help="the language that v_en is from")
    parser.add_argument("--pivot-means", required=True, help="its class means")
    parser.add_argument("--directions", required=True, help="directions of the target")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, decide, write."""
    settings = stage_settings(args.settings).sweeps
    directions = Directions.load(args.directions, language=args.target)
    model = identity.asked_for(args.of, directions.metadata)
    files.expect(args.directions, directions.metadata, model=model)
    directions.check_sources(args.sources, args.directions)
    depth = len(directions.pc1_of_diffs)
    choice = Choice.load(args.choices, model=model)
    choice.check_layer(depth, args.choices)
    means = ClassMeans.load(args.pivot_means, language=args.pivot, model=model)
    if means.harmful.shape != directions.pc1_of_diffs.shape:
        what = f"means of shape {means.harmful.shape} beside directions of shape {directions.pc1_of_diffs.shape}"
        raise PolygateError(what, where=args.pivot_means, do="delete the file and rerun")
    prompts = table.read_to_fit(args.prompts, language=args.target)
    asked = {
        "layer": [prompts.ids[row] for row in prompts.select("test", "harmful")[: settings.prompts]],
        "strength": [prompts.ids[row] for row in prompts.select("val", "harmful")[: settings.prompts]],
    }
    points = sweeps.layer_points(depth) if settings.layers else []
    points += sweeps.strength_points(choice.layer, settings.strengths)
    vectors = {"v_en": unit(means.harmful - means.harmless).astype(np.float32), "v_hrl": directions.pc1_of_diffs}
    gap = 0.0
    if settings.strengths:
        gap = counted(_gap(args, directions.pc1_of_diffs[choice.layer], choice.layer, model), choice.unit)
    swept = sweeps.intervention(asked, points, vectors, gap)  # type: ignore[arg-type]
    made = provenance("polygate.stages.sweep", sweeps=dump(settings), target=args.target, layer=choice.layer, gap=gap)
    of = {"model": model, "dataset": prompts.dataset, "language": args.target, "arm": sweeps.ARM}
    swept.save(args.output, made, {**of, "prompts": prompts.fingerprint()})


def _gap(args: argparse.Namespace, v: NDArray[np.float32], layer: int, model: str) -> float:
    """The projection gap along `v` [d] over the train rows of the sources, multiple-choice prompts left out."""
    along, harmful = [], []
    for name, store, path in zip(args.sources, args.source_activations, args.source_prompts, strict=True):
        prompts = table.read_to_fit(path, language=name)
        rows = prompts.select("train")
        activations = open_matching(store, prompts, model)
        along.append(coordinates(activations.read(layer, POSITION, rows), v[None])[:, 0].astype(np.float64))
        activations.check_finite(along[-1], layer, rows)
        harmful.append(prompts.harmful[rows])
    return projection_gap(np.concatenate(along), np.concatenate(harmful))
