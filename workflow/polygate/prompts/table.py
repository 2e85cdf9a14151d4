"""The prompt table: one parquet file per language, the same rows in the same order in every language.

A prompt's id (`harmful-test-0007`) is the same in every language: it names the item, of which each language holds
a translation. Everything downstream (activations, completions, judgements, bootstrap clusters) refers to prompts
by this id. Needs numpy and pyarrow only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts.normalise import visible

Split = Literal["train", "val", "test"]
TableSplit = Literal["train", "val", "test", "align"]
Subset = Literal["harmful", "harmless"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
ALIGN: Literal["align"] = "align"
"""Prompts that models are aligned with (`prompts.align`): everything else reads tables without them."""
TABLE_SPLITS: tuple[TableSplit, ...] = (*SPLITS, ALIGN)
SUBSETS: tuple[Subset, ...] = ("harmful", "harmless")
MULTIPLE_CHOICE = "multiple_choice"
"""Category of the multiple-choice prompts: harmless train rows that only gates see, as further negatives."""

COLUMNS = ("prompt_id", "split", "subset", "text", "category", "source", "reference")
OPTIONS = ("options", "answer")
"""Further columns of a task: its options, a list of text, and which is right, counted from 0."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What options are called, in their order."""
OPENING = "opening"
"""A further column, of prompts that are read with the beginning of an answer after them, and where they are read."""
SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in COLUMNS])
"""All columns are text without nulls: `prompt_id`, `split` (train, val, test, align), `subset` (harmful, harmless),
`text` (the instruction, no chat template), `category` ("" where unknown), `source` (file and row it came from),
`reference` (what a compliant answer must contain, "" where unknown)."""
_TASK = pa.schema(
    [
        pa.field("options", pa.list_(pa.string()), nullable=False),
        pa.field("answer", pa.int8(), nullable=False),
    ]
)

_ID = re.compile(r"(harmful|harmless)-(train|val|test|align)-(mcq-)?(\d{4,})")

_COLUMNS_OF_A_TABLE = (
    *("ids", "split", "subset", "texts", "categories", "sources", "references"),
    *("options", "answers", "openings"),
)
_SPLIT_ORDER: dict[str, int] = {split: place for place, split in enumerate(TABLE_SPLITS)}


@dataclass(frozen=True)
class Prompt:
    """One row of a prompt table."""

    prompt_id: str
    text: str
    category: str = ""
    source: str = ""
    reference: str = ""
    options: tuple[str, ...] = ()
    answer: int | None = None
    opening: str = ""


@dataclass(frozen=True)
class PromptTable:
    """The prompts of one language, rows in the order of the file.

    `ids`, `texts`, `categories`, `sources` and `references` are tuples of n strings; `split` and `subset` are numpy
    string arrays [n]. A task has `options`, n tuples of text, and `answers`, n indices of the right ones; both are
    empty for requests. `openings` are n beginnings of answers, empty where prompts stand alone. `missing` names the
    cells that the source lacks ("harmless test"); `normalise` says how the text was changed; `dataset` is the name of
    the data set, "" where nobody says, and `tested` whether that is one that nothing may be fitted or chosen on.
    """

    language: str
    ids: tuple[str, ...]
    split: NDArray[np.str_]
    subset: NDArray[np.str_]
    texts: tuple[str, ...]
    categories: tuple[str, ...]
    sources: tuple[str, ...]
    references: tuple[str, ...]
    normalise: str = "none"
    missing: tuple[str, ...] = ()
    dataset: str = ""
    tested: bool = False
    options: tuple[tuple[str, ...], ...] = ()
    answers: tuple[int, ...] = ()
    openings: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)
    """All that the file says of itself, for a table that was read."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def harmful(self) -> NDArray[np.bool_]:
        """Labels, bool [n]: True for harmful prompts."""
        return np.asarray(self.subset == "harmful", dtype=bool)

    @property
    def multiple_choice(self) -> NDArray[np.bool_]:
        """Bool [n]: True for multiple-choice prompts."""
        return np.array([category == MULTIPLE_CHOICE for category in self.categories], dtype=bool)

    def select(
        self, split: TableSplit | None = None, subset: Subset | None = None, *, multiple_choice: bool = False
    ) -> NDArray[np.int64]:
        """Row indices, int64 ascending, of a split and a subset (of all when None).

        Multiple-choice prompts are left out unless asked for: only the fitting of gates wants them.
        """
        keep = np.ones(len(self), dtype=bool)
        if split is not None:
            keep &= self.split == split
        if subset is not None:
            keep &= self.subset == subset
        if not multiple_choice:
            keep &= ~self.multiple_choice
        return np.flatnonzero(keep)

    def rows_of(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Row indices of `ids`, in their order; `PolygateError` naming the first that is not in the table."""
        position = {prompt_id: row for row, prompt_id in enumerate(self.ids)}
        rows = []
        for prompt_id in ids:
            if prompt_id not in position:
                raise PolygateError(f"language {self.language} has no prompt {prompt_id!r}")
            rows.append(position[prompt_id])
        return np.array(rows, dtype=np.int64)

    def fingerprint(self, rows: Iterable[int] | None = None) -> str:
        """Which prompts these are: a hash, 16 hex digits, of language, ids, texts and openings of `rows` (all when
        None)."""
        chosen = range(len(self)) if rows is None else rows
        given = [(self.ids[row], self.texts[row], *self.openings[row : row + 1]) for row in chosen]
        return fingerprint(self.language, given)

    def cells(self) -> Counter[tuple[str, str]]:
        """Number of rows per (split, subset), multiple-choice prompts left out."""
        rows = self.select()
        return Counter(zip(self.split[rows].tolist(), self.subset[rows].tolist(), strict=True))


