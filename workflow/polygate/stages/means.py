"""Class means of one language's train activations at every layer, from its activation store."""

from __future__ import annotations

import argparse

from polygate import directions
from polygate.prompts import table
from polygate.provenance import provenance


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--output", required=True, help="safetensors: harmful, harmless, counts")


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    prompts = table.read(args.prompts)
    means = directions.class_means(directions.open_matching(args.activations, prompts), prompts)
    balance = {"harmful": means.counts[0], "harmless": means.counts[1]}
    means.save(args.output, prompts.language, provenance("polygate.stages.means", train_prompts=balance))
