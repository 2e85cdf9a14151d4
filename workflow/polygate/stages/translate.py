"""Stage `translate`: a prompt table in another language, by a translation model; what it has translated is kept."""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

from polygate.forward.loading import fingerprint
from polygate.forward.progress import Progress
from polygate.prompts import table
from polygate.prompts.translation import kept, memory
from polygate.prompts.translation.given import DIRECTIONS
from polygate.provenance import provenance
from polygate.settings.types import Translation, dump, stage_settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section translation")
    parser.add_argument("--folder", required=True, type=Path, help="folder of the model")
    parser.add_argument("--prompts", required=True, type=Path, help="prompt table that is translated")
    parser.add_argument("--language", required=True, help="the language that isn't the pivot")
    parser.add_argument("--direction", required=True, choices=DIRECTIONS, help="into it, or back into the pivot")
    parser.add_argument("--memory", required=True, type=Path, help="folder of what was translated before")
    parser.add_argument("--cache", required=True, type=Path, help="folder of fingerprints of models")
    parser.add_argument("--output", required=True, type=Path, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, translate what isn't in the memory, write; what was cut off or is empty is counted on stderr."""
    from polygate.prompts.translation import model

    settings: Translation = stage_settings(args.settings).translation
    prompts = table.read(args.prompts, align=True)
    contents = fingerprint(args.folder, args.cache)
    pair = (settings.pivot, str(settings.code(args.language)))
    if args.direction == "back":
        pair = (pair[1], pair[0])
    path = memory_path(args.memory, args.folder.name, contents, pair)
    with (
        memory.opened(path, lambda: model.note(f"waiting for another job that writes {path.name}")) as known,
        Progress(f"{pair[0]} to {pair[1]}", len(prompts)) as progress,
    ):
        found = model.translate(
            prompts.texts,
            prompts.ids,
            known,
            settings,
            contents,
            pair,
            lambda: model.load(args.folder, settings),
            progress.advance,
        )
    cut, empty = sum(not each.finished for each in found), sum(not each.text for each in found)
    if cut or empty:
        model.note(
            f"note: of {len(found)} translations {cut} were cut off at {settings.max_tokens} tokens, {empty} are empty"
        )
    translator = f"{settings.hub or args.folder.name}{f' at {settings.revision[:12]}' if settings.revision else ''}"
    facts = provenance(__name__, translation=dump(settings), model=contents, pair=list(pair))
    kept.write(args.output, prompts, found, args.language, args.direction, translator, facts)


def memory_path(folder: Path, name: str, contents: str, pair: tuple[str, str]) -> Path:
    """The memory of a model and a pair of its codes, named so that one finds it."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{name}.{pair[0]}.{pair[1]}")[:100]
    return folder / f"{plain}.{hashlib.sha256(f'{contents} {pair}'.encode()).hexdigest()[:8]}.jsonl"
