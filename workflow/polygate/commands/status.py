"""How far a run has come: its steps, and what is done, running, waiting and failed per model and language.

Reads files only, in the folder where Snakemake was called.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from polygate.commands import overview
from polygate.commands.overview import Pass, Steps, duration
from polygate.settings.check import read_yaml
from polygate.settings.types import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "--configfile", type=Path, nargs="+", help="settings of the run, as Snakemake has them; the last run when empty"
    )


def run(args: argparse.Namespace) -> None:
    """Print the overview."""
    name = overview.newest_run() if args.configfile is None else run_of(args.configfile)
    alive = overview.is_alive()
    found = overview.passes(name, alive)
    log = overview.newest_log(name)
    print(headline(name, overview.steps(log) if log else None, found, alive, time.time()))
    for line in overview.counting(name) if alive else []:
        print(f"  now: {line}")
    for line in overview.lines(overview.grouped(found)):
        print(line)


def run_of(configfiles: list[Path]) -> str:
    """Name of the run that these settings are of, the last file's where several name one."""
    named = [content["run"] for path in configfiles if "run" in (content := read_yaml(path))]
    return str(named[-1]) if named else Settings.model_fields["run"].get_default()


def headline(name: str, steps: Steps | None, found: list[Pass], alive: bool, now: float) -> str:
    """One line on the whole run: what its log counts, or what its files tell where it has none."""
    if steps is None:
        return f"{name}: {'running' if alive else 'not running'}, {_of_files(name, found, now)}"
    if not steps.total:
        return f"{name}: {'running' if alive else 'not running'}, no step is done yet"
    counted = f"{name}: {steps.done} of {steps.total} steps"
    failed = f"; failed: {', '.join(sorted(set(steps.failed)))}" if steps.failed else ""
    if steps.ended:
        return f"{counted}, ended {duration(now - steps.seen)} ago{failed}"
    if not alive:
        return f"{counted}, stopped {duration(now - steps.seen)} ago: run Snakemake again to go on{failed}"
    left = steps.seconds_left(now)
    pace = "" if left is None else f", about {duration(left)} left at this pace"
    return f"{counted}, running for {duration(now - steps.started)}{pace}{failed}"


def _of_files(name: str, found: list[Pass], now: float) -> str:
    """How far a run has come that lies here without its log: made by an older version, or copied from elsewhere."""
    reported, states = overview.reported(name), {one.state for one in found}
    if reported is not None and states <= {"done"}:
        return f"finished as far as its files tell: its report was made {duration(now - reported)} ago"
    if reported is not None or "done" in states:
        return "not finished as its files tell; no log says how many steps are done"
    return "no step is done yet"
