"""`polygate watch`: Snakemake's routine becomes a bar, all else is passed on, and so are exit codes and signals."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from polygate.commands.watch import Screen

ROUTINE = """\
Building DAG of jobs...
[Sun Nov 29 04:45:22 2026]
Finished jobid: 1 (Rule: capture)
1 of 4 steps (25%) done
Select jobs to execute...
Execute 1 jobs...
"""
FAILED = "Error in rule capture:\n    jobid: 3\npolygate forward: no such file\n"


def watched(tmp_path: Path, script: str) -> list[str]:
    snakemake = tmp_path / "snakemake.py"
    snakemake.write_text(script)
    return [sys.executable, "-m", "polygate.cli", "watch", "--", sys.executable, str(snakemake)]


def saying(text: str, code: int) -> str:
    return f"import sys\nsys.stderr.write({text!r})\nsys.exit({code})\n"


@pytest.mark.parametrize("code", [0, 1])
def test_what_is_not_routine_is_passed_on(tmp_path: Path, code: int) -> None:
    found = subprocess.run(
        watched(tmp_path, saying(ROUTINE + FAILED, code)), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert found.returncode == code
    assert found.stderr == FAILED


def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    child = subprocess.Popen(watched(tmp_path, saying(ROUTINE, 0)), stderr=theirs, cwd=tmp_path)
    assert child.wait(timeout=60) == 0
    os.set_blocking(ours, False)
    shown = b""
    with contextlib.suppress(BlockingIOError):
        while some := os.read(ours, 65536):
            shown += some
    os.close(theirs)
    os.close(ours)
    assert "1/4 steps" in shown.decode()
    assert "25 %" in shown.decode()
    assert "Finished" not in shown.decode()


def test_elsewhere_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    screen = Screen(sys.stderr, lambda: now[0])
    screen.line("3 of 12 steps (25%) done\n")
    screen.show(["llama, training: 10 %, 90 s left"])
    now[0] = 61
    screen.show(["llama, training: 20 %, 80 s left"])
    screen.show(["llama, training: 21 %, 79 s left"])
    screen.close()
    assert capsys.readouterr().err == "3 of 12 steps in 61 s; llama, training: 20 %, 80 s left\n"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_snakemakes(tmp_path: Path, sent: signal.Signals) -> None:
    script = f"""
import signal, sys, time
def end(*_):
    sys.stderr.write("ended in its own way\\n")
    sys.exit(7)
signal.signal({int(sent)}, end)
sys.stderr.write("begun\\n")
sys.stderr.flush()
time.sleep(60)
"""
    child = subprocess.Popen(
        watched(tmp_path, script), stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "begun\n"
    time.sleep(0.2)
    if sent == signal.SIGINT:
        os.killpg(child.pid, sent)
    else:
        child.send_signal(sent)
    assert child.wait(timeout=30) == 7
    assert child.stderr.read() == "ended in its own way\n"
    child.stderr.close()
