"""What back-translations say of translations, prompt by prompt: n-grams in common, cosines, and what went wrong."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts.table import PromptTable
from polygate.prompts.translation import scores
from polygate.prompts.translation.kept import Translations

FLAWS = ("truncated", "looping", "repeated", "back_truncated", "back_looping", "back_empty")
"""What can be wrong with a prompt's translation, and with its translation back."""
COSINES = ("cosine", "unrelated", "cosine_translation", "unrelated_translation")
"""Between source and back-translation, and between source and translation; each beside that with the next prompt's."""
_LOOP = re.compile(r"(.{3,60}?)\1{3,}", re.DOTALL)
"""Four times the same few words on end."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def loops(text: str, source: str) -> bool:
    """Whether a translation says the same again and again where its source doesn't."""
    found, said = (_LOOP.search(" ".join([*each.split(), ""])) is not None for each in (text, source))
    return found and not said


def repeated(texts: Sequence[str], sources: Sequence[str]) -> list[bool]:
    """Which translations stand for prompts that differ, compared without case and white space."""
    of: dict[str, set[str]] = defaultdict(set)
    pairs = [(_plain(text), _plain(source)) for text, source in zip(texts, sources, strict=True)]
    for text, source in pairs:
        of[text].add(source)
    return [len(of[text]) > 1 for text, _ in pairs]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def measure(
    pivot: PromptTable,
    own: PromptTable,
    there: Translations | None,
    back: Translations,
    embedded: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]] | None = None,
    embed: Embed | None = None,
) -> tuple[pa.Table, dict[str, str]]:
    """A row per prompt of a language, multiple-choice prompts left out, and the signatures of the scores.

    `there` is None for a language that isn't translated here. `embedded` are vectors of unit length of the pivot's and
    of the language's prompts by id, which go with `embed`; without them cosines are null. Columns: prompt_id, split,
    subset, `bleu` and `chrf` (statistics, lists), those of `COSINES` (float64; 0 for an empty back-translation) and
    `FLAWS` (bool).
    """
    own = _requests(own)
    source = dict(zip(pivot.ids, pivot.texts, strict=True))
    lacking = [identity for identity in own.ids if identity not in source or identity not in back.by_id]
    if lacking:
        raise PolygateError(f"prompt {lacking[0]} of {own.language} has no source or back-translation")
    sources, backs = [source[name] for name in own.ids], [back.by_id[name] for name in own.ids]
    counted = scores.count([each.text for each in backs], sources)
    forth = [True if there is None else there.by_id[name].finished for name in own.ids]
    columns: dict[str, Any] = {
        "prompt_id": list(own.ids),
        "split": own.split.tolist(),
        "subset": own.subset.tolist(),
        "bleu": counted.bleu.tolist(),
        "chrf": counted.chrf.tolist(),
    }
    cosines = [None] * len(COSINES)
    if embedded is not None and embed is not None:
        cosines = _cosines(own, embedded, [each.text for each in backs], embed)
    columns |= {
        name: pa.array(values, pa.float64()) if values is not None else pa.nulls(len(own), pa.float64())
        for name, values in zip(COSINES, cosines, strict=True)
    }
    flaws = (
        [not finished for finished in forth],
        [loops(text, said) for text, said in zip(own.texts, sources, strict=True)],
        repeated(own.texts, sources),
        [not each.finished for each in backs],
        [loops(each.text, said) for each, said in zip(backs, sources, strict=True)],
        [not each.text.strip() for each in backs],
    )
    return pa.table(columns | dict(zip(FLAWS, flaws, strict=True))), dict(counted.signatures)


def _requests(own: PromptTable) -> PromptTable:
    rows = own.select()
    ids, texts = (tuple(column[row] for row in rows) for column in (own.ids, own.texts))
    return replace(own, split=own.split[rows], subset=own.subset[rows], ids=ids, texts=texts)


def _cosines(
    own: PromptTable,
    embedded: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
    backs: Sequence[str],
    embed: Embed,
) -> list[Any]:
    of_source, of_own = (np.stack([side[name] for name in own.ids]).astype(np.float64) for side in embedded)
    empty = np.array([not text.strip() for text in backs])
    of_back = np.asarray(embed([text if text.strip() else "." for text in backs]), np.float64)
    of_back[empty] = 0.0
    other = _others(own)
    rows = np.arange(len(own))
    found: list[Any] = []
    for vectors in (of_back, of_own):
        found.append((of_source * vectors).sum(axis=1))
        apart = (of_source * vectors[other]).sum(axis=1)
        found.append([None if alone else float(value) for alone, value in zip(other == rows, apart, strict=True)])
    return found


def _others(own: PromptTable) -> NDArray[np.int64]:
    """Another row of the same split and class for every row: the next one, the first after the last."""
    other = np.arange(len(own))
    for cell in {(str(split), str(subset)) for split, subset in zip(own.split, own.subset, strict=True)}:
        rows = np.flatnonzero((own.split == cell[0]) & (own.subset == cell[1]))
        other[rows] = np.roll(rows, -1)
    return other


def write(
    path: Path, found: pa.Table, own: PromptTable, said: Mapping[str, str], provenance: Mapping[str, Any]
) -> None:
    """Write the rows of a language; `said` are further words of the file's own: signatures, translators, encoder."""
    of = {"dataset": own.dataset, "language": own.language, "prompts": own.fingerprint()}
    files.write_parquet(path, found, provenance, {**of, **said})