def fingerprint(language: str, prompts: Sequence[tuple[str, ...]]) -> str:
    """Which prompts these are: a hash, 16 hex digits, of their language and of each one's id and text (and opening,
    where it has one), in order."""
    return hashlib.sha256(json.dumps([language, [list(given) for given in prompts]]).encode()).hexdigest()[:16]


def prompt_id(subset: Subset, split: TableSplit, number: int, *, multiple_choice: bool = False) -> str:
    """Id of a prompt, e.g. `harmful-test-0007` or `harmless-train-mcq-0003`."""
    return f"{subset}-{split}-{'mcq-' if multiple_choice else ''}{number:04d}"


def build(
    language: str, prompts: Iterable[Prompt], *, normalise: str = "none", missing: Sequence[str] = ()
) -> PromptTable:
    """A valid table of `prompts`, sorted: train, val, test, align; harmful before harmless; then by number.

    Raises `PolygateError` for a malformed or repeated id, an empty text, a text that no UTF-8 can hold, a
    multiple-choice prompt outside the harmless train rows, and a table without rows.
    """
    keyed = sorted(((_order(prompt, language), prompt) for prompt in prompts), key=lambda pair: pair[0])
    rows = [prompt for _, prompt in keyed]
    parts = [_parts(prompt.prompt_id, language) for prompt in rows]
    table = PromptTable(
        language=language,
        ids=tuple(prompt.prompt_id for prompt in rows),
        split=np.array([part[1] for part in parts], dtype=np.str_),
        subset=np.array([part[0] for part in parts], dtype=np.str_),
        texts=tuple(prompt.text for prompt in rows),
        categories=tuple(prompt.category for prompt in rows),
        sources=tuple(prompt.source for prompt in rows),
        references=tuple(prompt.reference for prompt in rows),
        normalise=normalise,
        missing=tuple(missing),
        options=tuple(prompt.options for prompt in rows if prompt.options),
        answers=tuple(prompt.answer for prompt in rows if prompt.answer is not None),
        openings=tuple(prompt.opening for prompt in rows if prompt.opening),
    )
    _check_options(rows, language)
    _check_openings(rows, language)
    _validate(table)
    return table


def _parts(identity: str, language: str) -> tuple[str, str, bool, int]:
    match = _ID.fullmatch(identity)
    if match is None:
        raise PolygateError(
            f"language {language}: prompt id {identity!r} is malformed",
            do="ids look like harmful-test-0007: subset, split, number of four digits or more",
        )
    return match[1], match[2], match[3] is not None, int(match[4])


def _order(prompt: Prompt, language: str) -> tuple[int, int, bool, int]:
    subset, split, choice, number = _parts(prompt.prompt_id, language)
    return _SPLIT_ORDER[split], SUBSETS.index(subset), choice, number


