"""Run Snakemake and show one bar for the whole, with the jobs that count something: training and forward passes.

What Snakemake says beyond its routine (failures, notes, the logs of failed jobs) is passed on as it is.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from polygate.commands import overview
from polygate.commands.overview import duration
from polygate.errors import PolygateError

ROUTINE = re.compile(
    r"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\]|Finished jobid: .*|\d+ of \d+ steps .*|Select jobs to execute\.\.\.|"
    r"Execute \d+ jobs\.\.\.|Building DAG of jobs\.\.\.|Using (shell|workflow specific profile).*|Provided cores: .*|"
    r"Rules claiming more threads .*|Assuming unrestricted shared filesystem usage\.|Conda environments: ignored|"
    r"Complete log.*|Elapsed time: .*|host: .*|"
)
"""Lines of Snakemake that say nothing but that it goes on."""
_STEPS = re.compile(r"(\d+) of (\d+) steps ")
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_LINES = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--run", help="name of the run; the last one read when empty")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- snakemake and its arguments")


def run(args: argparse.Namespace) -> None:
    """Run the command; ends with its exit code where that isn't 0."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise PolygateError("nothing to run", do="call it as: polygate watch -- snakemake --cores all …")
    code = watch(command, lambda: overview.counting(args.run or overview.newest_run()))
    if code:
        sys.exit(code)


class Screen:
    """The bar on a terminal; elsewhere a line a minute. `told` are seconds since something was last shown."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.started = self.shown = clock()
        self.done = self.total = 0
        self.bar: Any = None
        self.lock = threading.Lock()

    def line(self, text: str) -> None:
        """One line of Snakemake's: shown unless it is routine, counted where it counts."""
        with self.lock:
            if match := _STEPS.match(text):
                self.done, self.total = int(match[1]), int(match[2])
            if ROUTINE.fullmatch(text.rstrip()):
                return
            if self.bar is not None:
                self.bar.clear()
            print(text.rstrip(), file=self.stream, flush=True)

    def show(self, jobs: list[str]) -> None:
        """Draw the bar anew, with what the jobs say that count something."""
        with self.lock:
            if self.stream.isatty():
                self._draw("; ".join(jobs[-2:]))
            elif self.total and self.clock() - self.shown >= _SECONDS_BETWEEN_LINES:
                self.shown = self.clock()
                told = "; ".join([f"{self.done} of {self.total} steps in {duration(self.shown - self.started)}", *jobs])
                print(told, file=self.stream, flush=True)

    def _draw(self, jobs: str) -> None:
        if self.bar is None and self.total:
            from tqdm import tqdm

            layout = "{percentage:3.0f} % |{bar:30}| {n}/{total} steps, {elapsed}{postfix}"
            self.bar = tqdm(total=self.total, file=self.stream, bar_format=layout, dynamic_ncols=True)
        if self.bar is not None:
            self.bar.n, self.bar.total = self.done, self.total
            self.bar.set_postfix_str(jobs, refresh=True)

    def close(self) -> None:
        """Leave the last bar standing."""
        if self.stream.isatty():
            self.show([])
        if self.bar is not None:
            self.bar.close()


def watch(command: list[str], jobs: Callable[[], list[str]], stream: TextIO | None = None) -> int:
    """Run `command` and show how far it is on `stream` (stderr); its exit code.

    `jobs` gives the lines of running jobs; Ctrl-C and TERM are the command's, which ends in its own way.
    """
    screen = Screen(stream or sys.stderr)
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
    # Ctrl-C reaches Snakemake by itself, from the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    assert child.stderr is not None
    reader = threading.Thread(target=_read, args=(child.stderr, screen), daemon=True)
    reader.start()
    while reader.is_alive():
        screen.show(_told(jobs))
        reader.join(_SECONDS_BETWEEN_LOOKS)
    screen.close()
    return child.wait()


def _read(lines: TextIO, screen: Screen) -> None:
    for line in lines:
        screen.line(line)


def _told(jobs: Callable[[], list[str]]) -> list[str]:
    try:
        return jobs()
    except PolygateError:
        return []
