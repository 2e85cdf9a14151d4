"""AdaSteer adapted to the low-resource languages of a run: vectors, anchors and constants of one model.

Constants are the model's published ones, or fitted where it has none: by the rule of `adasteer.fitted_constants`, at
the layer whose reading separates val prompts best in languages that choices see, with the model's chosen strength.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision.calibration import draw_examples
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.provenance import provenance
from polygate.representation.directions import POSITION, open_matching, unit
from polygate.representation.store import ActivationStore
from polygate.settings.types import dump, stage_settings
from polygate.steering import adasteer
from polygate.steering.choice import Choice


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument(
        "--settings", required=True, help="JSON: baselines, seed, and adasteer where there are constants"
    )
    parser.add_argument("--languages", required=True, nargs="+", help="languages that it is adapted to")
    parser.add_argument("--activations", required=True, nargs="+", help="activation stores, parallel to --languages")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables, parallel to --languages")
    parser.add_argument("--seen", required=True, nargs="+", help="languages on whose val prompts constants are fitted")
    parser.add_argument("--seen-activations", required=True, nargs="+", help="activation stores, parallel to --seen")
    parser.add_argument("--seen-prompts", required=True, nargs="+", help="prompt tables, parallel to --seen")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, fit, write."""
    settings = stage_settings(args.settings)
    stores, rows, labels, model = examples(args, settings)
    pooled = adasteer.pool(stores, rows, labels)
    facts: dict[str, Any] = {"languages": args.languages, "baselines": dump(settings.baselines), "seed": settings.seed}
    if hasattr(settings, "adasteer"):
        alpha, beta = settings.adasteer.alpha, settings.adasteer.beta
    else:
        choice = Choice.load(args.choices, model=model)
        choice.check_layer(len(pooled.vectors), args.choices)
        projections = adasteer.together(stores, rows, choice.layer) @ unit(pooled.vectors[choice.layer])
        layer, auc = adasteer.reading_layer(pooled, seen(args, model))
        beta, where = None, adasteer.Where(layer, choice.layer, choice.strength, choice.unit)
        alpha = adasteer.fitted_constants(pooled, projections, labels, where)
        facts |= {"seen": args.seen, "auc": auc, **asdict(where)}
    found = adasteer.adapted(pooled, alpha, beta, settings.baselines.adasteer_tokens)
    facts["constants"] = {name: steer.constants.model_dump() for name, steer in found.steers.items()}
    found.save(args.output, provenance("polygate.stages.fit_adasteer", **facts), {"model": model})


def examples(
    args: argparse.Namespace, settings: SimpleNamespace
) -> tuple[list[ActivationStore], list[NDArray[np.int64]], NDArray[np.bool_], str]:
    """What it is adapted to: stores, the rows drawn of each, labels of all rows one below the other, and the model."""
    stores, prompts = read(args.languages, args.activations, args.prompts)
    model = identity.asked_for(args.of, stores[0].metadata)
    for store in stores:
        files.expect(store.path, store.metadata, model=model)
    rows = [draw_examples(one, settings.baselines.examples, 0, settings.seed) for one in prompts]
    return stores, rows, np.concatenate([one.harmful[chosen] for one, chosen in zip(prompts, rows, strict=True)]), model


def read(
    languages: Sequence[str], activations: Sequence[str], prompts: Sequence[str]
) -> tuple[list[ActivationStore], list[PromptTable]]:
    """Stores and tables of languages that something is fitted on."""
    tables = [table.read_to_fit(path, language=name) for name, path in zip(languages, prompts, strict=True)]
    return [open_matching(path, one) for path, one in zip(activations, tables, strict=True)], tables


def seen(args: argparse.Namespace, model: str) -> list[adasteer.Seen]:
    """Val prompts of the languages that constants are fitted on and that have both classes."""
    found = []
    for store, prompts in zip(*read(args.seen, args.seen_activations, args.seen_prompts), strict=True):
        files.expect(store.path, store.metadata, model=model)
        rows = prompts.select("val")
        harmful = prompts.harmful[rows]
        if harmful.any() and not harmful.all():
            here = [store.read(layer, POSITION, rows) for layer in range(store.layers)]
            for layer, values in enumerate(here):
                store.check_finite(values, layer, rows)
            found.append(adasteer.Seen(here, harmful))
    if not found:
        raise PolygateError(
            "no language has harmful and harmless val prompts to fit AdaSteer's constants on",
            do="give the model's adasteer in the settings, or take adasteer out of baselines.methods",
        )
    return found