def _check_options(rows: Sequence[Prompt], language: str) -> None:
    """Every row has options, all different, and the answer is one of them, or no row has either."""
    task = any(row.options or row.answer is not None for row in rows)
    for row in rows if task else []:
        where = f"language {language}: {row.prompt_id} ({row.source})"
        if not 2 <= len(row.options) <= len(LETTERS) or len(set(row.options)) < len(row.options):
            raise PolygateError(
                f"{where} has options {list(row.options)}",
                do=f"a task needs 2 to {len(LETTERS)} different options in every row",
            )
        if row.answer is None or not 0 <= row.answer < len(row.options):
            raise PolygateError(f"{where} has answer {row.answer}, which is none of its {len(row.options)} options")


def _check_openings(rows: Sequence[Prompt], language: str) -> None:
    """Every row has an opening, or none has."""
    if any(row.opening for row in rows):
        for row in rows:
            if not row.opening.strip():
                raise PolygateError(f"language {language}: {row.prompt_id} ({row.source}) has no opening, others have")


def _validate(table: PromptTable) -> None:
    where = f"language {table.language}"
    if not table.ids:
        raise PolygateError(f"{where} has no prompts")
    for identity, count in Counter(table.ids).items():
        if count > 1:
            raise PolygateError(f"{where}: prompt id {identity!r} stands in {count} rows")
    for name in ("texts", "categories", "references", *(["openings"] if table.openings else [])):
        for identity, source, text in zip(table.ids, table.sources, getattr(table, name), strict=True):
            if half := re.search("[\ud800-\udfff]", text):
                raise PolygateError(
                    f"{where}: {identity} ({source}) holds half of a surrogate pair at character {half.start()}",
                    do="the text seems to have been cut within a character: repeat it from its source",
                )
    empty = [i for i, text in enumerate(table.texts) if not visible(text).strip()]
    if empty:
        first = empty[0]
        raise PolygateError(
            f"{where}: {len(empty)} empty prompts, the first is {table.ids[first]} ({table.sources[first]})",
            do="fill in the translation or remove the row in every language",
        )
    for identity, category in zip(table.ids, table.categories, strict=True):
        named = "-mcq-" in identity
        if named != (category == MULTIPLE_CHOICE) or (named and not identity.startswith("harmless-train-")):
            raise PolygateError(
                f"{where}: prompt {identity} has category {category!r}",
                do=f"ids harmless-train-mcq-… and category {MULTIPLE_CHOICE} belong together",
            )


