"""Locks, with `flock` and without: one holder at a time, and nothing that a dead one left stays in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polygate import locks

NO_FLOCK = {"Lustre": errno.ENOSYS, "no lock daemon": errno.ENOLCK, "not supported": errno.EOPNOTSUPP}


def without_flock(number: int) -> Callable[[int, int], None]:
    def flock(_handle: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.fixture(params=[None, *NO_FLOCK])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """With `flock`, and with each way of lacking it."""
    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", without_flock(NO_FLOCK[request.param]))
        locks._warn.cache_clear()
    return request.param


def ended_process() -> str:
    """A process of this machine that lives no more, as `me` writes it."""
    code = "from polygate import locks; print(locks.me())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_one_holder_at_a_time(kind: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = locks.take(tmp_path / "lock")
    assert first is not None
    assert locks.take(tmp_path / "lock") is None
    first.release()
    again = locks.take(tmp_path / "lock")
    assert again is not None
    again.release()
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == (kind is not None), "the missing flock is told once"
    assert all("has no flock" in line for line in warned)


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock(errno.ENOSYS))
    held = tmp_path / "lock.held"
    held.write_text(ended_process())
    lock = locks.take(tmp_path / "lock")
    assert lock is not None
    assert held.read_text() == locks.me()
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(("age", "taken"), [(3600, False), (48 * 3600, True)])
def test_another_machines_lock_is_stale_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, taken: bool
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock(errno.ENOSYS))
    held = tmp_path / "lock.held"
    held.write_text("00000000-1")
    os.utime(held, (held.stat().st_mtime - age,) * 2)
    assert (locks.take(tmp_path / "lock") is not None) == taken


def test_other_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        locks.take(tmp_path / "lock")


def test_only_who_is_alone_cleans_up(kind: str | None, tmp_path: Path) -> None:
    """The other is a process of its own: it says whether it cleaned up, and leaves."""
    code = (
        "import errno, fcntl, sys; from pathlib import Path; from polygate import locks\n"
        "def flock(*_): raise OSError(int(sys.argv[2]), '')\n"
        "if int(sys.argv[2]): fcntl.flock = flock\n"
        "lock = locks.join(Path(sys.argv[1]), lambda: print('cleaned'))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "alive"), str(NO_FLOCK[kind] if kind else 0)]

    def other() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert other() == "cleaned\n"
    cleaned: list[str] = []
    lock = locks.join(tmp_path / "alive", lambda: cleaned.append("here"))
    assert cleaned == ["here"], "a process that has ended is nobody"
    assert other() == ""
    lock.release()
    assert other() == "cleaned\n"
