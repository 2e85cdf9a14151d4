"""The command line: failures are one line, stages start without torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

from polygate import stages
from polygate.cli import STAGES, main

LIGHT = sorted(set(STAGES) - {"surface"})
WITHOUT_SETTINGS = ("forward", "gate-scores", "intervene", "means", "position-means", "positions", "route", "uscore")
"""Stages of which there are many jobs, and which are given no settings."""


def test_a_failure_is_one_line_and_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["means", "--activations", "absent.safetensors", "--prompts", "absent.parquet", "--output", "out"])
    error = capsys.readouterr().err
    assert code == 1
    assert error.count("\n") == 1
    assert error.startswith("polygate means: ")
    assert "absent" in error


def test_an_unknown_stage_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["nonsense"])
    assert stopped.value.code == 2
    assert "means" in capsys.readouterr().err


IMPORTING = """
import importlib, os, sys

import numpy, pydantic, pyarrow.parquet  # What most stages need: read once, each then goes on in a process of its own.

heavy = {"torch", "transformers", "pandas", "sklearn", "scipy", "matplotlib"}
for stage in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module("polygate.stages." + stage.replace("-", "_"))
        print(stage, *sorted({*heavy, "polygate.settings.types"} & set(sys.modules)), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """The heavy libraries that each stage has imported when it starts."""
    command = [sys.executable, "-c", IMPORTING, *LIGHT]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {stage: libraries for stage, *libraries in map(str.split, lines)}


@pytest.mark.parametrize("stage", LIGHT)
def test_a_stage_starts_without_heavy_libraries(imported: dict[str, list[str]], stage: str) -> None:
    assert set(imported[stage]) <= {"polygate.settings.types"}


@pytest.mark.parametrize("stage", WITHOUT_SETTINGS)
def test_a_stage_without_settings_starts_without_their_types(imported: dict[str, list[str]], stage: str) -> None:
    assert imported[stage] == []


def test_with_not_one_byte_free_the_cause_is_still_shown() -> None:
    """A rule's log lies on the disk that is full: stdout is Snakemake's own."""
    command = [
        sys.executable,
        "-m",
        "polygate.cli",
        "means",
        "--activations",
        "x",
        "--prompts",
        "absent",
        "--output",
        "y",
    ]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "polygate means: file not found, in absent\n"


def test_an_interrupted_stage_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("polygate.stages.means.run", interrupt)
    code = main(["means", "--activations", "x", "--prompts", "y", "--output", "z"])
    assert (code, capsys.readouterr().err) == (130, "polygate means: interrupted\n")


def test_every_module_of_a_stage_can_be_called() -> None:
    modules = {info.name.replace("_", "-") for info in pkgutil.iter_modules(stages.__path__)}
    assert set(STAGES) == modules
