"""A gate for other programs: weights with a specification, a llama.cpp control vector, or a folder for a hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from polygate import files
from polygate.decision import exports
from polygate.decision.gate import Gate
from polygate.errors import PolygateError

FORMATS = ("safetensors", "gguf", "hub")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("gate", type=Path, metavar="GATE", help="a gate's .safetensors file, or calibrate's folder")
    parser.add_argument("--to", choices=FORMATS, required=True, help="weights with a specification; llama.cpp; hub")
    parser.add_argument(
        "--output", type=Path, help="folder (gguf: file) that is written; named after the gate if empty"
    )
    parser.add_argument("--architecture", default="", help="llama.cpp's name for the model's, a hint in the GGUF file")
    parser.add_argument("--base-model", default="", help="hub id of the model, for the card")
    parser.add_argument("--licence", default="", help="licence of the gate, for the card")


def run(args: argparse.Namespace) -> None:
    """Read, write, say."""
    path = args.gate / "gate.safetensors" if args.gate.is_dir() else args.gate
    gate = Gate.load(path)
    name = args.gate.resolve().name.removesuffix(".safetensors")
    output = args.output or Path(f"{name}.gguf" if args.to == "gguf" else f"{name}-{args.to}")
    if args.to == "gguf":
        exports.control_vector(gate, output, args.architecture)
        print(f"{output}: llama.cpp adds it to every prompt (--control-vector {output}): it can't route, and ablates")
        print("nothing. Harmless prompts are steered towards refusal too.")
        return
    if output.exists() and not (output / exports.FACTS).is_file():
        raise PolygateError("is there already, and no exported gate", where=output, do="name another with --output")
    beside = path.parent / "card.md"
    with files.atomic_folder(output) as folder:
        if args.to == "safetensors":
            exports.weights(gate, folder)
        else:
            card = beside.read_text(encoding="utf-8") if beside.is_file() else ""
            given = {"base_model": args.base_model, "licence": args.licence, "architecture": args.architecture}
            exports.hub_folder(gate, folder, card=card, **given)
    print(f"{output}: {', '.join(sorted(found.name for found in output.iterdir()))}")
