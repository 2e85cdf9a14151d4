"""Write the prompt table of an invented language."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from polygate.models.organism.grammar import World
from polygate.models.organism.prompts import phrases, prompt_table
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON of the sections organism and prompts")
    parser.add_argument("--dataset", default="", help="name of the data set")
    parser.add_argument("--language", required=True, help="name of the language, e.g. h1")
    parser.add_argument("--output", required=True, type=Path, help="the table to write")


def run(args: argparse.Namespace) -> None:
    """Write the table; its metadata holds the phrases by which answers in any of the languages are judged."""
    settings = stage_settings(args.settings)
    world = World(settings.organism)
    prompts = prompt_table(settings.organism, args.language, settings.prompts)
    facts = {
        "organism": settings.organism.model_dump(mode="json"),
        "prompts": settings.prompts.model_dump(mode="json"),
        "language": args.language,
    }
    made_by = provenance("polygate.stages.prompts_organism", **facts)
    table.write(args.output, replace(prompts, dataset=args.dataset), made_by, phrases(world))
