"""Paid answers, kept for good: one file per endpoint and model, to which lines are added and in which none changes.

A line is one call: the hash of all that was asked (endpoint, model, prompt, settings), the answer word by word, its
tokens and its price, and a checksum. It is on the disk before the next step is taken, so that an answer that has come
is never asked for again, also after `kill -9`; what a kill left of a line is removed by the next writer.
Calls that came to no answer, though they may have been billed, are lines too: the budget counts them.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polygate import append_only
from polygate.errors import PolygateError

FOLDER = Path("resources/answers")
"""Where answers lie, beside what else was fetched: shared by all runs, and none of them removes it."""
LOST = "lost"
"""How a call ended that brought no answer."""


@dataclass(frozen=True)
class Answer:
    """One call: the question's hash (64 hex digits), what was answered, how it ended, tokens and price.

    `finish` is the endpoint's own word ("stop", "length", "content_filter" …), or `LOST`.
    """

    question: str
    content: str
    finish: str
    input_tokens: int
    output_tokens: int
    cost: float


def question(base_url: str, body: dict[str, Any]) -> str:
    """The hash of a call: endpoint, and the whole body with model, messages and settings."""
    described = json.dumps({"base_url": base_url, "body": body}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(described.encode()).hexdigest()


def path_of(folder: Path, base_url: str, model: str) -> Path:
    """The file of an endpoint's model, named so that one finds it."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", model)[:80]
    return folder / f"{plain}.{hashlib.sha256(f'{base_url} {model}'.encode()).hexdigest()[:8]}.jsonl"


def read(path: Path) -> list[Answer]:
    """All calls of a file, none when it is absent; a last line without its end is being written, and left out.

    Raises `PolygateError` for a damaged line.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PolygateError(f"the file can't be read ({error.strerror})", where=path) from None
    lines = content.split(b"\n")[:-1]
    return [_parsed(line, number, path) for number, line in enumerate(lines, 1)]


def _parsed(line: bytes, number: int, path: Path) -> Answer:
    again = "its question is asked again"
    said = append_only.parsed(line, number, path, again)
    try:
        return Answer(**said)
    except TypeError:
        raise PolygateError(f"line {number} is damaged", where=path, do=f"remove that line: {again}") from None


def known(calls: list[Answer]) -> dict[str, Answer]:
    """The answer to each question that has one."""
    return {call.question: call for call in calls if call.finish != LOST}


class Store:
    """The file of an endpoint's model while this process holds its lock. Threads may share it."""

    def __init__(self, path: Path, handle: int, calls: list[Answer]) -> None:
        self._path, self._handle = path, handle
        self._writing = threading.Lock()
        self.known = known(calls)
        self.spent = float(sum(call.cost for call in calls))
        """What all calls cost together."""

    def add(self, answer: Answer) -> None:
        """Write a call to the end of the file and to the disk; `PolygateError` when that can't be done."""
        with self._writing:
            append_only.add(self._handle, append_only.line(asdict(answer)), self._path, "an answer")
            self.spent += answer.cost
            if answer.finish != LOST:
                self.known[answer.question] = answer


@contextmanager
def opened(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[Store]:
    """The store of a file, for this process alone: others that want it wait (`waiting` is called once before that).

    Raises `PolygateError` for a damaged file, and for a folder that can't be written.
    """
    with append_only.opened(path, "answers", waiting) as handle:
        yield Store(path, handle, read(path))
