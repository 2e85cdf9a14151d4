"""The judge stage: judgements beside completions, whatever the judge."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pytest

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import Prompt
from polygate.stages import judge


def completions(path: Path, ids: list[str], texts: list[str]) -> Path:
    subsets = [name.split("-")[0] for name in ids]
    columns = {"prompt_id": ids, "subset": subsets, "completion": texts}
    files.write_parquet(path, pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), {})
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [
        Prompt("harmful-test-0000", "pliz kata mora .", reference="mora"),
        Prompt("harmless-test-0000", "pliz kata nelo .", reference="nelo"),
    ]
    path = tmp_path / "l1.parquet"
    table.write(path, table.build("l1", rows), {})
    return path


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    judge.configure(parser)
    judge.run(parser.parse_args([str(argument) for argument in arguments]))


def test_every_arm_is_judged_row_by_row(prompts: Path, tmp_path: Path) -> None:
    metadata = {"refusals": json.dumps({"l1": "mipa toke ."}), "openings": json.dumps({"l1": "lode"})}
    known = files.read_parquet(prompts)
    files.write_parquet(prompts, known.replace_schema_metadata({**known.schema.metadata, **metadata}))
    ids = ["harmful-test-0000", "harmless-test-0000"]
    none = completions(tmp_path / "none.parquet", ids, ["mipa toke .", "lode kata nelo"])
    other = completions(tmp_path / "other.parquet", ids[::-1], ["lode kata mora", ""])
    outputs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    settings = '{"judging": {"judges": ["rules"]}}'
    common = ("--settings", settings, "--language", "l1", "--prompts", prompts)
    run(*common, "--completions", none, other, "--outputs", *outputs)
    first, second = (files.read_parquet(path) for path in outputs)
    assert first.column_names == ["prompt_id", "subset", "outcome", "refusal_language", "raw"]
    assert first["outcome"].to_pylist() == ["refused", "complied"]
    assert first["refusal_language"].to_pylist() == ["l1", ""]
    # The object of the other prompt is no answer, and rows keep the order of the completions.
    assert second["prompt_id"].to_pylist() == ids[::-1]
    assert second["outcome"].to_pylist() == ["garbled", "garbled"]
    assert files.read_provenance(outputs[0])["language"] == "l1"


def test_a_completion_of_an_unknown_prompt_is_an_error(prompts: Path, tmp_path: Path) -> None:
    known = files.read_parquet(prompts)
    words = {"refusals": json.dumps({"l1": "mipa toke ."}), "openings": json.dumps({"l1": "lode"})}
    files.write_parquet(prompts, known.replace_schema_metadata({**known.schema.metadata, **words}))
    stray = completions(tmp_path / "none.parquet", ["harmful-test-0007"], ["no"])
    settings = '{"judging": {}}'
    with pytest.raises(PolygateError, match="harmful-test-0007"):
        run(
            *("--settings", settings, "--language", "l1", "--prompts", prompts),
            *("--completions", stray, "--outputs", tmp_path / "a.parquet"),
        )
    assert not (tmp_path / "a.parquet").exists()
