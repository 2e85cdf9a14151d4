"""transfer.csv: metrics as plain loops have them, means without the source, paired corrected differences, a surface."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from library.tables.run import read
from library.tables.test_tables import one, where
from polygate import files
from polygate.controls.surface import SCORERS
from polygate.decision.probes.transfer import SCHEMA
from polygate.prompts.table import prompt_id
from polygate.settings.types import Statistics
from polygate.tables import transfer
from polygate.tables.cells import SEMANTIC, SEMANTIC_GATE, SURFACE_GATE, Cell

TIERS = {"h": "high", "m": "mid", "t": "low", "u": "low"}
HARMFUL, HARMLESS = 24, 20
SHIFT = {"": 3.0, "m": 2.5, "t": 0.0, "u": 0.2}
"""How far from right the threshold of a source is."""
METRICS = {"auc": roc_auc_score, "f1": f1_score, "balanced_accuracy": balanced_accuracy_score}
PROMPTS = [("harmful", n) for n in range(HARMFUL)] + [("harmless", n) for n in range(HARMLESS)]


def scores() -> pa.Table:
    rows: list[tuple[Any, ...]] = []
    for source, shift in SHIFT.items():
        for language in ("m", "t", "u"):
            random = np.random.default_rng([*language.encode()])
            for subset, n in PROMPTS:
                score = float(random.normal() + 2 * (subset == "harmful")) - shift
                known = (source, language, prompt_id(subset, "test", n), "test", subset, 2)  # type: ignore[arg-type]
                rows.append((*known, score, 1.0, score > 1.0))
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


def surface(language: str, gate: str = SURFACE_GATE) -> pa.Table:
    """What a control tells: the surface, or with the encoder's scorer of gates the encoder."""
    rows = []
    scorer_alone = SCORERS[0] if gate == SURFACE_GATE else SEMANTIC
    random = np.random.default_rng([len(gate), *language.encode()])
    for subset, n in PROMPTS:
        score = float(random.normal() + (subset == "harmful"))
        for scorer, budget in [(scorer_alone, None), (gate, 0), (gate, 4)]:
            shown = score if budget != 4 else -score
            known = {"prompt_id": prompt_id(subset, "test", n), "split": "test", "scorer": scorer}  # type: ignore[arg-type]
            rows.append({**known, "budget": budget, "score": shown, "flagged": shown > 0.5})
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("transfer")
    return scores(), built(folder, scores())


def built(folder: Path, table: pa.Table, *, encoder: bool = True) -> list[dict[str, str]]:
    files.write_parquet(folder / "model.parquet", table, {}, {"model": ""})
    cells: dict[str, list[Cell]] = {SURFACE_GATE: [], SEMANTIC_GATE: []}
    for (language, tier), gate in product(TIERS.items(), cells):
        path = folder / f"{gate}-{language}.parquet"
        files.write_parquet(path, surface(language, gate), {}, {"language": language})
        cells[gate].append(Cell("", tier, language, path))
    whole = [Cell("qwen", "", "", folder / "model.parquet")]
    beside = cells[SEMANTIC_GATE] if encoder else []
    transfer.build(
        *(whole, cells[SURFACE_GATE], folder / "transfer.csv"),
        statistics=Statistics(resamples=300),
        seed=0,
        semantics=beside,
    )
    return read(folder / "transfer.csv")


def slow(table: pa.Table, source: str, language: str, metric: str) -> float:
    frame = table.to_pandas()
    mine = frame[(frame["source"] == source) & (frame["language"] == language)]
    return float(METRICS[metric](mine["subset"] == "harmful", mine["score" if metric == "auc" else "flagged"]))


def test_every_number_is_scikit_learns(made: tuple[pa.Table, list[dict[str, str]]]) -> None:
    table, rows = made
    for source in SHIFT:
        for language in ("m", "t", "u"):
            for metric in METRICS:
                row = one(rows, model="qwen", source=source, language=language, metric=metric)
                assert float(row["estimate"]) == pytest.approx(slow(table, source, language, metric), abs=1e-6)
                assert float(row["low"]) <= float(row["estimate"]) <= float(row["high"])
                assert row["within"] == str(source == language).lower()
                assert (row["tier"], row["source_tier"]) == (TIERS[language], TIERS.get(source, ""))


def test_a_tiers_mean_leaves_the_source_out(made: tuple[pa.Table, list[dict[str, str]]]) -> None:
    table, rows = made
    for source, languages in (("", ["t", "u"]), ("m", ["t", "u"]), ("t", ["u"]), ("u", ["t"])):
        row = one(rows, tier="low", source=source, language=None, metric="f1")
        assert float(row["estimate"]) == pytest.approx(
            np.mean([slow(table, source, name, "f1") for name in languages]), abs=1e-6
        )
    # The only mid-resource language has no other of its tier to be tested in.
    assert not where(rows, tier="mid", source="m", language=None)


@pytest.mark.parametrize(("control", "scorer"), [("surface", SURFACE_GATE), ("semantic", SEMANTIC_GATE)])
def test_the_controls_stand_beside_in_the_same_protocol(
    made: tuple[pa.Table, list[dict[str, str]]], control: str, scorer: str
) -> None:
    _, rows = made
    for language in ("m", "t", "u"):
        frame = surface(language, scorer).to_pandas()
        own = frame[frame["scorer"] == control]
        gate = frame[(frame["scorer"] == scorer) & (frame["budget"] == 0)]
        harmful = own["prompt_id"].str.startswith("harmful").to_numpy()
        expected = {
            "auc": roc_auc_score(harmful, own["score"]),
            "f1": f1_score(harmful, gate["flagged"].astype(bool)),
            "balanced_accuracy": balanced_accuracy_score(harmful, gate["flagged"].astype(bool)),
        }
        for metric, value in expected.items():
            found = {row[control] for row in where(rows, language=language, metric=metric)}
            assert [float(one) for one in found] == pytest.approx([value], abs=1e-6)
    assert all(float(row[f"{control}_low"]) <= float(row[control]) <= float(row[f"{control}_high"]) for row in rows)


def test_without_an_encoder_its_columns_are_empty_and_the_rest_is_the_same(
    made: tuple[pa.Table, list[dict[str, str]]], tmp_path: Path
) -> None:
    bare = built(tmp_path, scores(), encoder=False)
    assert {row[f"semantic{end}"] for row in bare for end in ("", "_low", "_high")} == {""}
    kept = [name for name in bare[0] if not name.startswith("semantic")]
    assert [[row[name] for name in kept] for row in bare] == [[row[name] for name in kept] for row in made[1]]


def test_differences_are_to_the_gate_without_a_further_language(made: tuple[pa.Table, list[dict[str, str]]]) -> None:
    table, rows = made
    for row in rows:
        if not row["source"]:
            assert not row["difference"]
            assert not row["p"]
        elif row["language"]:
            base = slow(table, "", row["language"], row["metric"])
            assert float(row["difference"]) == pytest.approx(float(row["estimate"]) - base, abs=2e-6)
            assert float(row["p_holm"]) >= float(row["p"])
    # A threshold moves F1 and leaves the ranking as it is.
    assert float(one(rows, source="t", language="u", metric="f1")["p_holm"]) < 0.05
    assert {row["p_holm"] for row in where(rows, metric="auc") if row["source"]} == {"1.0"}


def test_a_model_without_high_resource_languages_has_no_rows(tmp_path: Path) -> None:
    assert built(tmp_path, SCHEMA.empty_table()) == []
