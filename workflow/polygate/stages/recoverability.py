"""How many of its own examples recover each language's direction, at the chosen layer of one model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import pyarrow as pa

from polygate import files
from polygate.decision.probes import rows
from polygate.decision.probes.rows import Language
from polygate.forward import identity
from polygate.provenance import provenance
from polygate.settings.types import stage_settings
from polygate.steering.choice import Choice


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage, and of the comparison of probes."""
    of_all_languages(parser, "gate, probes, pivot and seed")
    parser.add_argument("--draws", required=True, help="output, parquet: every fit")
    parser.add_argument("--means", required=True, help="output, parquet: means over draws")


def of_all_languages(parser: argparse.ArgumentParser, settings: str) -> None:
    """Arguments of a stage that reads all languages of a model and these sections of the `settings`."""
    parser.add_argument("--settings", required=True, help=f"JSON with {settings}")
    parser.add_argument("--tiers", required=True, nargs="+", help="tier of each language")
    parser.add_argument("--languages", required=True, nargs="+", help="the languages that the files must be of")
    parser.add_argument("--activations", required=True, nargs="+", help="activation store of each language")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt table of each language")
    parser.add_argument("--choices", required=True, help="choices of the model")
    parser.add_argument("--of", help=identity.HELP)


def model_and_layer(args: argparse.Namespace) -> tuple[str, int]:
    """Which model the files of such a stage must be of, and its chosen layer."""
    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations[0]))
    return model, Choice.load(args.choices, model=model).layer


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.decision.probes.recoverability import recoverability

    settings = stage_settings(args.settings)
    write(
        args,
        "recoverability",
        lambda languages: recoverability(languages, settings.pivot, settings.seed, solver=settings.gate.solver),
    )


def write(
    args: argparse.Namespace, stage: str, compute: Callable[[Sequence[Language]], tuple[pa.Table, pa.Table]]
) -> None:
    """Load the languages, compute, and write both tables."""
    settings = stage_settings(args.settings)
    model, layer = model_and_layer(args)
    languages = rows.load_all(
        args.tiers, args.prompts, args.activations, layer, settings.probes, settings.seed, args.languages, model
    )
    draws, means = compute(languages)
    made = provenance(f"polygate.stages.{stage}", layer=layer, seed=settings.seed, pivot=settings.pivot)
    files.write_parquet(args.draws, draws, made, {"model": model})
    files.write_parquet(args.means, means, made, {"model": model})
