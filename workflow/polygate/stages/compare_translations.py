"""Stage `compare-translations`: what a language's back-translations say of its translations, prompt by prompt."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from polygate.controls import encoders
from polygate.controls.semantic import Embedded
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.translation import kept, quality
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with controls")
    parser.add_argument("--language", required=True)
    parser.add_argument("--pivot-prompts", required=True, type=Path, help="prompt table of the pivot")
    parser.add_argument("--prompts", required=True, type=Path, help="prompt table of the language")
    parser.add_argument("--there", type=Path, nargs="*", default=[], help="its translations, where they are made here")
    parser.add_argument("--back", required=True, type=Path, help="its back-translations")
    parser.add_argument(
        "--embeddings", type=Path, nargs="*", default=[], help="of the pivot's prompts and of the language's"
    )
    parser.add_argument("--folder", type=Path, nargs="*", default=[], help="folder of a hub encoder")
    parser.add_argument("--cache", type=Path, help="where hashes of its files are kept")
    parser.add_argument("--output", required=True, type=Path, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, compare, write."""
    controls = stage_settings(args.settings).controls
    # Translated is all of a table, measured is what is not set aside.
    tables = [table.read(path, align=True) for path in (args.pivot_prompts, args.prompts)]
    there = kept.read(args.there[0], tables[0], args.language, "there") if args.there else None
    back = kept.read(args.back, tables[1], args.language, "back")
    pivot, own = (table.without_align(each) for each in tables)
    said = {"back_translator": back.translator, "translator": there.translator if there else ""}
    facts = provenance(__name__, language=args.language)
    embedded, embed = None, None
    if args.embeddings:
        if len(args.embeddings) != 2:
            raise PolygateError("--embeddings are those of the pivot and those of the language")
        encoder = encoders.load(controls, next(iter(args.folder), None), args.cache)
        pairs = zip(args.embeddings, (pivot, own), strict=True)
        read = [Embedded.load(path, each, encoder.facts) for path, each in pairs]
        first, second = (dict(zip(one.prompts.ids, one.values, strict=True)) for one in read)
        embedded = first, second
        embed = encoder.embed
        said["encoder"] = "|".join(f"{name}:{value}" for name, value in encoder.facts.items() if value)
    found, signatures = quality.measure(pivot, own, there, back, embedded, embed)
    quality.write(args.output, found, own, {**said, "signatures": json.dumps(signatures)}, facts)
