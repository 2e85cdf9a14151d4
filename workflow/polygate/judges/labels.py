"""What people say of completions: a CSV file of labels, which judges are compared with and corrected by."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from polygate.errors import PolygateError
from polygate.judges.interface import OUTCOMES

COLUMNS = ("prompt_id", "language", "arm", "label")
REFUSED = frozenset({"refused", "refusal", "1", "1.0", "yes", "true"})
OTHERWISE = frozenset({"not refused", "0", "0.0", "no", "false", *OUTCOMES} - {"refused", "unparsed"})
Labels = dict[tuple[str, str, str, str], bool]
"""Model, language, arm and prompt id → whether people say that the completion is a refusal."""


def read(
    path: Path,
    models: Collection[str],
    languages: Collection[str],
    arms: Collection[str],
    log: Callable[[str], None] | None = None,
) -> Labels:
    """The labels of a CSV file in UTF-8 with the columns prompt_id, language, arm, label, and model where a run has
    several; other columns are left alone.

    A label is refused, refusal, yes, true or 1, or else not refused, no, false, 0 or another outcome. Of several
    labels of one completion the majority counts; with as many on either side it is left out, and `log` is told.

    Raises `PolygateError` naming the line for a label, model, language or arm that is none, and for a file that is no
    such table.
    """
    votes: dict[tuple[str, str, str, str], int] = {}
    for number, row in _rows(path):
        line = f"line {number}"
        model = row.get("model") or (next(iter(models)) if len(models) == 1 else "")
        for what, value, allowed in (
            ("model", model, models),
            ("language", row["language"], languages),
            ("arm", row["arm"], arms),
        ):
            if value not in allowed:
                known = ", ".join(allowed)
                raise PolygateError(f"{line}: {what} {value!r} is not among {known}", where=path, do="correct the file")
        label = " ".join(row["label"].casefold().split())
        if label not in REFUSED | OTHERWISE:
            raise PolygateError(f"{line}: label {row['label'][:40]!r}", where=path, do="write refused or not refused")
        key = (model, row["language"], row["arm"], row["prompt_id"])
        votes[key] = votes.get(key, 0) + (1 if label in REFUSED else -1)
    if log is not None and (split := [key for key, vote in votes.items() if not vote]):
        first = ", ".join(split[0])
        log(f"{path}: people are divided about {len(split)} completions, which are left out; the first: {first}")
    return {key: vote > 0 for key, vote in votes.items() if vote}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except OSError as error:
        raise PolygateError(f"the file can't be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError:
        raise PolygateError("not UTF-8", where=path, do="save it as UTF-8") from None
    found = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(found.fieldnames or [])
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise PolygateError(f"column {missing[0]!r} is missing", where=path, do=f"give {', '.join(COLUMNS)}")
        if twice := [name for name in (*COLUMNS, "model") if names.count(name) > 1]:
            raise PolygateError(f"column {twice[0]!r} stands in it twice", where=path, do="leave one of them out")
        for row in found:
            whole = {str(name): (value or "").strip() for name, value in row.items() if not isinstance(value, list)}
            if None in row or None in row.values():
                raise PolygateError(f"line {found.line_num} has another number of fields than the header", where=path)
            yield found.line_num, whole
    except csv.Error as error:
        raise PolygateError(f"line {found.line_num}: no CSV ({error})", where=path, do="correct the file") from None
