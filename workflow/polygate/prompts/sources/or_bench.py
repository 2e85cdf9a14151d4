"""OR-Bench, its hard part: requests in English that look harmful and are not, to see what is refused for no reason.

Cui et al. 2024 (arXiv 2405.20947), CC BY 4.0: the 1,319 of OR-Bench-Hard-1K. A JSON file in the schema of PolyRefuse's
repository (`dataset/splits/or_bench_hard_test.json`) is read as well.
"""

from __future__ import annotations

from pathlib import Path

from polygate.prompts.sources import plain
from polygate.prompts.sources.plain import Columns
from polygate.prompts.sources.polyrefuse import read_cell
from polygate.prompts.sources.published import OneFile, Published
from polygate.prompts.table import Prompt, prompt_id
from polygate.settings.types import Dataset, Organism

PUBLISHED = Published(
    title="OR-Bench",
    base="https://huggingface.co/datasets/bench-llm/or-bench/resolve/e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
    files={"or-bench-hard-1k.csv": "a6e2f1166416efe5901f3bb05c47dc92ab3aca3acfe143693d38b8057d841e6d"},
)
BESIDE_POLYREFUSE = "dataset/splits/or_bench_hard_test.json"
_FILE = OneFile(PUBLISHED, ("en",), (BESIDE_POLYREFUSE,))
languages, is_task, files = _FILE.languages, _FILE.is_task, _FILE.files


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """Its requests, numbered by their place in the file; category: the kind of harm that they look like."""
    path = _FILE.path(folder, language)
    if path.suffix == ".json":
        cell = read_cell(path)
        rows = list(zip(cell.texts, cell.categories, strict=True))
    else:
        rows = [(row["prompt"], row["category"]) for row, _ in plain.rows(path, Columns(("prompt", "category")))]
    return [
        Prompt(prompt_id("harmless", "test", number), text, category=kind, source=f"{path.name} row {number}")
        for number, (text, kind) in enumerate(rows)
    ]
