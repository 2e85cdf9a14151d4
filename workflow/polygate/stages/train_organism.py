"""Train a model organism and save it as a Hugging Face folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON of the sections organism and model")
    parser.add_argument("--output", required=True, type=Path, help="the folder to make")


def run(args: argparse.Namespace) -> None:
    """Train and save."""
    from polygate.models.organism import folder, tokenizer
    from polygate.models.organism.corpus import Corpus
    from polygate.models.organism.training import train

    settings = stage_settings(args.settings)
    corpus = Corpus(settings.organism, settings.model.seed)
    trained = train(settings.model.organism, corpus, settings.model.seed)
    facts = {
        "organism": settings.organism.model_dump(mode="json"),
        "architecture": settings.model.organism,
        "seed": settings.model.seed,
        "device": "cpu",
        "dtype": "float32",
    }
    made = provenance("polygate.stages.train_organism", **facts)
    folder.save(args.output, trained, tokenizer.build(corpus.world), corpus, settings.model.organism, made)
