"""Progress is a bar on a terminal and a few plain lines in a log."""

from __future__ import annotations

import io

import pytest

from polygate.forward.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress("capture yo", 100, stream, clock) as progress:
        for _ in range(100):
            clock.now += 0.25
            progress.advance(1)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "capture yo: 40/100 prompts, 4.0 prompts/s, 15 s left",
        "capture yo: 80/100 prompts, 4.0 prompts/s, 5 s left",
        "capture yo: 100/100 prompts, 4.0 prompts/s",
    ]


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    with Progress("capture yo", 10, stream) as progress:
        for _ in range(20):
            progress.advance(0.5)
    written = stream.getvalue()
    assert "\r" in written
    assert "10/10 prompts" in written
    assert "100 %" in written


def fail(stream: io.StringIO) -> None:
    with Progress("capture yo", 10, stream):
        raise RuntimeError


def test_a_failure_is_not_called_progress() -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError):
        fail(stream)
    assert stream.getvalue() == ""
