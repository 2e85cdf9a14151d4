"""Stage `prompts-translated`: one language's prompt table, translated from the pivot's."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from polygate.prompts import table
from polygate.prompts.checks import shared
from polygate.prompts.translation import kept
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section prompts")
    parser.add_argument("--dataset", default="", help="name of the data set")
    parser.add_argument("--language", required=True)
    parser.add_argument("--translations", required=True, type=Path, help="translations of the pivot's prompts")
    parser.add_argument("--pivot-table", required=True, type=Path, help="prompt table of the pivot")
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Read, check against the pivot's table, write."""
    settings = stage_settings(args.settings).prompts
    pivot = table.read(args.pivot_table, align=True, dataset=args.dataset or None)
    found = kept.read(args.translations, pivot, args.language, "there")
    prompts = kept.prompts(pivot, found, args.language, settings, args.translations)
    repeated = [str(each) for each in shared(zip(prompts.ids, prompts.texts, strict=True))]
    for each in repeated:
        print(f"polygate prompts-translated: note: in {args.language} {each}", file=sys.stderr)
    facts = provenance(
        __name__, source="translation", translator=found.translator, normalise=settings.normalise, shared=repeated
    )
    # Beside invented languages a translation is answered, and judged, in the words of those.
    words = {name: pivot.metadata[name] for name in ("refusals", "openings") if name in pivot.metadata}
    table.write(args.output, replace(prompts, dataset=args.dataset), facts, words)
