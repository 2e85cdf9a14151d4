"""Gates of one target language, for every rank, budget and draw: scores, gate files with a card.

Files are written for the rank that routes and, in a folder of their own, for rank 1, the direction that the sources
share; the table of scores holds every rank.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polygate import files
from polygate.decision import applying, card, fitting
from polygate.decision.fitting import Fitted, SourceRows
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import POSITION, Directions, open_matching
from polygate.settings.types import dump, stage_settings
from polygate.steering.choice import Choice
from polygate.steering.strength import SteeringVector, for_target

CARD_FACTS = ("model", "revision", "dtype", "quantisation", "attention", "device", "batch_tokens")
"""Facts of the activations' provenance that the card shows, where they are there."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate and seed")
    parser.add_argument("--target", required=True, help="the language the gates are for")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--activations", required=True, nargs="+", help="activation stores of the sources")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables of the sources")
    parser.add_argument("--own-activations", required=True, help="activation store of the target")
    parser.add_argument("--own-prompts", required=True, help="prompt table of the target")
    parser.add_argument("--directions", required=True, help="directions of the target")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument(
        "--gates",
        required=True,
        help="output folder: {budget}.{draw}.safetensors, rank-1/, card.md",
    )
    parser.add_argument("--scores", required=True, help="output, parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    settings = stage_settings(args.settings)
    directions = Directions.load(args.directions, language=args.target)
    model = identity.asked_for(args.of, directions.metadata)
    files.expect(args.directions, directions.metadata, model=model)
    directions.check_sources(args.sources, args.directions)
    choice = Choice.load(args.choices, model=model)
    choice.check_layer(len(directions.basis), args.choices)
    source, gap = read_sources(args.sources, args.activations, args.prompts, directions, choice.layer, model)
    steering = for_target(directions, choice, gap)
    own = table.read_to_fit(args.own_prompts, language=args.target)
    store = open_matching(args.own_activations, own, model)
    of = {"model": model, "dataset": own.dataset, "prompts": own.fingerprint(), "gate": settings.gate.described}
    features = fitting.read(store, directions, [choice.layer]).features[0]
    fitted = list(fitting.fit_all(source, own, features, settings.gate, settings.seed))

    made = provenance(
        "polygate.stages.gates", gate=dump(settings.gate), seed=settings.seed, target=args.target, sources=args.sources
    )
    files.write_parquet(args.scores, card.score_table(own, features, fitted, settings.gate.solver), made, of)
    origin = files.read_provenance(args.own_activations)
    write_gates(Path(args.gates), fitted, directions, steering, settings.gate, origin, made, of)


def read_sources(
    names: Sequence[str],
    activations: Sequence[str],
    prompts: Sequence[str],
    directions: Directions,
    layer: int,
    model: str | None = None,
) -> tuple[SourceRows, float]:
    """Train rows of the sources (multiple-choice prompts among them), and the projection gap (without those)."""
    tables = {name: table.read_to_fit(path, language=name) for name, path in zip(names, prompts, strict=True)}
    readings = {
        name: fitting.read(open_matching(path, tables[name], model), directions, [layer])
        for name, path in zip(names, activations, strict=True)
    }
    return fitting.source_rows(tables, readings, 0), fitting.source_gap(tables, readings, 0)


def write_gates(
    folder: Path,
    fitted: list[Fitted],
    directions: Directions,
    steering: SteeringVector,
    settings: Any,
    origin: dict[str, Any],
    made: dict[str, Any],
    of: dict[str, str],
) -> None:
    """Write the gates of the routing rank and their card, and those of rank 1; what other settings left is removed."""
    rank = min(settings.rank, directions.basis.shape[1])
    kept = [gate for gate in fitted if gate.rank == rank]
    names = {applying.place(gate.rank, gate.budget, gate.draw, rank): gate for gate in fitted if gate.rank in (1, rank)}
    for stale in folder.rglob("*.safetensors"):
        if stale.relative_to(folder).as_posix() not in names:
            stale.unlink()
    for name, gate in names.items():
        whole = card.gate_of(gate, directions.basis[steering.layer], steering, POSITION, settings.solver)
        whole.save(folder / name, made, of)
    facts = {name: origin[name] for name in CARD_FACTS if origin.get(name) not in (None, "")}
    values = directions.singular_values[steering.layer]
    files.write_text(folder / "card.md", card.card(kept, steering, settings, values, facts))
