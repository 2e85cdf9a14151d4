"""Which rows of a source a prompt table keeps: the first ones up to the limit, and the last ones set aside to align."""

from __future__ import annotations

from polygate.errors import PolygateError
from polygate.prompts.table import ALIGN, Split, TableSplit
from polygate.settings.types import Prompts


def kept(split: Split, rows: int, settings: Prompts, cell: str) -> list[tuple[int, TableSplit]]:
    """Numbers of the rows kept of a source's `rows` rows of one class and split, each with its split in the table.

    The last `settings.align` train rows become the split align, whatever the language; limits apply to the others.
    `cell` names the rows in errors. Raises `PolygateError` when too few train rows are left: fewer than limit.train,
    or than two.
    """
    limit = getattr(settings.limit, split)
    aside = settings.align if split == "train" else 0
    left = rows - aside
    needed = limit or 2
    if aside and left < needed:
        raise PolygateError(
            f"{cell}: {rows} train prompts, of which prompts.align sets {aside} aside, leave {max(left, 0)} "
            f"where {needed} are needed",
            do="lower prompts.align or prompts.limit.train",
        )
    first: list[tuple[int, TableSplit]] = [(row, split) for row in range(left if limit is None else min(limit, left))]
    return first + [(row, ALIGN) for row in range(left, rows)]
