"""What stands around the prompts and completions that a guard is asked about, from its chat template."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate.files import write_text
from polygate.forward.loading import load_tokenizer
from polygate.judges.guards import Adapter, Framing
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with judging")
    parser.add_argument("--judge", required=True, help="name of the guard")
    parser.add_argument("--model-folder", required=True, type=Path, help="Hugging Face folder of the guard")
    parser.add_argument("--framing", required=True, type=Path, help="output, JSON")
    parser.add_argument("--chat-template", required=True, type=Path, help="output, the template of what is around")


def run(args: argparse.Namespace) -> None:
    """Read the tokenizer, write the framing and, for the forward passes, its chat template alone."""
    guard = stage_settings(args.settings).judging.guards[args.judge]
    framing = Framing.of(Adapter.of(guard), load_tokenizer(args.model_folder))
    framing.save(args.framing)
    write_text(args.chat_template, framing.chat_template)
