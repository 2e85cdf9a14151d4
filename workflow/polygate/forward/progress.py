"""Progress of forward passes: a bar with rate and time left on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts prompts, or what `unit` names; fractions are welcome.

    On a terminal a tqdm bar; otherwise one line every ten seconds and one at the end, so that logs stay readable.
    """

    def __init__(
        self,
        what: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "prompts",
    ) -> None:
        self.what, self.total, self.done, self.unit = what, total, 0.0, unit
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = self._written = clock()
        self._bar: Any = None
        if self._stream.isatty():
            from tqdm import tqdm

            layout = "{desc}: {percentage:3.0f} % |{bar}| {n:.0f}/{total}{unit}, {rate_fmt}, {remaining} left"
            self._bar = tqdm(total=total, desc=what, unit=f" {unit}", file=self._stream, bar_format=layout)

    def __enter__(self) -> Self:
        return self

    def advance(self, prompts: float) -> None:
        """So many more prompts are done."""
        self.done += prompts
        if self._bar is not None:
            self._bar.set_description_str(self.what, refresh=False)
            self._bar.update(prompts)
        elif self._clock() - self._written >= _SECONDS_BETWEEN_LINES:
            self._write()

    def _write(self) -> None:
        self._written = self._clock()
        seconds = max(self._written - self._started, 1e-9)
        rate = self.done / seconds
        left = f", {(self.total - self.done) / rate:.0f} s left" if 0 < self.done < self.total - 1e-6 else ""
        line = f"{self.what}: {self.done:.0f}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s{left}"
        print(line, file=self._stream, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._write()
