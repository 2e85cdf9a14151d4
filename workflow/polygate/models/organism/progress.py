"""Progress of a long loop: a bar with rate and remaining time on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

_LINES = 10


def progress(steps: int, note: Callable[[], str]) -> Iterator[int]:
    """Yield 0 … steps − 1 and report on stderr how far it is, how fast, and what `note` says."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(range(steps), unit="step", dynamic_ncols=True) as bar:
            for step in bar:
                yield step
                bar.set_postfix_str(note(), refresh=False)
        return
    started = time.monotonic()
    for step in range(steps):
        yield step
        done = step + 1
        if done * _LINES // steps > step * _LINES // steps:
            rate = done / max(time.monotonic() - started, 1e-9)
            left = (steps - done) / rate
            print(f"step {done}/{steps}, {rate:.1f} steps/s, {left:.0f} s left, {note()}", file=sys.stderr, flush=True)
