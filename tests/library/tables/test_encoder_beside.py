"""The encoder beside the surface: in every table where there is one, empty cells and a word where there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from library.tables.run import BUDGETS, CHOSEN, DRAWS, Rows, Run, read
from library.tables.test_findings import found
from polygate import files
from polygate.tables.diagnosis import FAILURES

NAMES = ("separability", "gates", "decomposition", "diagnosis", "positions", "calibration")


@dataclass(frozen=True)
class Made:
    """A run, the tables that the encoder stands in, and the answers."""

    run: Run
    tables: Mapping[str, Rows]
    answers: dict[str, Any]

    @property
    def know(self) -> dict[str, Any]:
        know: dict[str, Any] = self.answers["models"]["alpha"]["know"]
        return know


Make = Callable[..., Made]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    @cache
    def build(**planted: Any) -> Made:
        folder = tmp_path_factory.mktemp("encoder")
        languages = {"high": ["h1", "h2"], "low": ["l1", "l2"]}
        run = Run(folder / "run", models=("alpha",), languages=languages, **planted).write()
        answers = found(run, folder)
        return Made(run, {name: read(folder / f"{name}.csv") for name in NAMES}, answers)

    return build


@pytest.fixture
def knowing(made: Make) -> Made:
    """An encoder that tells harm as surely as can be, beside a model that does so with noise."""
    return made(telling=True, encoder=True, gap=1.5)


@pytest.fixture
def ignorant(made: Make) -> Made:
    """An encoder that has nothing to go by, beside a model that knows."""
    return made(encoder=True)


@pytest.fixture
def without(made: Make) -> Made:
    """The same model and prompts, no encoder."""
    return made()


def pick(rows: Rows, **what: str) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in what.items())]


def test_its_auc_is_that_of_its_scores_and_the_difference_is_paired(knowing: Made) -> None:
    run, rows = knowing.run, knowing.tables["separability"]
    for _, language in run.all():
        (own,) = pick(rows, language=language, scorer="semantic", prompts="all", metric="auc")
        kept = [
            row for row in files.read_parquet(run.path(f"semantic/{language}")).to_pylist() if row["budget"] is None
        ]
        expected = roc_auc_score([row["subset"] == "harmful" for row in kept], [row["score"] for row in kept])
        assert float(own["estimate"]) == pytest.approx(expected, abs=1e-6)
        what = {"language": language, "scorer": "v_hrl", "layer": str(CHOSEN), "prompts": "all", "metric": "auc"}
        (direction,) = pick(rows, **what)
        difference = float(direction["estimate"]) - float(own["estimate"])
        assert float(direction["semantic_difference"]) == pytest.approx(difference, abs=2e-6)
        assert float(direction["semantic_difference_low"]) <= difference <= float(direction["semantic_difference_high"])
    told = [row for row in rows if row["semantic_verdict"]]
    assert len(told) == len(run.all())
    assert all(float(row["semantic_p_holm"]) >= float(row["semantic_p"]) for row in told)


def test_beyond_the_surface_is_not_beyond_an_encoder_that_knows(knowing: Made) -> None:
    rows = [row for row in knowing.tables["separability"] if row["verdict"]]
    assert {row["verdict"] for row in rows} == {"beyond the surface"}
    assert {row["semantic_verdict"] for row in rows} == {"not beyond a small encoder"}
    assert knowing.know["beyond"]["l1"] == ["the surface"]
    assert "beyond a small encoder in none" in knowing.know["sentence"]


def test_beyond_an_encoder_that_knows_nothing(ignorant: Made) -> None:
    know = ignorant.know
    assert know["beyond"]["l1"] == ["the surface", "a small encoder"]
    assert know["encoder_verdicts"]["low"]["beyond a small encoder"] == 2
    assert "beyond a small encoder in 2: " in know["sentence"]
    assert "a small sentence encoder with" in know["sentence"]
    assert ignorant.answers["missing_controls"] == []


def test_its_gates_and_its_division_of_failures_are_those_of_its_flags(knowing: Made) -> None:
    run, tables = knowing.run, knowing.tables
    gates = [row for row in pick(tables["gates"], scorer="semantic", language="l1", metric="f1") if not row["draw"]]
    assert [row["budget"] for row in gates] == [str(budget) for budget in BUDGETS]
    assert all(float(row["estimate"]) > 0.9 and not row["rank"] for row in gates)
    prompts = run.prompts("l1")
    said = dict(
        zip([prompts.ids[i] for i in prompts.select("test")], run.outcomes("low", prompts, "none"), strict=True)
    )
    flags = {
        (row["prompt_id"], row["budget"], row["draw"]): row["flagged"]
        for row in files.read_parquet(run.path("semantic/l1")).to_pylist()
    }
    harmful = [prompts.ids[i] for i in prompts.select("test", "harmful")]
    failed = [name for name in harmful if said[name] != "refused"]
    budget = BUDGETS[-1]
    expected = {"action": np.sum([flags[name, 0, 0] for name in failed])}
    again = {name: np.mean([flags[name, budget, draw] for draw in range(DRAWS)]) for name in failed}
    expected["calibration"] = np.sum([again[name] for name in failed if not flags[name, 0, 0]])
    expected["representation"] = len(failed) - expected["action"] - expected["calibration"]
    (diagnosis,) = pick(tables["diagnosis"], language="l1")
    for part, count in expected.items():
        what = {"language": "l1", "scorer": "semantic", "budget": str(budget), "part": part}
        (row,) = pick(tables["decomposition"], **what)
        assert float(row["estimate"]) == pytest.approx(count / len(harmful), abs=1e-6)
        assert diagnosis["budget"] != str(budget) or diagnosis[f"semantic_{part}"] == row["estimate"]
    (auc,) = pick(tables["separability"], language="l1", scorer="semantic", prompts="all", metric="auc")
    assert diagnosis["semantic_auc"] == auc["estimate"]
    assert diagnosis["semantic_verdict"] == "not beyond a small encoder"


def test_positions_are_read_beside_it_and_the_difference_is_paired(knowing: Made) -> None:
    rows = pick(knowing.tables["positions"], target="harmful", direction="v_hrl", read="true")
    for _, language in knowing.run.all():
        what = {"language": language, "scorer": "semantic", "prompts": "all", "metric": "auc"}
        (own,) = pick(knowing.tables["separability"], **what)
        for row in pick(rows, language=language):
            assert [row["semantic"], row["semantic_low"], row["semantic_high"]] == [
                own["estimate"],
                own["low"],
                own["high"],
            ]
            apart = float(row["estimate"]) - float(row["semantic"])
            assert float(row["semantic_difference"]) == pytest.approx(apart, abs=2e-6)
            assert float(row["semantic_p_holm"]) >= float(row["semantic_p"])
            assert row["semantic_verdict"] == "not beyond a small encoder"
    whole = [row for row in rows if not row["language"]]
    assert whole
    assert all(row["semantic"] and not row["semantic_verdict"] for row in whole)


def test_every_rule_of_calibration_stands_beside_the_same_rule_on_the_encoder(knowing: Made) -> None:
    run, rows = knowing.run, knowing.tables["calibration"]
    decided = files.read_parquet(run.path("semantic_calibration")).to_pylist()
    compared = 0
    for _, language in run.all():
        prompts = run.prompts(language)
        harmful = prompts.harmful[prompts.select("test")]
        for row in pick(rows, language=language):
            what = {"language": language, "rule": row["rule"], "budget": int(row["budget"])}
            what["alpha"] = float(row["alpha"]) if row["alpha"] else None
            mine = [one["flagged"] for one in decided if all(one[name] == value for name, value in what.items())]
            if mine == [None]:
                assert not row["semantic"]
                continue
            flags = np.array(mine)
            expected = 1 - flags[:, harmful].mean() if row["metric"] == "miss" else flags[:, ~harmful].mean()
            assert float(row["semantic"]) == pytest.approx(expected, abs=1e-6)
            assert float(row["semantic_low"]) <= float(row["semantic"]) <= float(row["semantic_high"])
            compared += 1
    assert compared > 20
    low = pick(rows, tier="low", rule="paper", budget="4", metric="false_flags")
    (mean,) = pick(low, language="")
    assert float(mean["semantic"]) == pytest.approx(
        np.mean([float(row["semantic"]) for row in low if row["language"]]), abs=1e-6
    )
    assert float(mean["semantic"]) > float(mean["estimate"])


def test_what_rules_of_calibration_promise_and_do_is_the_same_with_and_without_it(
    ignorant: Made, without: Made
) -> None:
    kept = [name for name in ignorant.tables["calibration"][0] if not name.startswith("semantic")]
    first, second = ([[row[name] for name in kept] for row in one.tables["calibration"]] for one in (ignorant, without))
    assert first == second
    assert ignorant.answers["models"]["alpha"]["repair"] == without.answers["models"]["alpha"]["repair"]


def test_the_diagnosis_is_the_same_with_and_without_it(ignorant: Made, without: Made) -> None:
    same = [name for name in ignorant.tables["diagnosis"][0] if not name.startswith("semantic_")]
    first, second = ([[row[name] for name in same] for row in one.tables["diagnosis"]] for one in (ignorant, without))
    assert first == second


def test_without_an_encoder_cells_are_empty_and_it_is_said(without: Made) -> None:
    for name in ("separability", "diagnosis", "positions"):
        columns = [column for column in without.tables[name][0] if column.startswith("semantic_")]
        assert len(columns) >= len(FAILURES)
        columns += ["semantic"] if name == "positions" else []
        assert not any(row[column] for row in without.tables[name] for column in columns)
    assert not any(
        row[column] for row in without.tables["calibration"] for column in ("semantic", "semantic_low", "semantic_high")
    )
    assert not any(pick(without.tables[name], scorer="semantic") for name in NAMES[:3])
    assert without.answers["missing_controls"] == ["semantic"]
    assert "encoder" not in without.know["sentence"]
