"""What the gates of a language say of a data set that they were not fitted on, and of harmless prompts beside it.

With embeddings, gates on them say it too.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from polygate import files
from polygate.controls import encoders
from polygate.controls.semantic import ENCODER, Embedded, described, expect_one_encoder, semantic_gates
from polygate.controls.surface import surface_gates
from polygate.decision import applying, ood
from polygate.decision.fitting import Fitted
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.settings.types import dump, stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with gate, of the controls' gates, controls and seed")
    parser.add_argument("--dataset", required=True, help="data set that is tested on")
    parser.add_argument("--target", required=True, help="language of its prompts and of the gates")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--activations", required=True, help="its activation store")
    parser.add_argument("--gates", required=True, help="folder with the gates of the language")
    parser.add_argument("--own-prompts", required=True, help="prompt table of the language that gates are fitted on")
    parser.add_argument("--own-activations", required=True, help="its activation store")
    parser.add_argument("--pivot-prompts", required=True, help="that of the pivot, for want of harmless test prompts")
    parser.add_argument("--pivot-activations", required=True, help="its activation store")
    parser.add_argument("--sources", required=True, nargs="+", help="source languages, without the target")
    parser.add_argument("--source-prompts", required=True, nargs="+", help="their prompt tables")
    for name in ("", "own-", "pivot-", "source-"):
        parser.add_argument(f"--{name}embeddings", nargs="*", default=[], help="their embeddings, with an encoder")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, score, write."""
    if args.target in args.sources:
        raise PolygateError(f"target {args.target} is among its own sources", do="leave it out")
    settings = stage_settings(args.settings)
    model = identity.asked_for(args.of, files.safetensors_metadata(args.activations))

    def prompts_of(found: PromptTable, activations: str) -> ood.Prompts:
        return ood.Prompts(found, open_matching(activations, found, model), found.select("test"))

    tested = prompts_of(table.read(args.prompts, language=args.target, dataset=args.dataset), args.activations)
    own = prompts_of(table.read_to_fit(args.own_prompts, language=args.target), args.own_activations)
    pivot = prompts_of(table.read_to_fit(args.pivot_prompts), args.pivot_activations)
    sources = [
        table.read_to_fit(path, language=name) for name, path in zip(args.sources, args.source_prompts, strict=True)
    ]
    gates = applying.read_gates(args.gates, language=args.target, model=model, gate=settings.gate.described)
    on_surface = surface_gates(sources, own.table, settings.gate, settings.seed)
    on_embeddings: list[Fitted] = []
    embedded: list[Embedded] = []
    paths = [*args.embeddings, *args.own_embeddings, *args.pivot_embeddings, *args.source_embeddings]
    if paths:
        tables = [tested.table, own.table, pivot.table, *sources]
        wanted = encoders.named(settings.controls)
        embedded = [Embedded.load(path, prompts, wanted) for path, prompts in zip(paths, tables, strict=True)]
        expect_one_encoder(paths, embedded)
        on_embeddings += semantic_gates(embedded[3:], embedded[1], settings.gate, settings.seed)
        tested, own, pivot = (
            replace(part, embeddings=one.values) for part, one in zip((tested, own, pivot), embedded[:3], strict=True)
        )
    scores = ood.score([tested, ood.paired(own, pivot)], gates, on_surface, on_embeddings)
    made = provenance(
        "polygate.stages.ood",
        dataset=args.dataset,
        target=args.target,
        sources=args.sources,
        gate=dump(settings.gate),
        seed=settings.seed,
    )
    of = {"model": model, "dataset": args.dataset, "language": args.target, "prompts": tested.table.fingerprint()}
    of |= {"gate": settings.gate.described, ENCODER: described(embedded[0].encoder) if embedded else ""}
    files.write_parquet(args.output, scores, made, of)
