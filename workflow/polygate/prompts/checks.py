"""Texts that are there but aren't translations: empty, left in the pivot's language, or one text over and over; and
texts that stand where they must not: in two splits, or in both classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from polygate.errors import PolygateError
from polygate.prompts.normalise import visible

UNTRANSLATED_SHARE = 0.1
"""A cell with more rows than this share equal to the pivot's is taken for half-translated (PolyRefuse has none)."""
REPEATED_SHARE = 0.05
"""The same for one text in many rows (PolyRefuse: 2 rows of 572), which is how failed translations look."""

SHARED_SHARE = 0.02
"""More of a cell's rows than this in another split too is no accident (PolyRefuse: 3 of the 260 harmful train prompts
in Thai are test prompts too, 1 in English; none elsewhere)."""

_MEASURED = ("test", "val", "train", "align")


@dataclass(frozen=True)
class Shared:
    """Prompts of one class and split that stand in another split too: `rows` pairs of ids, of `total` in the split."""

    subset: str
    split: str
    other: str
    rows: tuple[tuple[str, str], ...]
    total: int

    def __str__(self) -> str:
        mine, theirs = self.rows[0]
        return (
            f"{len(self.rows)} of {self.total} {self.subset} {self.split} prompts also stand in {self.other} "
            f"(the first: {mine} is {theirs})"
        )


def shared(prompts: Iterable[tuple[str, str]]) -> list[Shared]:
    """What each split shares with each other one, test first; `prompts` are pairs of id and text.

    Texts are compared without case, white space and what is not seen. Within a split and class a text may stand twice.
    """
    cells: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for identity, text in prompts:
        subset, split = identity.split("-")[:2]
        cells[subset, split].append((identity, _key(text)))
    found = []
    for (subset, split), rows in sorted(cells.items(), key=lambda cell: _MEASURED.index(cell[0][1])):
        for (other_subset, other), others in cells.items():
            if subset == other_subset and split != other:
                ids = {key: identity for identity, key in reversed(others)}
                both = tuple((identity, ids[key]) for identity, key in rows if key in ids)
                found += [Shared(subset, split, other, both, len(rows))] if both else []
    return found


def check_shared(language: str, where: object, prompts: Sequence[tuple[str, str]]) -> None:
    """Check that no text of a language is both harmful and harmless, and hardly any in two splits.

    `prompts` are pairs of id and text. Raises `PolygateError` naming the first pair.
    """
    harmful = [(identity, text) for identity, text in prompts if identity.startswith("harmful-")]
    harmless = [(identity, text) for identity, text in prompts if identity.startswith("harmless-")]
    _check_both(f"language {language}", where, harmful, harmless, "both harmful and harmless", "correct their class")
    for each in shared(prompts):
        if len(each.rows) > SHARED_SHARE * each.total:
            raise PolygateError(
                f"language {language}: {each}",
                where=where,
                do="a prompt that is measured must not have been learnt: keep it in one split",
            )


def check_classes(
    language: str,
    where: object,
    prompts: Iterable[tuple[str, str]],
    pivot_language: str,
    pivot: Iterable[tuple[str, str]],
) -> None:
    """Check that no prompt of a class is a text of the pivot's other class, as when classes are swapped."""
    mine, theirs = list(prompts), list(pivot)
    for subset, other in (("harmful-", "harmless-"), ("harmless-", "harmful-")):
        _check_both(
            f"language {language}",
            where,
            [pair for pair in mine if pair[0].startswith(subset)],
            [pair for pair in theirs if pair[0].startswith(other)],
            f"{subset[:-1]} prompts, and {other[:-1]} ones in {pivot_language}",
            "the classes seem to be swapped",
        )


def _check_both(
    start: str,
    where: object,
    some: Iterable[tuple[str, str]],
    others: Iterable[tuple[str, str]],
    what: str,
    do: str,
) -> None:
    ids = {_key(text): identity for identity, text in others}
    both = [(identity, ids[key]) for identity, text in some if (key := _key(text)) in ids]
    if both:
        mine, theirs = both[0]
        raise PolygateError(
            f"{start}: {len(both)} texts are {what} (the first: {mine} is {theirs})", where=where, do=do
        )


def check_texts(
    language: str, where: object, texts: Sequence[str], pivot: Sequence[str] | None, pivot_language: str
) -> None:
    """Check the texts of one cell (one language, subset and split) against the pivot's texts of the same rows.

    Raises `PolygateError` naming the language, the file and the first rows when texts are empty, when many equal
    the pivot's (compared without case, white space and what is not seen), or when one text stands for many different
    prompts.
    `pivot` is None for the pivot itself.
    """
    empty = [row for row, text in enumerate(texts) if not visible(text).strip()]
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
    return " ".join(visible(text).casefold().split())


def _rows(rows: Sequence[int], total: int) -> str:
    first = ", ".join(str(row) for row in rows[:5])
    return f"{len(rows)} of {total} rows ({first}{', …' if len(rows) > 5 else ''})"
