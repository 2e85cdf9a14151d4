"""ood.csv: balanced metrics whatever the class sizes, each number beside its controls, a last resort that is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from library.tables.run import read
from library.tables.test_tables import one, where
from polygate import files, kernels
from polygate.decision.ood import SCHEMA
from polygate.measurement.statistics import holm
from polygate.prompts.table import prompt_id
from polygate.settings.types import Statistics
from polygate.tables import ood
from polygate.tables.cells import Cell

if TYPE_CHECKING:
    import pandas as pd

HARMFUL, HARMLESS, OWN = 12, 40, 9
LANGUAGES = {"l1": "l1", "l2": "en"}
"""Gates of a language, and the language of the harmless prompts that they are tried on."""
DRAWS = {0: 1, 4: 3}
CATEGORIES = ("theft / of data", "theft / of money; fraud", "fraud")


def scores(language: str, spoken: str, seed: int) -> pa.Table:
    """Gates see harm with noise, rank 1 with more of it; an encoder as well as the better one, the surface nothing."""
    random = np.random.default_rng([seed, *language.encode()])
    prompts = [(prompt_id("harmful", "test", n), "harmful", "new", language, CATEGORIES[n % 3]) for n in range(HARMFUL)]
    prompts += [(prompt_id("harmless", "test", n), "harmless", "main", spoken, "") for n in range(HARMLESS)]
    prompts += [(prompt_id("harmless", "test", n), "harmless", "new", language, "") for n in range(OWN)]
    rows: list[dict[str, Any]] = []
    for scorer, rank, signal in (("gate", 1, 1.5), ("gate", 4, 3.0), ("surface", 11, 0.0), ("semantic", 24, 3.0)):
        for budget, draws in DRAWS.items():
            for draw in range(draws):
                for prompt in prompts:
                    score = float(random.normal() + signal * (prompt[1] == "harmful"))
                    known = (*prompt, scorer, rank, budget, draw, "examples" if budget else "source")
                    rows.append(dict(zip(SCHEMA.names, (*known, score, score > signal / 2), strict=True)))
    return pa.Table.from_pylist(rows, SCHEMA)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pa.Table], list[dict[str, str]]]:
    tables = {name: scores(name, spoken, 1) for name, spoken in LANGUAGES.items()}
    return tables, built(tables, tmp_path_factory.mktemp("ood"))


def built(tables: dict[str, pa.Table], folder: Path) -> list[dict[str, str]]:
    cells = []
    for name, table in tables.items():
        files.write_parquet(folder / f"{name}.parquet", table, {}, {"language": name, "dataset": "new"})
        cells.append(Cell("m", "low", name, folder / f"{name}.parquet", dataset="new"))
    ood.build(cells, folder / "ood.csv", statistics=Statistics(resamples=300), seed=0)
    return read(folder / "ood.csv")


def looped(gates: pd.DataFrame) -> dict[str, float]:
    """Means over draws of each metric, by plain loops."""
    found: dict[str, list[float]] = {"balanced_accuracy": [], "f1": [], "auc": []}
    for _, drawn in gates.groupby("draw"):
        harmful = (drawn["subset"] == "harmful").to_numpy()
        hits, alarms = (float(drawn["flagged"][mask].mean()) for mask in (harmful, ~harmful))
        found["balanced_accuracy"].append((hits + 1 - alarms) / 2)
        found["f1"].append(2 * hits / (hits + alarms + 1))
        found["auc"].append(float(kernels.auc(drawn["score"].to_numpy(), harmful)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_every_number_is_what_plain_loops_make_of_the_flags(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]],
) -> None:
    tables, rows = made
    for language, table in tables.items():
        frame = table.to_pandas()
        for pairing in ("main", "new"):
            mine = frame[(frame["subset"] == "harmful") | (frame["dataset"] == pairing)]
            for gate, rank in (("v_hrl", 1), ("subspace", 4)):
                for budget, draws in DRAWS.items():
                    chosen = mine[(mine["scorer"] == "gate") & (mine["rank"] == rank) & (mine["budget"] == budget)]
                    beside = {
                        name: looped(mine[(mine["scorer"] == name) & (mine["budget"] == budget)])
                        for name in ("surface", "semantic")
                    }
                    for metric, value in looped(chosen).items():
                        what = {"language": language, "pairing": pairing, "gate": gate, "budget": budget}
                        row = one(rows, **what, metric=metric, category=None)
                        assert float(row["estimate"]) == pytest.approx(value, abs=1e-6)
                        for name, numbers in beside.items():
                            assert float(row[name]) == pytest.approx(numbers[metric], abs=1e-6)
                        assert int(row["draws"]) == draws
                        assert int(row["harmful"]) == HARMFUL
                        assert int(row["n"]) == HARMFUL + (HARMLESS if pairing == "main" else OWN)


def test_harmless_prompts_of_another_language_are_said(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]],
) -> None:
    rows = made[1]
    said = {(row["language"], row["pairing"]): row["stand_in"] for row in rows}
    assert said["l1", "main"] == said["l1", "new"] == said["l2", "new"] == said["", "new"] == ""
    assert said["l2", "main"] == "en"
    assert said["", "main"] == "l2 (en)"


def test_the_controls_stand_beside_every_number_and_a_gate_may_be_ahead_of_the_surface_alone(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]],
) -> None:
    rows = made[1]
    for row in rows:
        for control, begin in (("surface", ""), ("semantic", "semantic_")):
            assert float(row[f"{control}_low"]) <= float(row[control]) <= float(row[f"{control}_high"])
            apart = float(row[f"{begin}difference"])
            assert apart == pytest.approx(float(row["estimate"]) - float(row[control]), abs=2e-6)
            assert float(row[f"{begin}difference_low"]) <= apart <= float(row[f"{begin}difference_high"])
    for row in where(rows, gate="subspace", metric="auc", budget=4, pairing="main"):
        assert float(row["difference_low"]) > 0
        assert float(row["p"]) <= float(row["p_holm"]) < 0.05
        assert 0.05 < float(row["semantic_p"]) <= float(row["semantic_p_holm"])


def test_both_comparisons_are_families_of_their_own_over_languages(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]],
) -> None:
    for begin in ("", "semantic_"):
        what = {"gate": "v_hrl", "metric": "auc", "budget": 0, "pairing": "main", "category": None}
        rows = [row for row in where(made[1], **what) if row["language"]]
        assert len(rows) == len(LANGUAGES)
        adjusted = holm([float(row[f"{begin}p"]) for row in rows])
        assert [float(row[f"{begin}p_holm"]) for row in rows] == pytest.approx(adjusted, abs=2e-6)


def test_without_an_encoder_its_cells_are_empty_and_all_others_as_they_were(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]], tmp_path: Path
) -> None:
    tables, rows = made
    bare = {name: table.filter(pc.not_equal(table["scorer"], "semantic")) for name, table in tables.items()}
    found = built(bare, tmp_path)
    others = [name for name in rows[0] if not name.startswith("semantic")]
    assert len(others) == len(rows[0]) - 9
    assert [[row[name] for name in others] for row in found] == [[row[name] for name in others] for row in rows]
    assert not any(value for row in found for name, value in row.items() if name not in others)


def test_a_prompt_counts_in_every_kind_of_harm_that_it_has(
    made: tuple[dict[str, pa.Table], list[dict[str, str]]],
) -> None:
    assert ood.kinds_of("theft / of money; fraud") == {"theft", "theft / of money", "fraud"}
    assert ood.kinds_of("") == set()
    counted = {row["category"]: int(row["harmful"]) for row in made[1] if row["category"] and row["language"] == "l1"}
    third = HARMFUL // 3
    assert counted == {
        "theft": 2 * third, "theft / of data": third, "theft / of money": third, "fraud": 2 * third,
    }  # fmt: skip
    # Four prompts are too few for a test.
    assert not any(row["p"] for row in made[1] if row["category"] == "theft / of data" and row["language"])
