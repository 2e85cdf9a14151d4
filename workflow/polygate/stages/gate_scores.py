"""What a language's gates say of the test prompts of a data set that they were not fitted on."""

from __future__ import annotations

import argparse

from polygate import files
from polygate.decision import applying, card
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import open_matching


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--gates", required=True, help="folder with the gates of the language")
    parser.add_argument("--dataset", required=True, help="data set of the prompts")
    parser.add_argument("--language", required=True, help="language of the prompts and of the gates")
    parser.add_argument("--prompts", required=True, help="prompt table")
    parser.add_argument("--activations", required=True, help="activation store of the prompts")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, score, write."""
    prompts = table.read(args.prompts, language=args.language, dataset=args.dataset)
    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations))
    store = open_matching(args.activations, prompts, model)
    rows = prompts.select("test")
    scored = applying.score(applying.read_gates(args.gates, language=args.language, model=model), store, rows)
    made = provenance("polygate.stages.gate_scores", dataset=args.dataset, language=args.language)
    of = {"model": model, "dataset": args.dataset, "prompts": prompts.fingerprint()}
    files.write_parquet(args.output, card.scored(prompts, rows, scored), made, of)
