"""A small PolyRefuse in upstream's layout, made of nonsense, which tests then damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polygate.prompts.sources.polyrefuse import CELLS, flat_name, upstream_path

COUNTS = {"train": 12, "val": 4, "test": 10}


def rows(split: str, subset: str, language: str) -> list[dict[str, Any]]:
    """Rows of one file as upstream writes them."""
    made = []
    for number in range(COUNTS[split]):
        english = f"Say {subset} {split} number {number}."
        category = f"kind {number}" if subset == "harmful" and split != "train" else None
        if split == "test" and (language != "en" or subset == "harmless"):
            translated = english if language == "en" else f"{language} tells {subset} {number}."
            made.append({"instruction": english, "instruction_translated": translated, "category": category})
        else:
            instruction = english if language == "en" else f"{language} tells {subset} {split} {number}."
            made.append({"instruction": instruction, "category": category})
    return made


def write(folder: Path, languages: tuple[str, ...] = ("en", "de", "yo"), *, flat: bool = True) -> Path:
    """All files of `languages`, flat or as in upstream's repository."""
    for language in languages:
        for split, subset in CELLS:
            path = upstream_path(split, subset, language)
            target = folder / (flat_name(path) if flat else path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(rows(split, subset, language), indent=4), encoding="utf-8")
    return folder


def change(path: Path, edit: Any) -> None:
    """Apply `edit` to the rows of a file."""
    path.write_text(json.dumps(edit(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
