"""CAST as released, for one model: directions and condition from its own English data, the same in every language."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.prompts.table import OPENING
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.settings.types import dump, stage_settings
from polygate.steering import cast


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: baselines")
    parser.add_argument("--prompts", required=True, nargs=2, help="prompt tables of conditions and of behaviours")
    parser.add_argument("--activations", required=True, nargs=2, help="activation stores, parallel to --prompts")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, fit, tune, write."""
    settings = stage_settings(args.settings)
    asked, answered = (table.read_to_fit(path) for path in args.prompts)
    conditions, behaviours = map(open_matching, args.activations, (asked, answered))
    model = identity.asked_for(args.of, conditions.metadata)
    for store in (conditions, behaviours):
        files.expect(store.path, store.metadata, model=model)
    rows = np.arange(len(answered))
    found = cast.fit(
        cast.pairs_of(conditions, cast.MEAN, asked.select("train", "harmful"), asked.select("train", "harmless")),
        cast.pairs_of(behaviours, OPENING, rows[::2], rows[1::2]),
        conditions.layers,
        settings.baselines.cast,
    )
    tuned_on: NDArray[np.int64] = asked.select("val")
    fixed = found.tuned(conditions, tuned_on, asked.harmful[tuned_on])
    facts = {"baselines": dump(settings.baselines), "tuned_on": len(tuned_on), "condition": asdict(fixed)}
    made = provenance("polygate.stages.fit_cast_released", **facts)
    replace(found, fixed=fixed).save(args.output, made, {"model": model})
