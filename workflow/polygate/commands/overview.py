"""How far a run has come, read off the files that it leaves: Snakemake's log, the plan of forward passes, jobs' logs.

Nothing here asks a running process, so that it works from another terminal, or machine, and after the end.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from polygate import files
from polygate.errors import PolygateError

HIDDEN = Path(".snakemake/polygate")
"""Where the workflow keeps its plans, `{run}.plan.json`, the names of their last logs, `{run}.log`, and the file that
its living processes lock, `alive`."""
_REPORTED = "{run}/report/config.yaml"
"""What the last rule makes, below `results`."""
SNAKEMAKE_LOGS = Path(".snakemake/log")
_STEPS = re.compile(r"^(\d+) of (\d+) steps", re.MULTILINE)
_FAILED = re.compile(r"^Error in rule (\w+)", re.MULTILINE)
_ENDED = "\nComplete log"
_COUNTING = re.compile(r"^(?P<what>.+): (?P<done>\d+)/(?P<total>\d+) \w+, .* (?P<left>\d+) s left$")
_FRESH_SECONDS = 60.0
"""A job writes a line of progress every ten seconds; after so long it has ended, or hangs."""

State = Literal["done", "failed", "running", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "failed")


@dataclass(frozen=True)
class Steps:
    """Jobs of one call of Snakemake, as its log counts them; `started` and `seen` are seconds since 1970."""

    done: int
    total: int
    started: float
    seen: float
    ended: bool
    failed: tuple[str, ...]

    def seconds_left(self, now: float) -> float | None:
        """At the pace so far, the step that goes on counted as time; None where nothing can be said."""
        if self.ended or not self.done or not self.total:
            return None
        return (now - self.started) * (self.total - self.done) / self.done


def steps(log: Path) -> Steps:
    """What a log of Snakemake says; `PolygateError` when it can't be read."""
    text = _text(log)
    counted = _STEPS.findall(text)
    done, total = map(int, counted[-1]) if counted else (0, 0)
    started = datetime.strptime(log.name.removesuffix(".snakemake.log"), "%Y-%m-%dT%H%M%S.%f").timestamp()
    return Steps(done, total, started, log.stat().st_mtime, _ENDED in text, tuple(_FAILED.findall(text)))


def newest_log(run: str) -> Path | None:
    """The log of the last call of Snakemake that had jobs of the run, None when there is none.

    The workflow notes its name where it starts: with `--quiet` a log says nothing that tells runs apart.
    """
    note = HIDDEN / f"{run}.log"
    if not note.is_file():
        return None
    log = SNAKEMAKE_LOGS / _text(note).strip()
    return log if log.is_file() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PolygateError(f"can't be read ({error.strerror})", where=path) from None


def is_alive(lock: Path = HIDDEN / "alive") -> bool:
    """Whether a workflow runs in this folder: its processes share a lock for as long as they live."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def newest_run() -> str:
    """Name of the run that was read last; `PolygateError` when there is none."""
    plans = sorted(HIDDEN.glob("*.plan.json"), key=_changed)
    if plans:
        return plans[-1].name.removesuffix(".plan.json")
    finished = sorted(Path("results").glob(_REPORTED.format(run="*")), key=_changed)
    if not finished:
        raise PolygateError("no run was started in this folder", do="go to where `snakemake` was called")
    return finished[-1].parts[1]


def reported(run: str) -> float | None:
    """When the run's report was made, which is its last step, in seconds since 1970; None when it wasn't."""
    path = Path("results", _REPORTED.format(run=run))
    return _changed(path) if path.is_file() else None


@dataclass(frozen=True)
class Pass:
    """A forward pass of the plan and how it stands; `said` is the last line of its log where it failed."""

    model: str
    language: str
    state: State
    log: Path
    said: str = ""


def passes(run: str, alive: bool) -> list[Pass]:
    """Every planned forward pass of the run, none where only its results are here.

    Raises `PolygateError` when there are neither.
    """
    path = HIDDEN / f"{run}.plan.json"
    if not path.is_file():
        if reported(run) is not None:
            return []
        raise PolygateError(
            f"no run {run} was started in this folder", do="go to where `snakemake` was called, or name its settings"
        )
    plan = files.read_json(path)
    with files.understood(path, "a plan"):
        return [_pass(Path(job["output"]), str(job["language"]), alive) for job in plan]


def _pass(output: Path, language: str, alive: bool) -> Pass:
    results, model, inside = Path(*output.parts[:2]), output.parts[2], Path(*output.parts[3:])
    log = results / "logs" / model / inside.with_suffix(".log")
    if output.is_file():
        return Pass(model, language, "done", log)
    said = last_line(log)
    if said.startswith("polygate forward: "):
        return Pass(model, language, "failed", log, said)
    return Pass(model, language, "running" if alive and log.is_file() else "waiting", log)


def last_line(path: Path) -> str:
    """The last line of a log that isn't empty, "" when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def counting(run: str, now: float | None = None) -> list[str]:
    """What the jobs say that count something right now (training, forward passes): one line each, oldest first."""
    now = time.time() if now is None else now
    found: list[tuple[float, str]] = []
    for log in Path("results", run, "logs").rglob("*.log"):
        changed = _changed(log)
        if now - changed <= _FRESH_SECONDS and (match := _COUNTING.match(last_line(log))):
            part = 100 * int(match["done"]) // max(int(match["total"]), 1)
            model = log.relative_to(Path("results", run, "logs")).parts[0]
            found.append((changed, f"{model}, {match['what']}: {part} %, {duration(float(match['left']))} left"))
    return [line for _, line in sorted(found)]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def grouped(found: Iterable[Pass]) -> dict[str, dict[str, list[Pass]]]:
    """Passes by model and language, both in the order of the plan."""
    groups: dict[str, dict[str, list[Pass]]] = {}
    for one in found:
        groups.setdefault(one.model, {}).setdefault(one.language, []).append(one)
    return groups


def state(of_language: Iterable[Pass]) -> State:
    """How a language of a model stands: failed where a pass failed, done where all are, running where one is."""
    states = {one.state for one in of_language}
    if states == {"done"}:
        return "done"
    order: tuple[State, ...] = ("failed", "running")
    return next((name for name in order if name in states), "waiting")


def lines(groups: Mapping[str, Mapping[str, list[Pass]]]) -> Iterator[str]:
    """The overview of forward passes: of each model its languages by how they stand, and what failed."""
    for model, languages in groups.items():
        every = [one for found in languages.values() for one in found]
        yield f"{model}: {sum(one.state == 'done' for one in every)} of {len(every)} forward passes"
        for name in STATES:
            standing = {language: found for language, found in languages.items() if state(found) == name}
            if standing:
                yield f"  {name:<8}{len(standing):>4}  {' '.join(_counted(*one) for one in standing.items())}"
        for one in every:
            if one.state == "failed":
                yield f"  {one.log}: {one.said}"


def _counted(language: str, found: list[Pass]) -> str:
    done = sum(one.state == "done" for one in found)
    return language if done in (0, len(found)) else f"{language} ({done}/{len(found)})"


def duration(seconds: float) -> str:
    """A length of time in words: 40 s, 12 min, 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
