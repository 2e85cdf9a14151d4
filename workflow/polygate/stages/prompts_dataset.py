"""Stage `prompts-dataset`: one language's prompt table of a data set that is only ever tested on."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from polygate import files
from polygate.prompts import sources, table, tested
from polygate.provenance import code_hash, provenance
from polygate.settings.types import Organism, stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with dataset, its folder, prompts, and organism")
    parser.add_argument("--dataset", required=True, help="name of the data set")
    parser.add_argument("--language", required=True)
    parser.add_argument("--fitted", required=True, help="prompt table of the language that everything is fitted on")
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Read, check, write; tested prompts that stand among the fitted ones are named on stderr."""
    settings = stage_settings(args.settings)
    dataset = settings.dataset
    origin = sources.of(dataset)
    prompts = origin.read(dataset.folder, args.language, dataset, getattr(settings, "organism", Organism()))
    how = settings.prompts.normalise
    found = tested.build(args.dataset, args.language, prompts, dataset.limit, how)
    fitted = table.read_to_fit(args.fitted, align=True, language=args.language)
    learnt = tested.check_apart(found, fitted)
    if learnt:
        print(
            f"polygate prompts-dataset: note: in {args.language} {len(learnt)} prompts of {args.dataset} are among "
            f"those that are fitted on (the first: {learnt[0]})",
            file=sys.stderr,
        )
    read = origin.files(dataset.folder, args.language) if dataset.folder else []
    facts = provenance(
        __name__,
        source=dataset.source,
        part=dataset.part,
        origin=code_hash(f"{sources.__name__}.{dataset.source}"),
        normalise=found.normalise,
        limit=dataset.limit,
        learnt=learnt,
        sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in read},
    )
    # In invented languages, and beside them, answers are judged in the words of those.
    known = files.parquet_metadata(files.read_parquet(args.fitted))
    table.write(args.output, found, facts, {name: known[name] for name in ("refusals", "openings") if name in known})
