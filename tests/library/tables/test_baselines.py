"""baselines.csv: what routed arms gain over published ways of steering, paired and corrected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from library.tables.run import BUDGETS, JUDGE, STATISTICS, Rows, Run, make, read
from polygate.tables import baselines


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows]:
    """The table, in which the arms without gate stand for two baselines, and selectivity.csv."""
    folder = tmp_path_factory.mktemp("baselines")
    run = Run(folder).write()
    low = [cell for cell in run.arms(f"judgements/{JUDGE}") if cell.tier == "low"]
    named = {"addition": "cast", "ablation": "adasteer"}
    # One model has one of them only.
    cells = [replace(cell, arm=named.get(cell.arm, cell.arm)) for cell in low]
    cells = [cell for cell in cells if (cell.model, cell.arm) != ("beta", "adasteer")]
    baselines.build(cells, folder / "baselines.csv", statistics=STATISTICS, seed=0)
    return read(folder / "baselines.csv"), read(make(run, "selectivity", folder / "selectivity.csv"))


def test_every_routed_arm_is_compared_with_every_baseline_that_its_model_has(tables: tuple[Rows, Rows]) -> None:
    places = ("l1", "l2", "")
    expected = {
        (model, rival, str(budget), place)
        for model, rivals in (("alpha", ("cast", "adasteer")), ("beta", ("cast",)))
        for rival in rivals
        for budget in BUDGETS
        for place in places
    }
    found = [(row["model"], row["against"], row["budget"], row["language"]) for row in tables[0]]
    assert set(found) == expected
    assert len(found) == len(expected)


def test_a_comparison_is_the_difference_of_selectivities_with_an_interval_about_it(tables: tuple[Rows, Rows]) -> None:
    ours, selectivity = tables
    for row in ours:
        same = {name: row[name] for name in ("model", "tier", "language")}

        def of(arm: str, budget: str, same: dict[str, str] = same) -> float:
            wanted = {**same, "arm": arm, "budget": budget}
            (found,) = [r for r in selectivity if all(r[name] == value for name, value in wanted.items())]
            return float(found["estimate"])

        rival = {"cast": "addition", "adasteer": "ablation"}[row["against"]]
        assert float(row["estimate"]) == pytest.approx(of("routed", row["budget"]) - of(rival, ""), abs=3e-6)
        assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
        assert float(row["p"]) <= float(row["p_holm"]) + 1e-9


def test_the_correction_covers_all_baselines_of_a_model(tables: tuple[Rows, Rows]) -> None:
    """With two rivals in two languages the smallest of four p-values is multiplied by four, not by two."""
    family = [r for r in tables[0] if r["model"] == "alpha" and r["budget"] == "4" and r["language"]]
    assert len(family) == 4
    smallest = min(family, key=lambda row: float(row["p"]))
    assert float(smallest["p_holm"]) == pytest.approx(min(1.0, 4 * float(smallest["p"])), rel=1e-3)


def test_the_planted_repair_beats_steering_without_a_gate(tables: tuple[Rows, Rows]) -> None:
    mean = [r for r in tables[0] if r["model"] == "alpha" and r["budget"] == "4" and not r["language"]]
    assert all(float(row["low"]) > 0.3 and float(row["p_holm"]) < 0.05 for row in mean)


def test_without_baselines_there_is_a_head_and_no_row(tmp_path: Path) -> None:
    run = Run(tmp_path, models=("alpha",)).write()
    low = [cell for cell in run.arms(f"judgements/{JUDGE}") if cell.tier == "low"]
    baselines.build(low, tmp_path / "baselines.csv", statistics=STATISTICS, seed=0)
    assert read(tmp_path / "baselines.csv") == []
    assert (tmp_path / "baselines.csv").read_text().startswith("model,tier,language,arm,budget,against,")
