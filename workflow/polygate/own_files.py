"""A folder with a file of the user's own for each language: which of its files no language reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from polygate.errors import PolygateError


def names(folder: Path) -> list[str]:
    """Names of what lies in `folder` and isn't hidden, sorted; `PolygateError` when it can't be read."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise PolygateError(f"the folder can't be read ({error.strerror})") from None


def unread(
    found: Sequence[str], read: Mapping[str, str], languages: Sequence[str], suffixes: Collection[str], what: str
) -> list[str]:
    """Those of the names `found` that no language reads.

    `read` maps a language to the name of the file that is read for it. Raises `PolygateError` for a second file of a
    language, with another of the `suffixes` or in another case, and for one that seems to be meant for a language and
    is not read; `what` says what its right name is.
    """
    left = [name for name in found if name not in read.values()]
    for name in left:
        for language in languages:
            own = name.casefold() in {f"{language}{suffix}".casefold() for suffix in suffixes}
            if language in read and own:
                raise PolygateError(f"{read[language]} and {name} are both there for {language}", do="keep one of them")
            if language not in read and name.casefold().startswith(f"{language}.".casefold()):
                raise PolygateError(
                    f"{name} is not read: {what.format(language=language)}", do="rename it, or move it elsewhere"
                )
    return left
