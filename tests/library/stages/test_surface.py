"""The surface stage: one table of baseline scores per language."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from library.tables.run import Run
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.stages import surface


@pytest.fixture
def run(tmp_path: Path) -> Run:
    planted = Run(tmp_path)
    for language in ("h1", "h2", "l1"):
        table.write(planted.path(f"prompts/{language}"), planted.prompts(language), {})
    return planted


def stage(run: Run, *more: str, target: str = "l1") -> Path:
    output = run.path("surface/l1")
    parser = argparse.ArgumentParser()
    surface.configure(parser)
    prompts = [str(run.path(f"prompts/{name}")) for name in ("h1", "h2", "l1")]
    arguments = ["--target", target, "--sources", "h1", "h2", "--prompts", *prompts[:2], "--own-prompts", prompts[2]]
    surface.run(parser.parse_args([*more, *arguments, "--output", str(output)]))
    return output


def test_every_test_prompt_has_every_score(run: Run) -> None:
    found = files.read_parquet(stage(run))
    assert found.schema.remove_metadata() == surface.SCHEMA
    rows = found.to_pylist()
    scorers = list(dict.fromkeys(row["scorer"] for row in rows))
    assert scorers == ["surface", "length", "char_ngrams", "naive_bayes"]
    own = run.prompts("l1")
    ids = [own.ids[row] for row in own.select("test")]
    for scorer in scorers:
        assert [row["prompt_id"] for row in rows if row["scorer"] == scorer] == ids
    assert {row["punctuation"] for row in rows} == {"stop"}
    assert all(row["score"] == row["log_characters"] for row in rows if row["scorer"] == "length")
    assert files.read_provenance(run.path("surface/l1"))["sources"] == ["h1", "h2"]


def test_with_gate_settings_it_holds_calibrated_gates_too(run: Run) -> None:
    settings = '{"gate": {"rank": 2, "ranks": [1, 2], "budgets": [0, 4], "draws": 2}, "seed": 0}'
    rows = files.read_parquet(stage(run, "--settings", settings)).to_pylist()
    gates = [row for row in rows if row["scorer"] == surface.GATE]
    assert {(row["budget"], row["draw"]) for row in gates} == {(0, 0), (4, 0), (4, 1)}
    assert all(row["flagged"] == (row["score"] > row["threshold"]) for row in gates)
    assert all(np.isfinite(row["score"]) for row in gates)


def test_the_same_input_gives_the_same_bytes(run: Run) -> None:
    first = stage(run).read_bytes()
    assert stage(run).read_bytes() == first


def test_a_target_is_never_its_own_source(run: Run) -> None:
    with pytest.raises(PolygateError, match="its own sources"):
        stage(run, target="h1")
