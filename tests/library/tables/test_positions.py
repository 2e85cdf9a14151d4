"""positions.csv: where harmfulness and refusal are read, against what is planted and by direct computation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from library.representation.planted import naive_auc
from library.tables.run import JUDGE, POSITIONS, Rows, Run, make, read
from polygate import files
from polygate.measurement.statistics import FEWEST
from polygate.steering.choice import Choice
from polygate.tables import findings, positions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run")).write()


@pytest.fixture(scope="module")
def rows(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return read(make(run, "positions", tmp_path_factory.mktemp("table") / "positions.csv"))


def where(rows: Rows, **what: str) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in what.items())]


def scores(run: Run, model: str, language: str, **place: Any) -> dict[str, float]:
    """Prompt → score, from the file."""
    table = files.read_parquet(run.path(f"{model}/positions/{language}"))
    for name, value in place.items():
        table = table.filter(pc.equal(table[name], value))
    return dict(zip(table["prompt_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def test_every_auc_is_that_of_the_scores_and_what_the_model_said(run: Run, rows: Rows) -> None:
    compared = 0
    for row in where(rows, model="beta"):
        if not row["language"]:
            continue
        place = {"split": "test", "position": row["position"], "layer": int(row["layer"])}
        found = scores(run, "beta", row["language"], direction=row["direction"], **place)
        judged = files.read_parquet(run.path(f"beta/judgements/{JUDGE}/none/{row['language']}"))
        said = dict(zip(judged["prompt_id"].to_pylist(), judged["outcome"].to_pylist(), strict=True))
        ids = [name for name in found if row["target"] == "harmful" or name.startswith("harmful")]
        harmful = row["target"] == "harmful"
        labels = np.array([name.startswith("harmful") if harmful else said[name] == "refused" for name in ids])
        assert float(row["estimate"]) == pytest.approx(naive_auc([found[name] for name in ids], labels), abs=1e-6)
        assert (int(row["n"]), int(row["positive"])) == (len(ids), int(labels.sum()))
        compared += 1
    # Six languages; three of them have enough of both outcomes; two positions, layers and directions.
    assert compared == (6 + 3) * 2 * 2 * 2


def test_the_surface_stands_beside_every_row(run: Run, rows: Rows) -> None:
    for row in where(rows, target="harmful", model="alpha"):
        if row["language"]:
            table = files.read_parquet(run.path(f"surface/{row['language']}"))
            own = table.filter(pc.equal(table["scorer"], "surface"))
            labels = np.array(own["subset"].to_pylist()) == "harmful"
            assert float(row["surface"]) == pytest.approx(naive_auc(own["score"].to_pylist(), labels), abs=1e-6)
    assert all(float(row["surface_low"]) <= float(row["surface"]) <= float(row["surface_high"]) for row in rows)


def test_harmfulness_and_refusal_are_found_at_the_positions_where_they_stand(rows: Rows) -> None:
    for model in ("alpha", "beta"):
        for target, best, other in (("harmful", "t_inst", "t_post_inst"), ("refused", "t_post_inst", "t_inst")):
            ahead, behind = (
                where(
                    rows, model=model, tier="low", language="", target=target, read="true",
                    direction="v_hrl", position=name,
                )[0]
                for name in (best, other)
            )  # fmt: skip
            assert ahead["rival"] == other
            assert float(ahead["ahead_low"]) > 0
            assert float(ahead["ahead_p_holm"]) < 0.05
            assert float(behind["ahead_p_holm"]) == 1
            assert float(ahead["ahead"]) == pytest.approx(
                float(ahead["estimate"]) - float(behind["estimate"]), abs=2e-6
            )


def test_a_position_is_read_at_the_layer_that_validation_prompts_choose(rows: Rows, tmp_path: Path) -> None:
    for position, layer in POSITIONS.items():
        assert {row["layer"] for row in where(rows, position=position, read="true")} == {str(layer)}
    # What test prompts say, or a language that takes no part in choosing, changes no layer.
    other = Run(tmp_path).write()
    for _, language in other.all():
        path = other.path(f"alpha/positions/{language}")
        table = files.read_parquet(path)
        blind = pc.equal(table["split"], "test") if language in ("h1", "m1") else pa.scalar(True)
        noise = pa.array(np.random.default_rng(0).normal(size=table.num_rows))
        score = pc.if_else(blind, noise, table["score"])
        files.write_parquet(path, table.set_column(table.column_names.index("score"), "score", score), {})
    choice = Choice.load(other.path("alpha/choices"))
    assert choice.languages == ("h1", "m1")
    assert positions.read_layers(other.per_language("positions"), "alpha", choice, ["h2"]) == POSITIONS


def test_of_layers_that_are_equally_good_the_nearest_to_the_chosen_one_is_read() -> None:
    assert positions._best({0: [1.0], 1: [0.5, 1.0], 2: [1.0], 5: [1.0]}, 3) == 2
    assert positions._best({0: [0.6, 0.8], 3: [0.7, 0.71]}, 0) == 3
    assert positions._best({}, 3) == 3


def test_refusal_is_told_only_where_both_outcomes_are_there_often_enough(tmp_path: Path) -> None:
    """Of 30 harmful prompts each: all refused (high), 5 answered (mid), 6 refused (low)."""
    run = Run(tmp_path / "run", acts={"high": 1.0, "mid": 1 - (FEWEST - 1) / 30, "low": FEWEST / 30}).write()
    refused = where(read(make(run, "positions", tmp_path / "positions.csv")), target="refused")
    assert {row["language"] for row in refused} == {"l1", "l2", ""}
    assert {row["positive"] for row in refused} == {str(FEWEST), str(2 * FEWEST)}
    assert {row["languages"] for row in where(refused, language="")} == {"2"}


def test_a_tier_is_the_mean_of_its_languages_even_where_a_prompt_is_refused_in_one_of_them_only(tmp_path: Path) -> None:
    run = Run(tmp_path / "run").write()
    path = run.path(f"alpha/judgements/{JUDGE}/none/l1")
    table = files.read_parquet(path)
    swap = {"refused": "complied", "complied": "refused"}
    said = [
        swap[outcome] if subset == "harmful" else outcome
        for outcome, subset in zip(table["outcome"].to_pylist(), table["subset"].to_pylist(), strict=True)
    ]
    files.write_parquet(path, table.set_column(table.column_names.index("outcome"), "outcome", pa.array(said)), {})
    rows = read(make(run, "positions", tmp_path / "positions.csv"))
    for mean in where(rows, model="alpha", tier="low", language="", target="refused"):
        place = {name: mean[name] for name in ("position", "layer", "direction")}
        parts = where(rows, model="alpha", tier="low", target="refused", **place)
        values = [float(row["estimate"]) for row in parts if row["language"]]
        assert len(values) == 2
        assert float(mean["estimate"]) == pytest.approx(np.mean(values), abs=1e-6)
        if all(0 < value < 1 for value in values):
            assert float(mean["low"]) < float(mean["estimate"]) < float(mean["high"])


def test_comparisons_stand_at_the_layer_of_each_position_and_are_corrected_together(rows: Rows) -> None:
    for row in rows:
        compared = (row["read"], row["direction"]) == ("true", "v_hrl")
        assert bool(row["ahead_p_holm"]) == compared
        assert bool(row["verdict"]) == (compared and bool(row["language"]))
    mine = [row for row in where(rows, model="alpha", target="harmful") if row["p"]]
    assert len(mine) == 6 * 2
    smallest = min(mine, key=lambda row: float(row["p"]))
    assert float(smallest["p_holm"]) == pytest.approx(min(1.0, 12 * float(smallest["p"])), abs=1e-5)


def test_the_findings_say_where_each_is_read_and_only_what_is_certain(run: Run, tmp_path: Path) -> None:
    found = told(run, tmp_path)
    assert found["positions"]["harmful"]["best"] == "t_inst"
    assert found["positions"]["refused"]["best"] == "t_post_inst"
    assert found["positions"]["harmful"]["layers"] == POSITIONS
    assert "; harmfulness is read best at t_inst (AUC " in found["sentence"]
    assert ", and refusal along the same direction is read best at t_post_inst (AUC " in found["sentence"]
    rows = read(tmp_path / "positions.csv")
    for row in rows:
        row["ahead_p_holm"] = row["ahead_p_holm"] and "0.2"
    with (tmp_path / "positions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["target"] == "harmful")
    found = findings.findings(tables(tmp_path), "alpha", 4, 0.95)["know"]
    assert found["positions"]["harmful"]["best"] is None
    assert "; no token position is ahead in reading harmfulness (t_inst ." in found["sentence"]
    assert "refusal" not in found["sentence"]


NAMES = (
    "refusal",
    "selectivity",
    "separability",
    "decomposition",
    "choices",
    "gates",
    "diagnosis",
    "positions",
    "calibration",
)


def tables(folder: Path) -> findings.Tables:
    return findings.Tables(*(read(folder / f"{name}.csv") for name in NAMES)).of("alpha")


def told(run: Run, folder: Path) -> dict[str, Any]:
    """What is known about the first model."""
    for name in NAMES:
        make(run, name, folder / f"{name}.csv")
    found: dict[str, Any] = findings.findings(tables(folder), "alpha", 4, 0.95)["know"]
    return found


def test_a_run_with_one_position_compares_it_with_the_surface_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", models=("alpha",)).write()
    for _, language in run.all():
        path = run.path(f"alpha/positions/{language}")
        table = files.read_parquet(path)
        files.write_parquet(path, table.filter(pc.equal(table["position"], "t_post_inst")), {})
    rows = read(make(run, "positions", tmp_path / "positions.csv"))
    assert {row["position"] for row in rows} == {"t_post_inst"}
    assert not any(row["rival"] for row in rows)
    assert any(row["verdict"] for row in rows)
