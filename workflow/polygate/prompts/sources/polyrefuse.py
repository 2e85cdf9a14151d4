"""PolyRefuse as its authors publish it, read into prompt tables.

Wang et al. 2025 (arXiv 2505.17306), repository mainlp/Multilingual-Refusal, Apache-2.0. The layout has its
corners: translations lie in `PolyRefuse/`, the English train and validation prompts in `dataset/splits/` under other
names; train and validation files hold the translation in `instruction`, test files in `instruction_translated` with
the English original in `instruction`; rows carry no ids, so row i is the same item in every language, which is
checked here as far as the files allow. The harmless test prompts in Chinese were never published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.prompts import aside, normalise, table
from polygate.prompts.checks import check_shared, check_texts
from polygate.prompts.table import SPLITS, SUBSETS, Prompt, PromptTable, Split, Subset
from polygate.settings.types import Prompts

ORIGINAL = "en"
"""The language PolyRefuse was written in, from which the others were translated."""
LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "yo", "zh")
"""The languages that upstream publishes."""
CELLS: tuple[tuple[Split, Subset], ...] = tuple((split, subset) for split in SPLITS for subset in SUBSETS)

_ORIGINAL_FILES: dict[tuple[str, str], str] = {
    ("train", "harmful"): "harmful_train.json",
    ("val", "harmful"): "harmful_val.json",
    ("train", "harmless"): "harmless_train_200_sampled.json",
    ("val", "harmless"): "harmless_val_200_sampled.json",
}


def upstream_path(split: Split, subset: Subset, language: str) -> str:
    """Where upstream's repository keeps a cell."""
    if language == ORIGINAL and (split, subset) in _ORIGINAL_FILES:
        return f"dataset/splits/{_ORIGINAL_FILES[split, subset]}"
    return f"PolyRefuse/{subset}_{split}_translated_{language}.json"


def flat_name(path: str) -> str:
    """The name of an upstream file in a flat folder: English train and validation files get the prefix `en_`."""
    folder, _, name = path.rpartition("/")
    return f"{ORIGINAL}_{name}" if folder == "dataset/splits" else name


def find(folder: Path, split: Split, subset: Subset, language: str) -> Path | None:
    """The file of a cell in a flat folder or in a clone of upstream's repository; None when it isn't there."""
    upstream = upstream_path(split, subset, language)
    plain = f"{subset}_{split}_translated_{language}.json"
    for candidate in (folder / flat_name(upstream), folder / upstream, folder / plain):
        if candidate.is_file():
            return candidate
    return None


def checksums(folder: Path, language: str) -> dict[str, str]:
    """sha256 of the language's files in `folder`, by name."""
    found = (find(folder, *cell, language) for cell in CELLS)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path is not None}


@dataclass(frozen=True)
class Cell:
    """One file: the prompts of a language, split and subset by upstream's row number.

    `originals` holds the English text that test files keep beside the translation, None elsewhere.
    """

    path: Path
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    originals: tuple[str, ...] | None


def read_cell(path: Path) -> Cell:
    """Read one of upstream's files; `PolygateError` naming file and row when it isn't what upstream publishes."""
    rows = _rows(path)
    texts, categories, originals = [], [], []
    for number, row in enumerate(rows):
        original = _text(row, "instruction", path, number)
        if "instruction_translated" in row:
            originals.append(original)
            texts.append(_text(row, "instruction_translated", path, number))
        else:
            texts.append(original)
        categories.append(str(row.get("category") or ""))
    if originals and len(originals) != len(texts):
        raise PolygateError(
            f"{len(texts) - len(originals)} of {len(texts)} rows lack instruction_translated",
            where=path,
            do="complete the translation",
        )
    return Cell(path, tuple(texts), tuple(categories), tuple(originals) or None)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PolygateError(f"truncated or not JSON ({error})", where=path, do="download it again") from None
    if not isinstance(rows, list) or not rows:
        raise PolygateError("not a list of prompts", where=path, do="download it again")
    return rows


def _text(row: Any, key: str, path: Path, number: int) -> str:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise PolygateError(f"row {number} has no text in {key!r}", where=path, do="complete the file")
    return value


