"""OMNIGuard for every target language, budget, draw and seed, at the layer of the best U-Score of one model."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.provenance import provenance
from polygate.settings.types import stage_settings
from polygate.stages import recoverability


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage: those of the comparison of probes, and the U-Scores."""
    recoverability.configure(parser)
    parser.add_argument("--uscores", required=True, help="U-Scores of the model")


def run(args: argparse.Namespace) -> None:
    """Choose the layer, read, train, write.

    Where no language shares train prompts with the pivot there is no U-Score: the model's chosen layer is read then.
    """
    from polygate.decision.probes import omniguard, rows
    from polygate.forward import device
    from polygate.representation import uscore

    settings = stage_settings(args.settings)
    model, chosen = recoverability.model_and_layer(args)
    scores = files.read_parquet(args.uscores)
    files.expect(args.uscores, files.parquet_metadata(scores), model=model, pivot=settings.pivot)
    best = uscore.best_layer(scores, dict(zip(args.languages, args.tiers, strict=True)))
    layer = chosen if best is None else best
    languages = rows.load_all(
        *(args.tiers, args.prompts, args.activations, layer, settings.probes, settings.seed, args.languages, model),
        position=uscore.POSITION,
    )
    (place,) = device.acquire()
    draws, means = omniguard.compare(languages, settings.omniguard, settings.gate.objective, settings.seed, place)
    made = provenance(
        "polygate.stages.omniguard",
        layer=layer,
        layer_from="choices" if best is None else "uscore",
        position=uscore.POSITION,
        seed=settings.seed,
        device=device.name_of([place]),
    )
    files.write_parquet(args.draws, draws, made, {"model": model})
    files.write_parquet(args.means, means, made, {"model": model})
