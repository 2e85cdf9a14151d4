"""The stages of the second control: embeddings once per language, one table of scores and gates."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from library.controls import standin
from library.tables.run import Run
from polygate import files
from polygate.controls.semantic import Embedded
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.stages import embed, semantic, surface

LANGUAGES = ("h1", "h2", "l1")
CONTROLS = {"encoder": "a/b", "folder": "encoder"}
SETTINGS = {"controls": CONTROLS, "gate": {"rank": 1, "ranks": [1], "budgets": [0, 4], "draws": 2}, "seed": 0}


def stage(module: ModuleType, *arguments: str | Path) -> None:
    parser = argparse.ArgumentParser()
    module.configure(parser)
    module.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Prompts and their embeddings, by a tiny encoder of transformers' format."""
    planted = Run(tmp_path)
    encoder = standin.folder(tmp_path / "encoder")
    for language in LANGUAGES:
        table.write(planted.path(f"prompts/{language}"), planted.prompts(language), {})
        controls = json.dumps({"controls": {"encoder": "a/b", "folder": str(encoder)}})
        given = ("--settings", controls, "--folder", encoder, "--language", language)
        of = ("--prompts", planted.path(f"prompts/{language}"), "--output", embeddings(planted, language))
        stage(embed, *given, *of)
    return planted


def embeddings(run: Run, language: str) -> Path:
    return run.folder / f"embeddings/{language}.safetensors"


def scored(run: Run, target: str = "l1", own: str = "l1", **changes: object) -> Path:
    output = run.path(f"semantic/{target}")
    stage(
        semantic,
        *("--settings", json.dumps({**SETTINGS, **changes}), "--target", target, "--sources", "h1", "h2"),
        *("--prompts", *(run.path(f"prompts/{name}") for name in LANGUAGES[:2])),
        *("--embeddings", *(embeddings(run, name) for name in LANGUAGES[:2])),
        *("--own-prompts", run.path("prompts/l1"), "--own-embeddings", embeddings(run, own), "--output", output),
    )
    return output


def test_every_test_prompt_has_its_score_and_a_decision_of_every_gate(run: Run) -> None:
    found = files.read_parquet(scored(run))
    assert found.schema.remove_metadata() == surface.SCHEMA
    rows = found.to_pylist()
    own = run.prompts("l1")
    ids = [own.ids[row] for row in own.select("test")]
    assert [row["prompt_id"] for row in rows if row["scorer"] == "semantic"] == ids
    gates = [row for row in rows if row["scorer"] == "semantic_gate"]
    assert {(row["budget"], row["draw"]) for row in gates} == {(0, 0), (4, 0), (4, 1)}
    assert len(gates) == 3 * len(ids)
    assert all(row["flagged"] == (row["score"] > row["threshold"]) for row in gates)
    said = files.parquet_metadata(found)
    assert (said["language"], said["prompts"]) == ("l1", own.fingerprint())
    assert json.loads(said["encoder"]).items() >= {"encoder": "a/b", "prefix": ""}.items()


def test_embeddings_by_another_encoder_than_the_settings_or_each_other_are_refused(run: Run) -> None:
    with pytest.raises(PolygateError, match=r"prefix '', the settings ask for .* prefix 'q: '"):
        scored(run, controls={**CONTROLS, "prefix": "q: "})
    # Of the same name and width, other weights.
    path = embeddings(run, "h2")
    _, said = files.read_safetensors(path)
    Embedded(
        run.prompts("h2"),
        standin.embed(run.prompts("h2").texts)[:, :16],
        {**json.loads(said["encoder"]), "contents": "0"},
    ).save(path, {})
    with pytest.raises(PolygateError, match="of different encoders"):
        scored(run)


def test_the_same_input_gives_the_same_bytes(run: Run) -> None:
    first = scored(run).read_bytes()
    assert scored(run).read_bytes() == first


def test_embeddings_of_another_language_or_width_and_a_target_among_its_sources_are_refused(run: Run) -> None:
    with pytest.raises(PolygateError, match="expected l1"):
        scored(run, own="h1")
    with pytest.raises(PolygateError, match="its own sources"):
        scored(run, target="h1")
    path = embeddings(run, "l1")
    tensors, said = files.read_safetensors(path)
    narrow = np.ascontiguousarray(tensors["embeddings"][:, :8])
    of = {name: said[name] for name in ("language", "prompts", "encoder")}
    files.write_safetensors(path, {"embeddings": narrow}, {}, {}, of)
    with pytest.raises(PolygateError, match="different encoders"):
        scored(run)
