"""`polygate calibrate`: what it refuses before a model is loaded. That it gives the workflow's gates: see test_demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.commands.placed import Placed
from polygate import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    acts = {"high": 0.9, "mid": 0.8, "low": 0.3}
    return Placed(tmp_path_factory.mktemp("results") / "some", models=("alpha",), acts=acts).finish()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("words\nhello\n", "column 'text' is missing, in PROMPTS: columns are text; subset may be there"),
        ("text\n  \n", "row 0: no text, in PROMPTS"),
        ("text,subset\nhello,bad\n", "row 0: subset 'bad' is neither harmful nor harmless, in PROMPTS"),
        ("text,subset\nhello,harmful\nyou,\n", "row 1: no subset, where others have one, in PROMPTS"),
        ("text\nhello\nhello\n", "'hello' stands in it twice, in PROMPTS"),
    ],
)
def test_prompts_that_cant_be_used_are_one_line(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, line: str
) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content)
    assert cli.main(["calibrate", str(run.folder), "alpha", "l9", str(path), "--output", str(tmp_path / "gate")]) == 1
    assert capsys.readouterr().err == f"polygate calibrate: {line.replace('PROMPTS', str(path))}\n"
    assert not (tmp_path / "gate").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--alpha", "1.2"], "--alpha must lie between 0 and 1"),
        (["--delta", "0"], "--delta must lie between 0 and 1"),
    ],
)
def test_shares_that_are_none_are_one_line(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    (tmp_path / "own.csv").write_text("text\nhello\n")
    assert cli.main(["calibrate", str(run.folder), "alpha", "l9", str(tmp_path / "own.csv"), *arguments]) == 1
    assert capsys.readouterr().err == f"polygate calibrate: {line}\n"


def test_a_model_that_the_run_lacks_is_named_beside_those_it_has(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("text\nhello\n")
    assert cli.main(["calibrate", str(run.folder), "beta", "l9", str(tmp_path / "own.csv")]) == 1
    assert capsys.readouterr().err.startswith("polygate calibrate: model beta has no results; there are alpha, in ")


def test_what_lies_where_the_gate_would_go_is_left_alone(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder is replaced whole, so that of somebody else would be gone."""
    (tmp_path / "own.csv").write_text("text\nhello\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    for output in ("mine", "own.csv"):
        command = ["calibrate", str(run.folder), "alpha", "l9", str(tmp_path / "own.csv")]
        assert cli.main([*command, "--output", str(tmp_path / output)]) == 1
        told = f"is there already, and no such gate, in {tmp_path / output}: name another folder with --output"
        assert capsys.readouterr().err == f"polygate calibrate: {told}\n"
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
    assert (tmp_path / "own.csv").read_text() == "text\nhello\n"


def test_a_language_that_is_no_folders_name_needs_an_output(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text("text\nhello\n")
    assert cli.main(["calibrate", str(run.folder), "alpha", "../l9", str(tmp_path / "own.csv")]) == 1
    told = "language '../l9' can't be a folder's name: name a folder with --output"
    assert capsys.readouterr().err == f"polygate calibrate: {told}\n"
