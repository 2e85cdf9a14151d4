"""sweeps.csv: refusal at every point, the dip, the peak, what was chosen, and the same prompts left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from library.tables.run import STATISTICS, Rows, read
from polygate import files
from polygate.errors import PolygateError
from polygate.figures import sweeps as figure
from polygate.steering import sweeps as points
from polygate.steering.choice import Choice, GridPoint
from polygate.tables import sweeps
from polygate.tables.cells import Cell

LANGUAGES = {"l1": "low", "l2": "low", "h1": "high"}
N, DEPTH, STRENGTHS = 12, 3, (0.0, 0.5, 2.0)
SHARE = {("v_en", 0): 9, ("v_en", 1): 4, ("v_en", 2): 7, ("v_hrl", 0): 11, ("v_hrl", 1): 6, ("v_hrl", 2): 6}
"""How many of the first prompts are refused, by the layer ablated; all of them when left alone."""
RAISED = {0.0: 2, 0.5: 8, 2.0: 8}


def judged(path: Path, rows: list[tuple[str, bool]], arm: str) -> None:
    columns = {
        "prompt_id": [name for name, _ in rows],
        "subset": ["harmful"] * len(rows),
        "outcome": ["refused" if refused else "complied" for _, refused in rows],
    }
    files.write_parquet(path, pa.table(columns), {}, {"language": path.stem, "arm": arm, "judge": "rules"})


@pytest.fixture
def cells(tmp_path: Path) -> tuple[list[Cell], list[Cell], list[Cell]]:
    grid = [*points.layer_points(DEPTH), *points.strength_points(1, STRENGTHS)]
    swept, alone = [], []
    for shift, (language, tier) in enumerate(LANGUAGES.items()):
        rows = []
        for point in grid:
            split = "test" if point.kind == "layer" else "val"
            refused = SHARE[point.direction, point.layer] if point.kind == "layer" else RAISED[point.strength]
            rows += [(f"harmful-{split}-{i:04d}@{point.name}", i < refused - shift) for i in range(N)]
        judged(tmp_path / f"sweep/{language}.parquet", rows, "sweep")
        judged(tmp_path / f"none/{language}.parquet", [(f"harmful-test-{i:04d}", True) for i in range(N + 5)], "none")
        swept.append(Cell("m", tier, language, tmp_path / f"sweep/{language}.parquet", "sweep", judge="rules"))
        alone.append(Cell("m", tier, language, tmp_path / f"none/{language}.parquet", "none", judge="rules"))
    best = GridPoint(2, 1.9, "layer", 0.5, 1.0, 0.75, {"l2": 0.75})
    Choice(2, 0.6, "layer", own={"l2": 1.9}, grid=(best,)).save(tmp_path / "choices.parquet", {})
    return swept, alone, [Cell("m", "", "", tmp_path / "choices.parquet")]


@pytest.fixture
def rows(cells: tuple[list[Cell], list[Cell], list[Cell]], tmp_path: Path) -> Rows:
    sweeps.build(*cells, tmp_path / "sweeps.csv", statistics=STATISTICS, seed=0)
    return read(tmp_path / "sweeps.csv")


def where(rows: Rows, **what: str) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in what.items())]


def test_rates_are_the_shares_refused_and_tiers_their_means(rows: Rows) -> None:
    for shift, language in enumerate(LANGUAGES):
        for (direction, layer), refused in SHARE.items():
            (row,) = where(rows, language=language, kind="layer", direction=direction, layer=str(layer))
            assert float(row["estimate"]) == pytest.approx((refused - shift) / N, abs=1e-6)
            assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
            assert int(row["n"]) == N
    (mean,) = where(rows, tier="low", language="", kind="strength", strength="0.5")
    assert float(mean["estimate"]) == pytest.approx(np.mean([8, 7]) / N, abs=1e-6)


def test_the_same_prompts_left_alone_stand_beside_the_layers(rows: Rows) -> None:
    alone = where(rows, direction="none")
    assert {row["language"] for row in alone} == {"", *LANGUAGES}
    assert {(row["estimate"], row["layer"], row["kind"]) for row in alone} == {("1.0", "", "layer")}
    assert {int(row["n"]) for row in alone if row["language"]} == {N}


def test_dips_peaks_and_choices_are_marked(rows: Rows) -> None:
    for language in ("", "l1", "h1"):
        of = where(rows, language=language, kind="layer", dip="true")
        assert {(row["direction"], row["layer"]) for row in of} == {("v_en", "1"), ("v_hrl", "1")}
    assert {row["layer"] for row in where(rows, kind="layer", chosen="true")} == {"2"}
    assert {row["strength"] for row in where(rows, kind="strength", peak="true")} == {"0.5"}
    chosen = {row["language"]: row["strength"] for row in where(rows, kind="strength", chosen="true")}
    assert chosen == {"l1": "0.5", "l2": "2.0", "h1": "0.5", "": "0.5"}


def test_the_figure_draws_tier_means(rows: Rows, tmp_path: Path) -> None:
    assert rows
    figure.draw(tmp_path / "sweeps.csv", tmp_path / "sweeps.svg", tmp_path / "drawn.csv")
    drawn = read(tmp_path / "drawn.csv")
    assert len(drawn) == 2 * (1 + len(SHARE) + len(STRENGTHS))
    assert (tmp_path / "sweeps.svg").stat().st_size > 5000


def test_judgements_of_another_arm_are_one_line(
    cells: tuple[list[Cell], list[Cell], list[Cell]], tmp_path: Path
) -> None:
    with pytest.raises(PolygateError, match="not judgements of a sweep"):
        sweeps.build(cells[1], cells[1], cells[2], tmp_path / "x.csv", statistics=STATISTICS, seed=0)
