"""utility.csv: routed arms are selections, differences are paired, and what an arm cannot change it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from library.tables.run import read
from library.tables.test_tables import one, value, where
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import Prompt, prompt_id
from polygate.settings.types import Statistics
from polygate.tables import utility
from polygate.tables.cells import Cell

N, OPTIONS, BUDGETS, DRAWS = 40, 4, (0, 2), 3
LANGUAGES = ("l1", "l2")
ARMS = ("none", "addition", "ablation", "late")
"""`late` acts on generated tokens alone: its scores are the unsteered ones."""


class Planted:
    """Scores of one model in two languages: addition answers at random, ablation as the unsteered model does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(0)
        self.ids = [prompt_id("harmless", "test", number) for number in range(N)]
        self.right = random.integers(OPTIONS, size=N)
        self.logits: dict[tuple[str, str], Any] = {}
        self.flagged = {
            (name, b, d): random.random(N) < 0.3 for name in LANGUAGES for b in BUDGETS for d in range(DRAWS)
        }
        for name in LANGUAGES:
            prompts = [
                Prompt(row, f"question {row}", options=tuple("wxyz"), answer=int(answer))
                for row, answer in zip(self.ids, self.right, strict=True)
            ]
            table.write(self.path("prompts", name), table.build(name, prompts), {})
            plain = random.normal(size=(N, OPTIONS)).astype(np.float32)
            plain[np.arange(N), self.right] += 3
            steered = random.normal(size=(N, OPTIONS)).astype(np.float32)
            for arm, logits in zip(ARMS, (plain, steered, plain, plain), strict=True):
                self.logits[name, arm] = logits
                self.write(name, arm, self.ids)
            self.gates(name)

    def path(self, *parts: str) -> Path:
        return self.folder / f"{'/'.join(parts)}.parquet"

    def write(self, name: str, arm: str, ids: list[str]) -> None:
        columns = {"prompt_id": ids, "subset": ["harmless"] * N, "logits": self.logits[name, arm].tolist()}
        files.write_parquet(self.path("scores", arm, name), pa.table(columns), {}, {"language": name})

    def gates(self, name: str) -> None:
        rows = [
            {"prompt_id": row, "split": "test", "rank": 1, "budget": b, "draw": d, "score": 0.0, "flagged": bool(flag)}
            for b in BUDGETS
            for d in range(DRAWS)
            for row, flag in zip(self.ids, self.flagged[name, b, d], strict=True)
        ]
        files.write_parquet(self.path("gate_scores", name), pa.Table.from_pylist(rows), {}, {"language": name})

    def build(self) -> list[dict[str, str]]:
        common = {"tier": "low", "dataset": "task"}
        utility.build(
            [Cell(model="m", language=name, arm=arm, path=self.path("scores", arm, name), **common)
             for name in LANGUAGES for arm in ARMS],
            [Cell(model="m", language=name, path=self.path("gate_scores", name), **common) for name in LANGUAGES],
            [Cell(model="", language=name, path=self.path("prompts", name), **common) for name in LANGUAGES],
            self.folder / "utility.csv",
            rank=3,
            budgets=BUDGETS,
            statistics=Statistics(resamples=400),
            seed=0,
        )  # fmt: skip
        return read(self.folder / "utility.csv")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("utility"))


@pytest.fixture(scope="module")
def rows(planted: Planted) -> list[dict[str, str]]:
    return planted.build()


def test_a_routed_arm_is_what_its_gate_selects_averaged_over_draws(
    planted: Planted, rows: list[dict[str, str]]
) -> None:
    for name in LANGUAGES:
        for budget in BUDGETS:
            right = flags = 0
            for draw in range(DRAWS):
                for row, flag in enumerate(planted.flagged[name, budget, draw]):
                    chosen = planted.logits[name, "addition" if flag else "ablation"][row]
                    right += int(np.argmax(chosen) == planted.right[row])
                    flags += int(flag)
            what = {"language": name, "arm": "routed", "budget": budget}
            assert value(rows, **what, metric="accuracy") == pytest.approx(right / N / DRAWS, abs=1e-6)
            assert value(rows, **what, metric="flagged") == pytest.approx(flags / N / DRAWS, abs=1e-6)


def test_what_every_question_loses_shows_with_its_corrected_p_and_what_changes_nothing_does_not(
    rows: list[dict[str, str]],
) -> None:
    for name in (*LANGUAGES, None):
        lost = one(rows, language=name, arm="addition", metric="accuracy")
        assert float(lost["change_high"]) < 0
        assert float(lost["p_holm"]) < 0.05
        for metric in utility.METRICS:
            same = one(rows, language=name, arm="late", metric=metric)
            assert (float(same["change"]), float(same["p_holm"])) == (0, 1)
    assert not any(row["change"] for row in where(rows, arm="none"))


def test_every_number_has_an_interval_and_accuracy_its_chance(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
        assert (row["chance"] == "0.25") == (row["metric"] == "accuracy")
        assert int(row["n"]) == (N if row["language"] else N * len(LANGUAGES))
    for metric in ("margin", "entropy"):
        assert {row["method"] for row in where(rows, metric=metric)} == {"student"}


def test_scores_of_other_questions_are_refused(tmp_path: Path) -> None:
    planted = Planted(tmp_path)
    planted.write("l1", "ablation", planted.ids[::-1])
    with pytest.raises(PolygateError, match="scores of other questions"):
        planted.build()
