"""How a task is measured: ours and the peer in turns, the limit between them, memory in a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
MB = 1e6
PAUSE = 0.2


@dataclass(frozen=True)
class Row:
    """A line of the table.

    `ours_s` and `peer_s` are median wall-clock times in seconds, with all cores for both sides; `ratio` is peer / ours.
    `limit_share` is the time that reading the same file once takes / ours. `peak_mb` is the memory that our side adds
    to what the process holds before it. `goal` says what is aimed at and `met` whether it was, "" without a goal.
    """

    task: str
    size: str
    ours_s: float
    peer: str
    peer_s: float | None
    ratio: float | None
    limit_share: float | None
    peak_mb: float
    goal: str
    met: str

    def cells(self) -> list[str]:
        """The row for people."""
        return [
            self.task,
            self.size,
            seconds(self.ours_s),
            self.peer,
            "" if self.peer_s is None else seconds(self.peer_s),
            "" if self.ratio is None else f"{self.ratio:.1f} ×" if self.ratio >= 1.5 else f"{self.ratio:.2f} ×",
            "" if self.limit_share is None else f"{self.limit_share:.0%}",
            "" if self.peak_mb != self.peak_mb else f"{self.peak_mb:.0f}",
            self.goal,
            self.met,
        ]


def seconds(value: float) -> str:
    """A time with two or three digits."""
    return f"{value * 1e3:.2f} ms" if value < 0.1 else f"{value * 1e3:.0f} ms" if value < 10 else f"{value:.0f} s"


def measure(
    task: str,
    size: str,
    ours: Callable[[], Any],
    peer_name: str,
    peer: Callable[[], Any],
    *,
    times: float | None = None,
    limit: Callable[[], float] | None = None,
    share: float | None = None,
    before: Callable[[], Any] = lambda: None,
    n: int = 5,
) -> Row:
    """Median times of n turns, ours and the peer's one after the other, so that a busy moment hits either.

    `times` and `share` are goals: of the ratio, and of the share of `limit`, seconds that nothing can be faster than,
    which is taken in the same turns. `before` is called before each, untimed.
    """
    own, other, least = [], [], []
    ours(), peer()
    for _ in range(n):
        before()
        own.append(timed(ours))
        before()
        other.append(timed(peer))
        if limit is not None:
            least.append(limit())
    ratio = median(other) / median(own)
    limit_share = median(least) / median(own) if least else None
    goal, met = "", ""
    if times is not None:
        goal, met = f"≥ {times:.2g} ×", "yes" if ratio >= times else "no"
    if share is not None and limit_share is not None:
        goal, met = f"≥ {share:.0%} of reading", "yes" if limit_share >= share else "no"
    return Row(task, size, median(own), peer_name, median(other), ratio, limit_share, added_memory(ours), goal, met)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of wall clock, begun when the threads of what ran before have stopped waiting busily for more."""
    sleep(PAUSE)
    begun = perf_counter()
    work()
    return perf_counter() - begun


def added_memory(work: Callable[[], Any]) -> float:
    """Megabytes by which the resident memory of a forked process peaks above what it starts with."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = resident()
        work()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, repr(max(0, after - before) / MB).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return float(found) if found else float("nan")


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def run(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a program; CalledProcessError when it fails."""
    begun = perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise subprocess.CalledProcessError(code, command)
    return perf_counter() - begun, usage.ru_maxrss * 1024 / MB
