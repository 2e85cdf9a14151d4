"""What a small sentence encoder tells of one language's test prompts: the second control, no model involved."""

from __future__ import annotations

import argparse

import numpy as np

from polygate import files
from polygate.controls import encoders, semantic
from polygate.controls.semantic import Embedded
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings
from polygate.stages.surface import score_table

GATE = "semantic_gate"
"""Scorer of the rows that hold gates on the embeddings, one per budget and draw; "semantic" is the probe itself."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate, controls and seed")
    parser.add_argument("--target", required=True, help="the language whose test prompts are scored")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables of the sources")
    parser.add_argument("--embeddings", required=True, nargs="+", help="embeddings of the sources")
    parser.add_argument("--own-prompts", required=True, help="prompt table of the target")
    parser.add_argument("--own-embeddings", required=True, help="embeddings of the target")
    parser.add_argument("--output", required=True, help="parquet, with the columns of a surface file")


def run(args: argparse.Namespace) -> None:
    """Read, score, write."""
    if args.target in args.sources:
        raise PolygateError(f"target {args.target} is among its own sources", do="leave it out")
    settings = stage_settings(args.settings)
    wanted = encoders.named(settings.controls)
    own = Embedded.load(args.own_embeddings, table.read_to_fit(args.own_prompts, language=args.target), wanted)
    sources = [
        Embedded.load(embeddings, table.read_to_fit(prompts, language=name), wanted)
        for name, prompts, embeddings in zip(args.sources, args.prompts, args.embeddings, strict=True)
    ]
    semantic.expect_one_encoder([*args.embeddings, args.own_embeddings], [*sources, own])
    scores = semantic.semantic_scores(sources, own)
    gates = list(semantic.semantic_gates(sources, own, settings.gate, settings.seed))
    facts = {"target": args.target, "sources": args.sources, "gate": dump(settings.gate), "seed": settings.seed}
    of = {"dataset": own.prompts.dataset, "prompts": own.prompts.fingerprint()}
    of |= {semantic.ENCODER: semantic.described(own.encoder), "gate": settings.gate.described}
    found = score_table(own.prompts, scores, gates, np.asarray(own.values[scores.rows]), GATE)
    files.write_parquet(args.output, found, provenance("polygate.stages.semantic", **facts), of)
