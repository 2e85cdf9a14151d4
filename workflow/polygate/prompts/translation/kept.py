"""A file of translations, one row per prompt of the table that was translated, and the prompt table made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import normalise, table
from polygate.prompts.checks import check_classes, check_shared, check_texts
from polygate.prompts.table import SUBSETS, TABLE_SPLITS, Prompt, PromptTable
from polygate.prompts.translation.given import Direction
from polygate.prompts.translation.memory import Translated
from polygate.settings.types import Prompts

SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
    ]
)
"""`text` may be empty; `tokens` is what the model wrote, 0 where a file was read; `finished` is false where the
translation was cut off."""


@dataclass(frozen=True)
class Translations:
    """Translations of the prompts of a table by id, and `translator`: what made them, in a few words."""

    by_id: Mapping[str, Translated]
    translator: str


def write(
    path: Path,
    of: PromptTable,
    found: Sequence[Translated],
    language: str,
    direction: Direction,
    translator: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write the translations of a table's prompts, atomically. `language` is the one that isn't the pivot."""
    columns = zip(*((each.text, each.tokens, each.finished) for each in found), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip((of.ids, *columns), SCHEMA, strict=True)]
    what = {"dataset": of.dataset, "language": language, "direction": direction, "prompts": of.fingerprint()}
    files.write_parquet(
        path, pa.Table.from_arrays(arrays, schema=SCHEMA), provenance, {**what, "translator": translator}
    )


def read(path: Path, of: PromptTable, language: str, direction: Direction) -> Translations:
    """The translations of a table's prompts; `PolygateError` for those of others."""
    found = files.read_parquet(path, SCHEMA.names)
    said = files.parquet_metadata(found)
    files.expect(path, said, dataset=of.dataset, language=language, direction=direction, prompts=of.fingerprint())
    rows = zip(*(found.column(name).to_pylist() for name in SCHEMA.names), strict=True)
    return Translations({identity: Translated(*rest) for identity, *rest in rows}, said.get("translator", ""))


def prompts(pivot: PromptTable, found: Translations, language: str, settings: Prompts, where: Path) -> PromptTable:
    """The prompt table of a translated language: the pivot's prompts by id, normalised as the settings say.

    Categories are the pivot's; what a compliant answer must contain isn't known in another language. Raises
    `PolygateError` for an empty translation, and where many are the same text or the source's.
    """
    empty = [identity for identity in pivot.ids if not found.by_id[identity].text.strip()]
    if empty:
        raise PolygateError(
            f"language {language}: {len(empty)} of {len(pivot)} translations are empty, the first is {empty[0]}",
            where=where,
            do="take another model or more beams, or give the language as a file in translation.files",
        )
    made = [
        Prompt(
            prompt_id=identity,
            text=normalise.apply(found.by_id[identity].text, settings.normalise),
            category=category,
            source=f"{pivot.language} {identity}, translated by {found.translator}",
        )
        for identity, category in zip(pivot.ids, pivot.categories, strict=True)
    ]
    result = table.build(language, made, normalise=settings.normalise, missing=pivot.missing)
    table.check_aligned([pivot, result])
    mine, theirs = (list(zip(each.ids, each.texts, strict=True)) for each in (result, pivot))
    check_shared(language, where, mine)
    check_classes(language, where, mine, pivot.language, theirs)
    for split in TABLE_SPLITS:
        for subset in SUBSETS:
            rows = result.select(split, subset)
            if len(rows):
                texts, sources = ([each.texts[row] for row in rows] for each in (result, pivot))
                check_texts(language, f"{where} ({subset} {split})", texts, sources, pivot.language)
    return replace(result, dataset=pivot.dataset)
