"""Locks between processes, also where the file system knows no `flock`, and who a process is.

`flock` is the kernel's: it ends with its holder, however that ends. Some file systems lack it (Lustre mounted
without, some NFS). There a file that must not exist yet stands for the lock and names its holder, which leaves it
behind when it is killed: such a file is stale when its holder no longer lives, or was written on another machine a
day ago.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

MISSING = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What the kernel says where there is no `flock`."""
STALE_SECONDS = 24 * 3600.0
"""Age at which what another machine's process left counts as left behind."""


@cache
def _machine() -> str:
    """Eight hexadecimal digits for this machine and its table of processes: containers have tables of their own."""
    try:
        table = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        table = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {table}'.encode()):08x}"


def me() -> str:
    """This process, as names of temporary files and locks have it: its machine and its number."""
    return f"{_machine()}-{os.getpid()}"


def is_gone(owner: str, path: Path) -> bool:
    """Whether the process `owner` (see `me`), which wrote `path`, has ended, as far as this one can know."""
    machine, _, number = owner.partition("-")
    if machine == _machine() and number.isdigit():
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


@cache
def _warn(folder: Path) -> None:
    print(
        f"polygate: the file system of {folder} has no flock, so lock files take its place; "
        "what a killed process left is taken over once that process has ended",
        file=sys.stderr,
        flush=True,
    )


class Lock:
    """A lock that this process holds until `release`, or until it ends."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.release = release


def take(path: Path) -> Lock | None:
    """Take the lock of a file, None when another has it. No link is followed, nothing in the file is changed.

    The folder must be there.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        if error.errno not in MISSING:
            raise
        _warn(path.parent)
        return _take_by_name(path.with_name(f"{path.name}.held"))
    return Lock(lambda: os.close(handle))


def _take_by_name(held: Path) -> Lock | None:
    for _ in range(2):
        try:
            handle = os.open(held, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if not _remove_stale(held):
                return None
            continue
        os.write(handle, me().encode())
        os.close(handle)
        return Lock(lambda: held.unlink(missing_ok=True))
    return None


def _remove_stale(held: Path) -> bool:
    """Remove a lock that its holder left behind; False when it is held."""
    try:
        owner = held.read_text(encoding="ascii")
        if not is_gone(owner, held):
            return False
        # Who renames it first has it: two that find it stale must not both remove, the second would take a new one.
        aside = held.with_name(f"{held.name}.{me()}")
        held.rename(aside)
        if aside.read_text(encoding="ascii") != owner:
            os.link(aside, held)
        aside.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def join(path: Path, when_alone: Callable[[], None]) -> Lock:
    """Count among the living of the lock file `path` until this process ends; first, if nobody else does, clean up."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            when_alone()
        except BlockingIOError:
            pass
        fcntl.flock(handle, fcntl.LOCK_SH)
    except OSError as error:
        os.close(handle)
        if error.errno not in MISSING:
            raise
        _warn(path.parent)
        return _join_by_name(path, when_alone)
    return Lock(lambda: os.close(handle))


def _join_by_name(path: Path, when_alone: Callable[[], None]) -> Lock:
    own = path.with_name(f"{path.name}.held.{me()}")
    own.touch()
    others = [other for other in path.parent.glob(f"{path.name}.held.*") if other != own]
    gone = [other for other in others if is_gone(other.name.rpartition(".")[2], other)]
    for other in gone:
        other.unlink(missing_ok=True)
    if len(gone) == len(others):
        when_alone()
    return Lock(lambda: own.unlink(missing_ok=True))