def write(
    path: str | Path,
    table: PromptTable,
    provenance: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a prompt table atomically; what it says of itself and `metadata` go to the schema's metadata."""
    columns = (
        table.ids,
        table.split.tolist(),
        table.subset.tolist(),
        table.texts,
        table.categories,
        table.sources,
        table.references,
    )
    header = {
        "dataset": table.dataset,
        "use": "test" if table.tested else "fit",
        "language": table.language,
        "normalise": table.normalise,
        "missing": json.dumps(list(table.missing)),
        **(metadata or {}),
    }
    arrays = [pa.array(list(column), pa.string()) for column in columns]
    schema = SCHEMA
    if table.options:
        schema = pa.unify_schemas([SCHEMA, _TASK])
        arrays += [pa.array(table.options, _TASK.field("options").type), pa.array(table.answers, pa.int8())]
    if table.openings:
        schema = schema.append(pa.field(OPENING, pa.string(), nullable=False))
        arrays.append(pa.array(table.openings, pa.string()))
    files.write_parquet(path, pa.Table.from_arrays(arrays, schema=schema.with_metadata(header)), provenance)


def read(
    path: str | Path, *, align: bool = False, language: str | None = None, dataset: str | None = None
) -> PromptTable:
    """Read a prompt table, the prompts that models are aligned with left out unless asked for with `align`.

    Raises `PolygateError` when the file is absent, broken, foreign, not in table order, or of another language or
    data set than `language` and `dataset`, where these are given.
    """
    found = files.read_parquet(path)
    for name in COLUMNS:
        if name not in found.column_names:
            raise PolygateError(f"column {name!r} is missing", where=path, do="delete it and rerun")
    metadata = {key.decode(): value.decode() for key, value in (found.schema.metadata or {}).items()}
    if "language" not in metadata:
        raise PolygateError("not a prompt table (no language in its metadata)", where=path, do="delete it and rerun")
    files.expect(path, metadata, dataset=dataset, language=language)
    values = {name: found.column(name).to_pylist() for name in COLUMNS}
    plain = zip(*(values[name] for name in ("prompt_id", "text", "category", "source", "reference")), strict=True)
    prompts = [Prompt(*row) for row in plain]
    if set(OPTIONS) <= set(found.column_names):
        tasks = zip(prompts, *(found.column(name).to_pylist() for name in OPTIONS), strict=True)
        prompts = [replace(prompt, options=tuple(options), answer=answer) for prompt, options, answer in tasks]
    if OPENING in found.column_names:
        begun = zip(prompts, found.column(OPENING).to_pylist(), strict=True)
        prompts = [replace(prompt, opening=opening) for prompt, opening in begun]
    table = replace(
        build(
            metadata["language"],
            prompts,
            normalise=metadata.get("normalise", "none"),
            missing=json.loads(metadata.get("missing", "[]")),
        ),
        dataset=metadata.get("dataset", ""),
        tested=metadata.get("use") == "test",
    )
    if list(table.ids) != values["prompt_id"] or table.split.tolist() != values["split"]:
        raise PolygateError("rows are not in the order of a prompt table", where=path, do="delete the file and rerun")
    if table.subset.tolist() != values["subset"]:
        raise PolygateError("subsets contradict the prompt ids", where=path, do="delete the file and rerun")
    table = replace(table, metadata=metadata)
    return table if align else without_align(table)


def read_to_fit(path: str | Path, *, align: bool = False, language: str | None = None) -> PromptTable:
    """Read a prompt table that something is fitted or chosen on; see `read`.

    Raises `PolygateError`, too, when it is of a data set that is only ever tested on.
    """
    table = read(path, align=align, language=language)
    if table.tested:
        raise PolygateError(
            f"holds data set {table.dataset}, which is only ever tested on",
            where=path,
            do="fit and choose on the prompts of the section prompts",
        )
    return table


def without_align(table: PromptTable) -> PromptTable:
    """The table without its split align: the same one when there is none."""
    count = int((table.split != ALIGN).sum())
    if count == len(table):
        return table
    columns = {name: getattr(table, name)[:count] for name in _COLUMNS_OF_A_TABLE}
    return replace(table, **columns)


def check_aligned(tables: Sequence[PromptTable]) -> None:
    """Check that rows mean the same item in every table; the first table (the pivot's) is the reference.

    Per split and subset: the same ids in the same order, and the same categories where both know them. A cell that
    one side lacks must be among its `missing`. Multiple-choice prompts are not translations and are not compared.
    Raises `PolygateError` naming language, row and what differs.
    """
    if not tables:
        return
    pivot, *others = tables
    for other in others:
        _check_pair(pivot, other)


def _check_pair(pivot: PromptTable, other: PromptTable) -> None:
    pair = f"language {other.language} is not aligned with {pivot.language}"
    if other.normalise != pivot.normalise:
        raise PolygateError(f"{pair}: normalise is {other.normalise!r}, not {pivot.normalise!r}")
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            cell = f"{subset} {split}"
            expected, found = pivot.select(split, subset), other.select(split, subset)
            if not len(expected) or not len(found):
                _check_hole(pair, cell, pivot if not len(expected) else other, len(expected) + len(found))
                continue
            if len(expected) != len(found):
                raise PolygateError(f"{pair}: {cell} has {len(found)} rows, not {len(expected)}")
            for number, (a, b) in enumerate(zip(expected.tolist(), found.tolist(), strict=True)):
                _check_row(f"{pair}: {cell} row {number}", pivot, a, other, b)


def _check_hole(pair: str, cell: str, lacking: PromptTable, rows_elsewhere: int) -> None:
    if rows_elsewhere and cell not in lacking.missing:
        raise PolygateError(f"{pair}: {lacking.language} has no {cell} rows and does not say that they are missing")


def _check_row(where: str, pivot: PromptTable, a: int, other: PromptTable, b: int) -> None:
    if pivot.ids[a] != other.ids[b]:
        raise PolygateError(f"{where}: prompt id is {other.ids[b]!r}, not {pivot.ids[a]!r}")
    expected, found = pivot.categories[a], other.categories[b]
    if expected and found and expected != found:
        raise PolygateError(f"{where} ({other.sources[b]}): category is {found!r}, not {expected!r}")