def read(folder: Path, language: str, settings: Prompts, pivot: str = ORIGINAL) -> PromptTable:
    """The prompt table of `language` from a local folder (flat, or a clone of upstream's repository).

    Checked before limits and normalisation apply: every row is compared with English and with the pivot (row
    counts, categories, the English kept in test files, untranslated and repeated text), and the language with itself
    (texts in two splits or both classes).

    Raises `PolygateError` for a cell that is missing unless `settings.allow_missing`, and for files that aren't
    aligned or aren't translated.
    """
    if not folder.is_dir():
        raise PolygateError("no such folder", where=folder, do="set prompts.folder to a copy of PolyRefuse")
    found = {cell: find(folder, *cell, language) for cell in CELLS}
    missing = _holes(folder, language, found, allow_missing=settings.allow_missing)
    prompts: list[Prompt] = []
    given: list[tuple[str, str]] = []
    for (split, subset), path in found.items():
        if path is not None:
            cell = read_cell(path)
            _check(cell, folder, split, subset, language, pivot)
            given += [(table.prompt_id(subset, split, row), text) for row, text in enumerate(cell.texts)]
            prompts.extend(_prompts(cell, split, subset, settings))
    check_shared(language, folder, given)
    return table.build(language, prompts, normalise=settings.normalise, missing=missing)


def _holes(
    folder: Path, language: str, found: dict[tuple[Split, Subset], Path | None], *, allow_missing: bool
) -> list[str]:
    holes = [cell for cell, path in found.items() if path is None]
    names = [f"{subset} {split}" for split, subset in holes]
    if len(holes) == len(found):
        there = [other for other in LANGUAGES if any(find(folder, *cell, other) for cell in CELLS)]
        raise PolygateError(
            f"no prompts in language {language}",
            where=folder,
            do=f"it holds {' '.join(there) or 'no PolyRefuse files'}; give {language} as a file in prompts.extra, "
            "or take it out of languages",
        )
    if holes and not allow_missing:
        files = ", ".join(flat_name(upstream_path(*cell, language)) for cell in holes)
        raise PolygateError(
            f"language {language} has no {' and no '.join(names)} prompts: {files} is missing",
            where=folder,
            do=f"add the file, give {language} as a file in prompts.extra, take it out of languages, or set "
            "prompts.allow_missing: true to go on without",
        )
    return names


def _check(cell: Cell, folder: Path, split: Split, subset: Subset, language: str, pivot: str) -> None:
    """Check a cell against the English file and the pivot's, as far as they are there."""
    check_texts(language, cell.path, cell.texts, None, ORIGINAL)
    for reference in dict.fromkeys((ORIGINAL, pivot)):
        path = find(folder, split, subset, reference)
        if path is None or reference == language:
            continue
        other = read_cell(path)
        _check_rows(cell, other, language, reference)
        if language != ORIGINAL:
            check_texts(language, cell.path, cell.texts, other.texts, reference)


def _check_rows(cell: Cell, other: Cell, language: str, reference: str) -> None:
    start = f"language {language} is not aligned with {reference}"
    if len(cell.texts) != len(other.texts):
        raise PolygateError(
            f"{start}: {len(cell.texts)} rows, not {len(other.texts)}", where=cell.path, do="download it again"
        )
    # The English that a translated file keeps is the only trace of which item a row is.
    english = other.texts if reference == ORIGINAL else other.originals
    pairs = [("category", cell.categories, other.categories)]
    if cell.originals is not None and english is not None:
        pairs.append(("English original", cell.originals, english))
    for what, mine, theirs in pairs:
        different = [row for row, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
        if different:
            row = different[0]
            raise PolygateError(
                f"{start}: {what} of row {row} is {mine[row][:60]!r}, not {theirs[row][:60]!r} "
                f"({len(different)} such rows)",
                where=cell.path,
                do="download it again",
            )


def _prompts(cell: Cell, split: Split, subset: Subset, settings: Prompts) -> Iterator[Prompt]:
    for number, kept_as in aside.kept(split, len(cell.texts), settings, cell.path.name):
        yield Prompt(
            prompt_id=table.prompt_id(subset, kept_as, number),
            text=normalise.apply(cell.texts[number], settings.normalise),
            category=cell.categories[number],
            source=f"{cell.path.name} row {number}",
        )
