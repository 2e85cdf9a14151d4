"""The stages and tables of probes: the files they write, and the same numbers as the library."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from library.decision.probes.conftest import SETTINGS, TIERS
from library.representation.planted import World
from polygate import cli, files
from polygate.decision.probes import estimates
from polygate.decision.probes.comparison import Comparison
from polygate.decision.probes.rows import Language
from polygate.settings.types import Gate, Statistics
from polygate.steering.choice import Choice
from polygate.tables import probes
from polygate.tables.cells import Cell

GATE = Gate(rank=2, ranks=[1, 2], budgets=[0, 1], draws=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages over a planted world, as the command line runs them."""
    folder = tmp_path_factory.mktemp("stages")
    written = [World(folder, gap=2.5, tilt=0.8, shift={"t": 2.0, "u": -2.0}).write(name) for name in TIERS]
    Choice(1, 1.0, "all", ("layer", "strength", "ablation")).save(folder / "choices.parquet", {})
    settings = {
        "gate": GATE.model_dump(mode="json"),
        "probes": SETTINGS.model_dump(mode="json"),
        "pivot": "a",
        "seed": 0,
    }
    for stage in ("recoverability", "compare-probes"):
        outputs = [folder / f"{stage}.{kind}.parquet" for kind in ("draws", "means")]
        given = {
            "settings": [json.dumps(settings)],
            "tiers": list(TIERS.values()),
            "languages": list(TIERS),
            "activations": [str(store) for store, _ in written],
            "prompts": [str(prompts) for _, prompts in written],
            "choices": [str(folder / "choices.parquet")],
            "draws": [str(outputs[0])],
            "means": [str(outputs[1])],
        }
        code = cli.main([stage, *(word for name, values in given.items() for word in (f"--{name}", *values))])
        assert code == 0
    return folder


def test_stages_write_what_the_library_finds(folder: Path, languages: Sequence[Language]) -> None:
    draws, means = Comparison(languages, GATE, "a", 0).run()
    for kind, expected, schema in (("draws", draws, estimates.DRAWS), ("means", means, estimates.MEANS)):
        path = folder / f"compare-probes.{kind}.parquet"
        found = pq.read_table(path)
        assert found.schema.remove_metadata() == schema
        pd.testing.assert_frame_equal(found.to_pandas(), expected.to_pandas())
        assert files.read_provenance(path)["layer"] == 1


@pytest.mark.parametrize("stage", ["recoverability", "compare-probes"])
def test_tables_have_an_interval_for_every_estimate(folder: Path, tmp_path: Path, stage: str) -> None:
    output = tmp_path / "probes.csv"
    cell = Cell("model", "", "", folder / f"{stage}.means.parquet")
    probes.build([cell], output, statistics=Statistics())
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == probes.COLUMNS
    named = {row["probe"]: row["estimator"] for row in rows}
    assert {named.get("direction"), named.get("v_hrl")} - {None} == {"pc1_of_diffs"}
    assert {named.get("target"), named.get("local")} - {None} == {"difference_in_means"}
    assert {named.get("full"), named.get("logistic")} - {None} == {""}
    assert len(rows) == pq.read_metadata(cell.path).num_rows
    for row in rows:
        low, estimate, high = (float(row[name]) for name in ("low", "estimate", "high"))
        assert 0 <= low <= estimate <= high <= 1
        assert row["method"] in ("linearised", "wilson", "constant")
        assert (low < high) == (row["method"] != "constant")
    assert sum(row["method"] == "linearised" for row in rows) > len(rows) / 2


def test_an_estimate_of_1_has_wilsons_interval_of_the_smaller_class() -> None:
    found = probes.linearised({"estimate": 1.0, "standard_error": 0.0, "items": 20}, 0.95)
    assert found.method == "wilson"
    assert found.high == 1.0
    assert found.low == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)


def test_a_handful_of_prompts_that_do_not_vary_has_an_interval_of_some_width() -> None:
    found = probes.linearised({"estimate": 0.6, "standard_error": 0.0, "items": 2}, 0.95)
    assert found.method == "wilson"
    assert found.low < 0.6 < found.high
