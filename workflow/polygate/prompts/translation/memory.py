"""The translation memory: what a model has translated is kept for good, by content.

A JSON line per text in a file per model and pair of languages, each with its own checksum, on the disk before the next
batch begins. The key of a line is a hash of everything that decides the translation: the contents of the model's
folder, its revision, the settings of the search, the two languages and the text. A job that was killed goes on where it
was, and the same text is never translated twice, whichever run asks for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polygate import append_only
from polygate.errors import PolygateError


@dataclass(frozen=True)
class Translated:
    """A translation: its text, the tokens that were written (the last one included), and whether it came to an end."""

    text: str
    tokens: int
    finished: bool


def key(described: dict[str, Any], text: str) -> str:
    """The hash, 64 hex digits, of a text and of what translates it."""
    content = json.dumps({**described, "text": text}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


class Memory:
    """The file of a model and pair of languages while this process holds its lock."""

    def __init__(self, path: Path, handle: int, known: dict[str, Translated]) -> None:
        self._path, self._handle = path, handle
        self.known = known

    def add(self, found: Sequence[tuple[str, Translated]]) -> None:
        """Write a batch of keys and translations to the end and to the disk; `PolygateError` when that can't be."""
        content = b"".join(append_only.line({"key": name, **asdict(each)}) for name, each in found)
        append_only.add(self._handle, content, self._path, "translations")
        self.known.update(found)


@contextmanager
def opened(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Memory]:
    """The memory in a file, for this process alone: others that want it wait (`waiting` is called once before that).

    What a killed writer left of its last line is removed. Raises `PolygateError` for a damaged line, and for a folder
    that can't be written.
    """
    with append_only.opened(path, "translations", waiting) as handle:
        lines = path.read_bytes().split(b"\n")[:-1]
        yield Memory(path, handle, dict(_parsed(line, number, path) for number, line in enumerate(lines, 1)))


def _parsed(line: bytes, number: int, path: Path) -> tuple[str, Translated]:
    again = "its text is translated again"
    said = append_only.parsed(line, number, path, again)
    try:
        return said.pop("key"), Translated(**said)
    except (TypeError, KeyError):
        raise PolygateError(f"line {number} is damaged", where=path, do=f"remove that line: {again}") from None
