"""`polygate compare`: paired differences of two planted runs against slow twins, and what can't be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library.commands.placed import Placed
from library.representation.planted import naive_auc
from library.tables.run import CHOSEN, RANKS, Rows, read
from polygate import cli, files


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Placed, Placed]:
    """The second acts less in low-resource languages, asks one prompt in other words, lacks a language."""
    folder = tmp_path_factory.mktemp("results")
    acts = {"high": 1.0, "mid": 0.8, "low": 0.8}
    first = Placed(folder / "first", models=("alpha",), acts=acts).finish()
    second = Placed(
        folder / "second",
        languages={"high": ["h1", "h2"], "mid": ["m1"], "low": ["l1", "l2"]},
        models=("alpha", "beta"),
        acts={"high": 1.0, "mid": 0.8, "low": 0.1},
        settings={"seed": 5},
        other={"harmful-test-0003": "other words ."},
    ).finish()
    return first, second


@pytest.fixture(scope="module")
def compared(runs: tuple[Placed, Placed], tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, str]:
    folder = tmp_path_factory.mktemp("compared")
    assert compare(runs, folder) == 0
    return read(folder / "comparison.csv"), (folder / "comparison.md").read_text()


def compare(runs: Sequence[Placed], folder: Path, *more: str) -> int:
    return cli.main(["compare", *(str(run.folder) for run in runs), "--output", str(folder), *more])


def one(rows: Rows, **what: object) -> dict[str, str]:
    (row,) = [row for row in rows if all(row[name] == str(value) for name, value in what.items())]
    return row


def judged(run: Placed, language: str, arm: str) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for row in files.read_parquet(run.path(f"alpha/judgements/rules/{arm}/{language}")).to_pylist():
        found.setdefault(row["prompt_id"], []).append(row["outcome"] == "refused")
    return found


def ids(subset: str) -> list[str]:
    """Test prompts of a class that both runs ask in the same words."""
    return [name for i in range(30) if (name := f"{subset}-test-{i:04d}") != "harmful-test-0003"]


@pytest.mark.parametrize(("arm", "budget"), [("none", ""), ("routed", "4")])
@pytest.mark.parametrize("language", ["h2", "l1"])
def test_refusal_and_selectivity_are_those_of_the_shared_prompts(
    runs: tuple[Placed, Placed], compared: tuple[Rows, str], language: str, arm: str, budget: str
) -> None:
    folder = arm if not budget else f"{arm}-{budget}"
    rates = {}
    for subset in ("harmful", "harmless"):
        row = one(compared[0], language=language, quantity="refused", subset=subset, arm=arm, budget=budget)
        rates[subset] = [
            np.mean([np.mean(judged(run, language, folder)[name]) for name in ids(subset)]) for run in runs
        ]
        assert [float(row["a"]), float(row["b"])] == pytest.approx(rates[subset], abs=1e-6)
        assert float(row["difference"]) == pytest.approx(rates[subset][1] - rates[subset][0], abs=2e-6)
        assert int(row["n"]) == len(ids(subset))
    row = one(compared[0], language=language, quantity="selectivity", arm=arm, budget=budget)
    both = [rates["harmful"][i] - rates["harmless"][i] for i in (0, 1)]
    assert float(row["difference"]) == pytest.approx(both[1] - both[0], abs=2e-6)


def test_auc_and_f1_are_those_of_the_shared_prompts(runs: tuple[Placed, Placed], compared: tuple[Rows, str]) -> None:
    names = [*ids("harmful"), *ids("harmless")]
    harmful = np.array([name.startswith("harmful-") for name in names])
    aucs, f1s = [], []
    for run in runs:
        rows = files.read_parquet(run.path("alpha/projections/l2")).to_pylist()
        score = {row["prompt_id"]: row["score"] for row in rows if (row["layer"], row["scorer"]) == (CHOSEN, "v_hrl")}
        aucs.append(naive_auc(np.array([score[name] for name in names]), harmful))
        rows = files.read_parquet(run.path("alpha/gate_scores/l2")).to_pylist()
        each = []
        for draw in range(3):
            key = (RANKS[-1], 4, draw)
            flagged = {r["prompt_id"]: r["flagged"] for r in rows if (r["rank"], r["budget"], r["draw"]) == key}
            hits = np.array([flagged[name] for name in names])
            each.append(2 * (hits & harmful).sum() / (hits.sum() + harmful.sum()))
        f1s.append(np.mean(each))
    for quantity, budget, expected in (("auc", "", aucs), ("f1", "4", f1s)):
        row = one(compared[0], language="l2", quantity=quantity, budget=budget)
        assert [float(row["a"]), float(row["b"])] == pytest.approx(expected, abs=1e-6)


def test_tier_means_are_means_over_languages_that_both_have(compared: tuple[Rows, str]) -> None:
    of = {"quantity": "refused", "subset": "harmful", "arm": "none"}
    assert "h3" not in {row["language"] for row in compared[0]}
    for tier, languages in (("high", ["h1", "h2"]), ("low", ["l1", "l2"])):
        mean = one(compared[0], tier=tier, language="", **of)
        parts = [float(one(compared[0], language=language, **of)["difference"]) for language in languages]
        assert float(mean["difference"]) == pytest.approx(np.mean(parts), abs=2e-6)


def test_what_was_planted_differs_and_nothing_else(compared: tuple[Rows, str]) -> None:
    assert {row["model"] for row in compared[0]} == {"alpha"}
    headline = {
        (row["quantity"], row["subset"], row["arm"], row["tier"]): row
        for row in compared[0]
        if row["headline"] == "true"
    }
    assert float(headline["refused", "harmful", "none", "low"]["p_holm"]) < 0.05
    assert float(headline["selectivity", "", "none", "low"]["p_holm"]) < 0.05
    assert all(float(row["p_holm"]) == 1 for (*_, tier), row in headline.items() if tier != "low")


def test_the_page_names_first_what_was_done_differently(compared: tuple[Rows, str]) -> None:
    page = compared[1]
    assert page.index("- `seed`: default → 5") < page.index("## alpha")
    assert "- `languages.high`: ['h1', 'h2', 'h3'] → ['h1', 'h2']" in page
    assert "- l1: 59 prompts are shared, 2 are not" not in page
    assert "- l1: 59 prompts are shared, 1 are not" in page
    assert "| harmful refused, unsteered (rules) | low | 0.793 | 0.103 | -0.690 " in page


def test_a_run_beside_itself_differs_in_nothing(runs: tuple[Placed, Placed], tmp_path: Path) -> None:
    assert compare((runs[0], runs[0]), tmp_path) == 0
    rows = read(tmp_path / "comparison.csv")
    assert {float(row["difference"]) for row in rows} == {0.0}
    assert {float(row["p_holm"]) for row in rows} == {1.0}
    assert "nothing that the settings, versions or prompts tell" in (tmp_path / "comparison.md").read_text()


def test_models_of_other_names_are_paired_when_asked(runs: tuple[Placed, Placed], tmp_path: Path) -> None:
    assert compare(runs, tmp_path, "--model", "alpha=beta") == 0
    assert {row["model"] for row in read(tmp_path / "comparison.csv")} == {"alpha / beta"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "alpha"], "--model 'alpha' doesn't name two models: write it as A=B"),
        (["--model", "beta=beta"], "model beta has no results; there are alpha"),
    ],
)
def test_what_is_not_there_is_one_line(
    runs: tuple[Placed, Placed], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert compare(runs, tmp_path / "x", *more) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_runs_that_share_nothing_are_one_line(
    runs: tuple[Placed, Placed], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Placed(tmp_path / "other", languages={"high": ["x1", "x2"]}, models=("alpha",)).finish()
    assert compare((runs[0], other), tmp_path / "x") == 1
    assert "the runs share no language" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert compare((runs[0], replace(other, folder=tmp_path / "empty")), tmp_path / "x") == 1
    assert "not the results of a finished run" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert compare(runs, tmp_path / "file") == 1
    assert "can't write: a file is where a folder should be" in capsys.readouterr().err
    assert compare((runs[0], replace(other, folder=tmp_path / "absent")), tmp_path / "x") == 1
    assert "no such folder" in capsys.readouterr().err
