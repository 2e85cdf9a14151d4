"""The translation memory: what a model has translated is kept for good, by content.

A JSON line per text in a file per model and pair of languages, each with its own checksum, on the disk before the next
batch begins. The key of a line is a hash of everything that decides the translation: the contents of the model's
folder, its revision, the settings of the search, the two languages and the text. A job that was killed goes on where it
was, and the same text is never translated twice, whichever run asks for it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polygate import locks
from polygate.errors import PolygateError

_POLL_SECONDS = 0.5


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
        content = b"".join(_line(name, each) for name, each in found)
        try:
            while content:
                content = content[os.write(self._handle, content) :]
            os.fsync(self._handle)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise PolygateError(
                "no space left on the disk" if full else f"translations can't be kept ({error.strerror})",
                where=self._path,
                do="mend that and run the same command again",
            ) from error
        self.known.update(found)


def _line(name: str, found: Translated) -> bytes:
    said = {"key": name, **asdict(found)}
    return json.dumps({**said, "crc32": _checksum(said)}, sort_keys=True).encode() + b"\n"


def _checksum(said: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(said, sort_keys=True).encode()):08x}"


@contextmanager
def opened(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Memory]:
    """The memory in a file, for this process alone: others that want it wait (`waiting` is called once before that).

    What a killed writer left of its last line is removed. Raises `PolygateError` for a damaged line, and for a folder
    that can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = locks.take(path.with_suffix(".lock"))
        if lock is None:
            waiting()
        while lock is None:
            time.sleep(_POLL_SECONDS)
            lock = locks.take(path.with_suffix(".lock"))
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise PolygateError(f"translations can't be kept ({error.strerror})", where=path.parent) from None
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        os.ftruncate(handle, whole)
        lines = content[:whole].split(b"\n")[:-1]
        yield Memory(path, handle, dict(_parsed(line, number, path) for number, line in enumerate(lines, 1)))
    finally:
        os.close(handle)
        lock.release()


def _parsed(line: bytes, number: int, path: Path) -> tuple[str, Translated]:
    try:
        said = json.loads(line)
        checksum = said.pop("crc32")
        if checksum == _checksum(said):
            return said.pop("key"), Translated(**said)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise PolygateError(f"line {number} is damaged", where=path, do="remove that line: its text is translated again")
