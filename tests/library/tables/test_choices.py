"""choices.csv: what was chosen, model by model, and what the settings fixed for all of them."""

from __future__ import annotations

import csv
from pathlib import Path

from polygate.steering.cast_strength import StrengthChoice, StrengthPoint
from polygate.steering.choice import FIXED, OF_CAST, Choice
from polygate.tables import choices
from polygate.tables.cells import Cell


def rows(folder: Path, cells: list[Cell], cast_strength: float | None = None) -> list[dict[str, str]]:
    choices.build(cells, folder / "choices.csv", cast_strength)
    with (folder / "choices.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def chosen(folder: Path, model: str) -> list[Cell]:
    """Our own choice, fixed in the settings, and a strength of CAST that two languages chose."""
    ours, cast = folder / f"{model}.parquet", folder / f"{model}-cast.parquet"
    Choice(1, 1.5, "all", fixed=("layer", "strength", "ablation")).save(ours, {})
    points = tuple(StrengthPoint(strength, 0.5, 0.4, 0.6, {"s": 0.5, "t": 0.7}) for strength in (1.5, 5.0))
    StrengthChoice(1.5, 0.6, ("s", "t"), points).save(cast, {})
    assert StrengthChoice.load(cast).grid == points
    return [Cell(model, "", "", path) for path in (ours, cast)]


def test_a_strength_of_cast_that_was_chosen_stands_beside_the_models_own_choice(tmp_path: Path) -> None:
    one, two = chosen(tmp_path, "one"), chosen(tmp_path, "two")
    found = rows(tmp_path, [one[0], two[0], one[1], two[1]])
    assert [(row["model"], row["what"]) for row in found] == [
        (model, what) for model in ("one", "two") for what in ("layer", "strength", "ablation", OF_CAST)
    ]
    assert (found[3]["value"], found[3]["split"], found[3]["languages"]) == ("1.5", "val", "s,t")
    assert float(found[3]["criterion_value"]) == 0.6


def test_one_that_the_settings_fix_is_said_to_be_so_for_every_model(tmp_path: Path) -> None:
    cells = [chosen(tmp_path, model)[0] for model in ("one", "two")]
    found = [row for row in rows(tmp_path, cells, 1.5) if row["what"] == OF_CAST]
    assert [row["model"] for row in found] == ["one", "two"]
    said = {(row["value"], row["criterion"], row["criterion_value"], row["split"], row["languages"]) for row in found}
    assert said == {("1.5", FIXED, "", "", "")}
