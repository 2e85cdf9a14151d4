"""IndoSafety: harmful requests of Indonesia, in formal and colloquial Indonesian and three regional languages.

Azmi et al. 2025 (arXiv 2506.02573), repository falensiazmi/IndoSafety. Read is Eval-2, a workbook with a row per item
and a column per variety, the same 500 items in each. Eval-1, more items in formal Indonesian alone, and the training
file are not read: nothing is fitted on a data set that is tested on. There are no harmless requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

from polygate.errors import PolygateError
from polygate.prompts.sources.published import OneFile, Published
from polygate.prompts.table import Prompt, prompt_id
from polygate.settings.types import Dataset, Organism

COLUMNS = {
    "id": "indonesian-formal",
    "id-colloquial": "colloquial",
    "jv": "java",
    "su": "sunda",
    "min": "minangkabau",
}
"""Columns of the workbook by the language they are in."""
PUBLISHED = Published(
    title="IndoSafety",
    base="https://raw.githubusercontent.com/falensiazmi/IndoSafety/daa56fa2dfce0a9aded1ed82df17730a9b6a5b95",
    files={"dataset/IndoSafety-Eval-2.xlsx": "3c6bea986b67ea6c8aab4d0de69c2f48860e13fb85e0e0b61b87e081fb7578a0"},
)
_FILE = OneFile(PUBLISHED, tuple(COLUMNS))
languages, is_task, files = _FILE.languages, _FILE.is_task, _FILE.files


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """Its requests in a language; category: risk area, a slash, type of harm."""
    path = _FILE.path(folder, language)
    wanted = ("id", "risk_area", "types_of_harm", COLUMNS[language])
    return [
        Prompt(
            prompt_id("harmful", "test", number),
            text,
            category=f"{area} / {harm}",
            source=f"{path.name} id {identity}",
        )
        for number, (identity, area, harm, text) in enumerate(_rows(path, wanted))
    ]


def _rows(path: Path, wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """The wanted columns of every row of the first sheet that has text in one of them."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        header, *rows = book.worksheets[0].iter_rows(values_only=True)
        book.close()
    except (BadZipFile, InvalidFileException, KeyError, IndexError, ValueError, OSError, SyntaxError) as error:
        raise PolygateError(f"truncated or not an Excel file ({error})", where=path, do="download it again") from None
    absent = [name for name in wanted if name not in header]
    if absent:
        raise PolygateError(f"column {absent[0]!r} is missing", where=path, do=f"columns are {', '.join(wanted)}")
    places = [header.index(name) for name in wanted]
    found = []
    for number, row in enumerate(rows, start=2):
        cells = tuple("" if row[place] is None else str(row[place]) for place in places)
        if "" in cells and any(cells):
            raise PolygateError(f"line {number} has no {wanted[cells.index('')]}", where=path, do="complete it")
        found += [cells] if any(cells) else []
    return found
