"""Fine-tune a pretrained model to refuse in some languages only, and save it as a Hugging Face folder."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.provenance import provenance
from polygate.settings.types import stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON: alignment, all examples under its languages")
    parser.add_argument("--base", required=True, type=Path, help="Hugging Face folder of the pretrained model")
    parser.add_argument("--name", required=True, help="what the card calls the pretrained model")
    parser.add_argument("--prompts", required=True, nargs="+", type=Path, help="prompt table of each such language")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of examples")
    parser.add_argument("--attention", default="sdpa", help="attention implementation: eager or sdpa")
    parser.add_argument("--chat-template", nargs="?", type=Path, help="Jinja file, where the base brings no template")
    parser.add_argument("--template-arguments", default="{}", help="JSON: what the chat template is given by name")
    parser.add_argument("--cache", required=True, type=Path, help="where hashes of model files are kept")
    parser.add_argument("--output", required=True, type=Path, help="the folder to make")


def run(args: argparse.Namespace) -> None:
    """Choose the examples, train (going on from a checkpoint beside the output), save."""
    # On a GPU the weights would depend on its kind.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from polygate.forward import loading, weights
    from polygate.forward.options import Options
    from polygate.models.alignment import examples, training
    from polygate.models.alignment.folder import save
    from polygate.prompts import table

    alignment = stage_settings(args.settings).alignment
    tables = {found.language: found for found in (table.read_to_fit(path, align=True) for path in args.prompts)}
    for language in tables:
        if language not in alignment.languages:
            raise PolygateError(
                f"prompts in {language}, which the alignment has no examples in", do="give those of its languages"
            )
    budgets = {name: alignment.languages[name] for name in tables}
    chosen = examples.choose(tables, budgets)
    fingerprint = loading.fingerprint(args.base, args.cache)
    arguments = json.loads(args.template_arguments)
    options = Options(attention=args.attention, chat_template=args.chat_template, template_arguments=arguments)
    loaded = loading.load(args.base, options, fingerprint, args.cache)
    encoded = training.encode(loaded.tokenizer, chosen.examples, loaded.embeddings)
    facts: dict[str, Any] = {
        "base": args.name,
        "fingerprint": fingerprint,
        "method": alignment.method,
        "rate": alignment.rate,
        "epochs": alignment.epochs,
        "examples": {name: budget.model_dump() for name, budget in budgets.items()},
        "seed": args.seed,
        "attention": args.attention,
        "template_arguments": arguments,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "dtype": weights.stored_dtype(args.base),
    }
    made = provenance(__name__, **facts)
    checkpoint = args.output.with_name(f".{args.output.name}.checkpoint")
    aligned = training.train(loaded, encoded, alignment, args.seed, checkpoint, _key(encoded, made))
    save(args.output, aligned, loaded.tokenizer, chosen, alignment, made)
    checkpoint.unlink(missing_ok=True)


def _key(encoded: Any, made: dict[str, Any]) -> str:
    """What a checkpoint belongs to: these very tokens, and everything that provenance names."""
    described = [[[*one.ids], one.prompt_tokens] for one in encoded]
    return hashlib.sha256(json.dumps([described, made], sort_keys=True).encode()).hexdigest()
