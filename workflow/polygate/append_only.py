"""Files to which lines are added and in which none changes: what was paid or waited for is kept through any kill.

Each line is a JSON object with its own checksum, on the disk before the next step is taken. One process writes at a
time; what a killed one left of its last line is removed by the next.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polygate import locks
from polygate.errors import PolygateError

_POLL_SECONDS = 0.1


def line(said: dict[str, Any]) -> bytes:
    """The line of an object, its end included."""
    return json.dumps({**said, "crc32": _checksum(said)}, sort_keys=True).encode() + b"\n"


def parsed(text: bytes, number: int, path: Path, again: str) -> dict[str, Any]:
    """The object of a line without its end; `PolygateError` where it is damaged, which says what happens `again`."""
    try:
        said: dict[str, Any] = json.loads(text)
        if said.pop("crc32") == _checksum(said):
            return said
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise PolygateError(f"line {number} is damaged", where=path, do=f"remove that line: {again}")


def _checksum(said: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(said, sort_keys=True).encode()):08x}"


def add(handle: int, content: bytes, path: Path, what: str) -> None:
    """Write whole lines to the end and to the disk; `PolygateError` when that can't be, which names `what` is lost."""
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise PolygateError(
            "no space left on the disk" if full else f"{what} can't be kept ({error.strerror})",
            where=path,
            do="mend that and run the same command again",
        ) from error


@contextmanager
def opened(path: Path, what: str, waiting: Callable[[], None]) -> Iterator[int]:
    """A handle to the end of a file, for this process alone: others wait (`waiting` is called once before that).

    Raises `PolygateError` for a folder that can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = locks.take(path.with_suffix(".lock"))
        if lock is None:
            waiting()
        while lock is None:
            time.sleep(_POLL_SECONDS)
            lock = locks.take(path.with_suffix(".lock"))
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError:
            lock.release()
            raise
    except OSError as error:
        raise PolygateError(f"{what} can't be kept ({error.strerror})", where=path.parent) from None
    try:
        _end_with_a_line(path, handle)
        yield handle
    finally:
        os.close(handle)
        lock.release()


def _end_with_a_line(path: Path, handle: int) -> None:
    """Remove what a killed writer left of its last line, and see to it that the file's name is on the disk."""
    content = path.read_bytes()
    os.ftruncate(handle, content.rfind(b"\n") + 1)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
