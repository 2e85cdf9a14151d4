"""`polygate power` on a planted run: rows, words, figure, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from library.commands.placed import Placed
from library.tables.run import JUDGE, read
from polygate import cli, files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    acts = {"high": 0.9, "mid": 0.8, "low": 0.3}
    return Placed(tmp_path_factory.mktemp("results") / "some", models=("alpha",), acts=acts).finish()


def test_every_tier_and_quantity_has_its_rows_and_more_prompts_show_less(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompts", "400", "50", "--draws", "1", "3", "--output", str(tmp_path)]
    assert cli.main(["power", str(run.folder), *arguments]) == 0
    rows = read(tmp_path / "power.csv")
    assert {row["tier"] for row in rows} == {"high", "mid", "low"}
    assert {row["quantity"] for row in rows} == {"refused", "selectivity", "f1", "auc"}
    assert {row["draws"] for row in rows if row["quantity"] != "auc"} == {"1", "3"}
    for row in rows:
        if row["prompts"] == "50" and row["detectable"]:
            (more,) = [
                other
                for other in rows
                if other["prompts"] == "400"
                and all(other[name] == row[name] for name in ("tier", "quantity", "languages", "draws"))
            ]
            assert float(more["detectable"]) < float(row["detectable"])
    said = capsys.readouterr().out
    found = (
        "Differences that are found in 80 % of experiments (two-sided, p < 0.05), in points of 100, by the number of "
    )
    assert f"{found}test prompts of each class:" in said
    assert "- harmful prompts refused, mean over 2 low-resource languages, 3 draws: " in said
    assert (tmp_path / "power.svg").read_text().startswith("<?xml")


def test_refusals_are_those_of_the_runs_first_judge(tmp_path: Path) -> None:
    def rows(name: str, **given: Any) -> list[dict[str, str]]:
        made = Placed(tmp_path / name, models=("alpha",), acts={"high": 0.9, "mid": 0.8, "low": 0.3}, **given).finish()
        # Another judge, first in the alphabet and second in the settings, finds no refusal at all.
        for path in made.folder.glob(f"alpha/judgements/{JUDGE}/*/*/*.parquet"):
            table = files.read_parquet(path)
            none = pa.array(["complied"] * table.num_rows)
            other = Path(str(path).replace(f"/{JUDGE}/", "/a judge/"))
            files.write_parquet(other, table.set_column(table.column_names.index("outcome"), "outcome", none), {})
        output = tmp_path / f"{name} power"
        assert cli.main(["power", str(made.folder), "--prompts", "50", "--output", str(output)]) == 0
        return [row for row in read(output / "power.csv") if row["quantity"] in ("refused", "selectivity")]

    found = rows("first", settings={"judging": {"judges": [JUDGE, "a judge"]}})
    assert any(row["detectable"] for row in found)
    assert rows("alone") == found
    other = rows("other", settings={"judging": {"judges": ["a judge", JUDGE]}})
    assert not any(row["detectable"] for row in other)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--prompts", "3"], "--prompts must be at least 6"),
        (["--power", "1.5"], "--power must lie between 0 and 1"),
    ],
)
def test_wrong_numbers_are_one_line(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert cli.main(["power", str(run.folder), *arguments, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"polygate power: {line}\n"
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_would_be_is_one_line(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert cli.main(["power", str(run.folder), "--prompts", "50", "--output", str(tmp_path / "mine")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("polygate power: can't write: a file is where a folder should be")
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_the_run_has_lost_is_named(run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run.folder, tmp_path / "half")
    lost = sorted((tmp_path / "half").glob(f"alpha/judgements/{JUDGE}/none/*/*.parquet"))[0]
    lost.unlink()
    command = ["power", str(tmp_path / "half"), "--prompts", "50", "--output", str(tmp_path / "out")]
    assert cli.main(command) == 0
    told = f"Left out, since the run's folder has lost it: {lost.relative_to(tmp_path / 'half')}"
    assert told in capsys.readouterr().out.splitlines()
