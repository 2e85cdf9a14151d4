"""`polygate status`: how far a run has come, from its files."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from polygate import cli
from polygate.commands import overview

HEAD = "Building DAG of jobs...\n[Sun Nov 29 04:45:22 2026]\nJob 2: x\n"
LOG = "2026-11-29T040000.000000.snakemake.log"


def finished(done: int) -> str:
    return f"Finished jobid: {done} (Rule: capture)\n{done} of 6 steps (1%) done\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two models in two languages: one pass done, one failed, one begun, one not begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    jobs = [
        {
            "task": "capture",
            "language": language,
            "output": f"results/demo/{model}/activations/main/{language}.safetensors",
        }
        for model in ("qwen2", "llama")
        for language in ("h1", "l1")
    ]
    (tmp_path / ".snakemake/polygate").mkdir(parents=True)
    (tmp_path / ".snakemake/polygate/demo.plan.json").write_text(json.dumps(jobs))
    (tmp_path / ".snakemake/log").mkdir()
    (tmp_path / ".snakemake/log" / LOG).write_text(HEAD + finished(1) + finished(3))
    (tmp_path / ".snakemake/polygate/demo.log").write_text(LOG)
    done = tmp_path / jobs[0]["output"]
    done.parent.mkdir(parents=True)
    done.touch()
    for number, text in (
        (1, "a note\npolygate forward: no such file\n"),
        (2, "capture main h1: 10/40 prompts, 2.0 prompts/s, 15 s left\n"),
    ):
        output = Path(jobs[number]["output"])
        log = tmp_path / "results/demo/logs" / Path(*output.parts[2:]).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
    return tmp_path


@pytest.fixture
def living(folder: Path) -> Iterator[None]:
    """Somebody who runs a workflow in the folder."""
    handle = os.open(folder / ".snakemake/polygate/alive", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_SH)
    yield
    os.close(handle)


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert cli.main(["status", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("folder", "living")
def test_a_living_run_is_told_by_model_and_language(capsys: pytest.CaptureFixture[str]) -> None:
    first, now, *rest = status(capsys)
    assert first.startswith("demo: 3 of 6 steps, running for ")
    assert first.endswith(" left at this pace")
    assert now == "  now: llama, capture main h1: 25 %, 15 s left"
    assert rest == [
        "qwen2: 1 of 2 forward passes",
        "  done       1  h1",
        "  failed     1  l1",
        "  results/demo/logs/qwen2/activations/main/l1.log: polygate forward: no such file",
        "llama: 0 of 2 forward passes",
        "  running    1  h1",
        "  waiting    1  l1",
    ]


def test_a_long_step_makes_the_pace_slower(folder: Path) -> None:
    steps = overview.steps(folder / ".snakemake/log" / LOG)
    assert steps.seconds_left(steps.started + 60) == 60
    assert steps.seconds_left(steps.started + 600) == 600


@pytest.mark.usefixtures("folder")
def test_a_killed_run_is_said_to_have_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = status(capsys)
    assert "stopped" in first
    assert "run Snakemake again" in first
    assert "  waiting    2  h1 l1" in rest


def test_the_end_and_failed_rules_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = next((folder / ".snakemake/log").iterdir())
    log.write_text(log.read_text() + "Error in rule capture:\nComplete log(s): /x\n")
    first = status(capsys)[0]
    assert first.startswith("demo: 3 of 6 steps, ended ")
    assert first.endswith("; failed: capture")


def test_another_runs_log_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = folder / ".snakemake/log/2026-11-29T050000.000000.snakemake.log"
    later.write_text("5 of 5 steps (100%) done\nComplete log(s): /x\n")
    assert status(capsys)[0].startswith("demo: 3 of 6 steps")


@pytest.mark.usefixtures("living")
def test_a_run_that_has_only_begun_has_done_no_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".snakemake/log" / LOG).write_text(HEAD)
    assert status(capsys)[0] == "demo: running, no step is done yet"


def test_the_settings_name_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.yaml").write_text("run: own\n")
    assert cli.main(["status", "--configfile", "own.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("polygate status: no run own was started in this folder: go to where `snakemake` was called")


def end(folder: Path, run: str) -> None:
    """What the last rule leaves."""
    (folder / f"results/{run}/report").mkdir(parents=True)
    (folder / f"results/{run}/report/config.yaml").touch()


def test_a_finished_run_without_a_log_of_its_own_is_told_by_its_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an older version left it, or as it was copied from elsewhere."""
    (folder / ".snakemake/polygate/demo.log").unlink()
    end(folder, "demo")
    assert status(capsys)[0] == "demo: not running, not finished as its files tell; no log says how many steps are done"
    for job in json.loads((folder / ".snakemake/polygate/demo.plan.json").read_text()):
        Path(job["output"]).parent.mkdir(parents=True, exist_ok=True)
        Path(job["output"]).touch()
    first, *rest = status(capsys)
    assert first.startswith("demo: not running, finished as far as its files tell: its report was made ")
    assert rest == [
        *("qwen2: 2 of 2 forward passes", "  done       2  h1 l1"),
        *("llama: 2 of 2 forward passes", "  done       2  h1 l1"),
    ]


def test_results_alone_tell_that_a_run_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    end(tmp_path, "copied")
    (line,) = status(capsys)
    assert line.startswith("copied: not running, finished as far as its files tell: its report was made ")


def test_where_nothing_ran_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "polygate status: no run was started in this folder: go to where `snakemake` was called"
    ]


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (99, "99 s"), (120, "2 min"), (11_100, "3 h 05 min")])
def test_durations(seconds: float, words: str) -> None:
    assert overview.duration(seconds) == words
