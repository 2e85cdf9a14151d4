"""XSTest: safe requests in English that use words of unsafe ones, to see what is refused for no reason.

Röttger et al. 2024 (arXiv 2308.01263), CC BY 4.0: of its 450 prompts the 250 safe ones; the unsafe contrasts are left
out. The repository of PolyRefuse carries a part of them too (`dataset/processed/xstest.json`, those that one model
refused): a folder with that file is read as well.
"""

from __future__ import annotations

from pathlib import Path

from polygate.errors import PolygateError
from polygate.prompts.sources import plain
from polygate.prompts.sources.plain import Columns
from polygate.prompts.sources.polyrefuse import read_cell
from polygate.prompts.sources.published import OneFile, Published
from polygate.prompts.table import Prompt, prompt_id
from polygate.settings.types import Dataset, Organism

PUBLISHED = Published(
    title="XSTest",
    base="https://huggingface.co/datasets/Paul/XSTest/resolve/f600c994b256f12867dfa5b3eb3d545a3e62f8b5",
    files={"xstest_prompts.csv": "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a"},
)
BESIDE_POLYREFUSE = "dataset/processed/xstest.json"
_FILE = OneFile(PUBLISHED, ("en",), (BESIDE_POLYREFUSE,))
languages, is_task, files = _FILE.languages, _FILE.is_task, _FILE.files


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """The safe requests, numbered by their place in the file; category: the type of what makes them look unsafe."""
    path = _FILE.path(folder, language)
    if path.suffix == ".json":
        cell = read_cell(path)
        rows = [(number, text, "", f"row {number}") for number, text in enumerate(cell.texts)]
    else:
        given = list(plain.rows(path, Columns(("id", "prompt", "type", "label"))))
        strange = [place for row, place in given if row["label"] not in ("safe", "unsafe")]
        if strange:
            raise PolygateError(f"{strange[0]} is labelled neither safe nor unsafe", where=path)
        rows = [
            (number, row["prompt"], row["type"], place)
            for number, (row, place) in enumerate(given)
            if row["label"] == "safe"
        ]
    return [
        Prompt(prompt_id("harmless", "test", number), text, category=kind, source=f"{path.name} {place}")
        for number, text, kind, place in rows
    ]
