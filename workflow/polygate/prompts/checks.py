"""Texts that are there but aren't translations: empty, left in the pivot's language, or one text over and over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from polygate.errors import PolygateError

UNTRANSLATED_SHARE = 0.1
"""A cell with more rows than this share equal to the pivot's is taken for half-translated (PolyRefuse has none)."""
REPEATED_SHARE = 0.05
"""The same for one text in many rows (PolyRefuse: 2 rows of 572), which is how failed translations look."""


def check_texts(
    language: str, where: object, texts: Sequence[str], pivot: Sequence[str] | None, pivot_language: str
) -> None:
    """Check the texts of one cell (one language, subset and split) against the pivot's texts of the same rows.

    Raises `PolygateError` naming the language, the file and the first rows when texts are empty, when many equal
    the pivot's (compared without case and white space), or when one text stands for many different prompts.
    `pivot` is None for the pivot itself.
    """
    empty = [row for row, text in enumerate(texts) if not text.strip()]
    if empty:
        raise PolygateError(
            f"language {language}: {_rows(empty, len(texts))} without text", where=where, do="fill in the translation"
        )
    if pivot is None:
        return
    same = [row for row, (a, b) in enumerate(zip(texts, pivot, strict=True)) if _key(a) == _key(b)]
    if same and (len(same) == len(texts) or (len(same) > 1 and len(same) > UNTRANSLATED_SHARE * len(texts))):
        raise PolygateError(
            f"language {language} looks untranslated: {_rows(same, len(texts))} equal to {pivot_language}",
            where=where,
            do="complete the translation, or take the language out of the settings",
        )
    _check_repeats(language, where, [_key(text) for text in texts], [_key(text) for text in pivot])


def _check_repeats(language: str, where: object, texts: Sequence[str], pivot: Sequence[str]) -> None:
    text, count = Counter(texts).most_common(1)[0]
    rows = [row for row, other in enumerate(texts) if other == text]
    if len({pivot[row] for row in rows}) > 2 and count > REPEATED_SHARE * len(texts):
        raise PolygateError(
            f"language {language}: {_rows(rows, len(texts))} with one and the same text {text[:40]!r}",
            where=where,
            do="the translation of these rows seems to have failed: repeat it",
        )


def _key(text: str) -> str:
    return " ".join(text.casefold().split())


def _rows(rows: Sequence[int], total: int) -> str:
    first = ", ".join(str(row) for row in rows[:5])
    return f"{len(rows)} of {total} rows ({first}{', …' if len(rows) > 5 else ''})"
