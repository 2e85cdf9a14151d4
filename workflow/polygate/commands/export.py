"""A gate for other programs.

polygate export GATE --to safetensors    # weights alone, and a specification to write the gate anew
polygate export GATE --to gguf           # the refusal direction as a llama.cpp control vector; it can't route
polygate export GATE --to hub            # a folder to upload, with its model card
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from polygate.decision import export, gate

TARGETS = ("safetensors", "gguf", "hub")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("gate", type=Path, metavar="GATE", help="a gate's file, or the folder that calibrate wrote")
    parser.add_argument("--to", choices=TARGETS, required=True, help="what is written")
    parser.add_argument("--output", type=Path, help="folder that is written; {gate}-{to} when empty")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="gguf: the model, to check and to name it")
    parser.add_argument("--base-model", default="", metavar="ID", help="hub: id of the model that the gate is of")
    parser.add_argument("--licence", default="", metavar="ID", help="hub: the licence, as the hub calls it")


def run(args: argparse.Namespace) -> None:
    """Read, write, say what was written and what was lost."""
    path = gate.file_of(args.gate)
    found = gate.given(path)
    name = args.gate.resolve().name.removesuffix(".safetensors")
    output: Path = args.output or Path(f"{name}-{args.to}")
    if args.to == "safetensors":
        names = export.to_safetensors(found, output)
    elif args.to == "gguf":
        hint = "unknown" if args.model is None else export.architecture(args.model, found)
        names = export.to_gguf(found, output, hint)
        print("\n".join(["Lost in a control vector:", *(f"- {sentence}" for sentence in export.LOST)]))
    else:
        card = path.parent / "card.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        names = export.to_hub(path, found, output, args.base_model, args.licence, text)
        print(f"To upload: hf upload ORGANISATION/NAME {shlex.quote(str(output))}")
    print(f"{output}: {', '.join(names)}")
