"""A stage or a script ends with the workflow that started it, and only with that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from polygate import orphans

STAGE = """
import sys, time
from pathlib import Path
from polygate import cli, files

def run(args):
    with files.atomic_path(Path({folder!r}, "result")) as temporary:
        temporary.write_text("half")
        Path({folder!r}, "started").touch()
        time.sleep(60)

import polygate.stages.means
polygate.stages.means.run = run
sys.exit(cli.main(["means", "--activations", "x", "--prompts", "y", "--output", "z"]))
"""

SCRIPT = """
from polygate import scripting

scripting.begin()

import subprocess, sys
from pathlib import Path
from polygate import files

with files.atomic_path(Path({folder!r}, "result")) as temporary:
    temporary.write_text("half")
    subprocess.run([sys.executable, "-c", {nested!r}])
"""

NESTED = """
import os, time
from pathlib import Path

Path({folder!r}, "nested").write_text(str(os.getpid()))
Path({folder!r}, "started").touch()
time.sleep(60)
"""

# As Snakemake does: the stage's parent is a shell that a thread started, and that thread has ended.
WORKFLOW = """
import subprocess, sys, threading, time
from polygate import orphans
if {announced}:
    orphans.announce()
def start():
    command = ["bash", "-c", 'trap "" INT; "$@"; true', "bash", sys.executable, *{arguments!r}]
    subprocess.Popen(command, stderr=open({log!r}, "w"), start_new_session=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(60)
"""


def stage(folder: Path) -> list[str]:
    """Arguments of a Python that runs a stage."""
    return ["-c", STAGE.format(folder=str(folder))]


def script(folder: Path) -> list[str]:
    """Arguments of a Python that runs a script with a nested call."""
    path = folder / "tmp0a1b2c3d.table_gates.py"
    path.write_text(SCRIPT.format(folder=str(folder), nested=NESTED.format(folder=str(folder))))
    return [str(path)]


def start(folder: Path, arguments: list[str], *, announced: bool) -> subprocess.Popen[bytes]:
    """A workflow with a job that is in the midst of writing."""
    code = WORKFLOW.format(announced=announced, arguments=arguments, log=str(folder / "log"))
    without = {name: value for name, value in os.environ.items() if name != orphans.WORKFLOW}
    workflow = subprocess.Popen([sys.executable, "-c", code], env=without)
    until(lambda: (folder / "started").exists(), 60)
    return workflow


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, for some seconds at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def written(folder: Path) -> list[str]:
    """What lies there of the stage's result."""
    return [path.name for path in folder.iterdir() if "result" in path.name]


def owner(folder: Path) -> int:
    """Number of the process that writes there, from the name of its temporary file."""
    return int(written(folder)[0].split("-")[1].split(".")[0])


@pytest.mark.parametrize(("job", "name"), [(stage, "means"), (script, "table-gates")])
def test_a_job_ends_after_its_workflow_was_killed_and_leaves_nothing(
    tmp_path: Path, job: Callable[[Path], list[str]], name: str
) -> None:
    workflow = start(tmp_path, job(tmp_path), announced=True)
    process, nested = owner(tmp_path), tmp_path / "nested"
    time.sleep(1.5)
    assert orphans._started(process) is not None  # The thread that started it has ended, its workflow hasn't.
    workflow.kill()
    workflow.wait()
    assert until(lambda: orphans._started(process) is None, 9)
    assert written(tmp_path) == []
    said = (tmp_path / "log").read_text().splitlines()
    ended = "polygate: the workflow that started this job has ended, and so it ends"
    assert said == [ended, f"polygate {name}: interrupted"]
    assert not nested.exists() or until(lambda: orphans._started(int(nested.read_text())) is None, 9)


def test_a_stage_that_no_workflow_started_outlives_its_parent(tmp_path: Path) -> None:
    workflow = start(tmp_path, stage(tmp_path), announced=False)
    process = owner(tmp_path)
    workflow.kill()
    workflow.wait()
    time.sleep(2.5)
    assert orphans._started(process) is not None
    os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("name", ["", "nonsense", "0badc0de-1", "0badc0de-"])
def test_the_process_of_another_machine_is_not_watched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(orphans.WORKFLOW, name)
    monkeypatch.setattr(orphans.threading, "Thread", None)
    orphans.end_with_workflow()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one that nobody has waited for can't be told")
def test_a_process_that_nobody_has_waited_for_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert orphans._started(child.pid) is not None
    child.kill()
    assert until(lambda: orphans._started(child.pid) is None, 10)
    child.communicate()
