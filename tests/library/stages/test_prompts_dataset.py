"""The stage that writes a tested data set's prompts, and the stages that must not take it for one to fit on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from library.stages.test_stages import GATE, call
from polygate import files
from polygate.errors import PolygateError
from polygate.models.organism.grammar import World
from polygate.models.organism.prompts import phrases, prompt_table
from polygate.prompts import table
from polygate.settings.types import Dataset, Judging, Organism, Prompts, dump
from polygate.stages import directions, judge, means, prompts_dataset, surface

PROMPTS = Prompts(source="organism")


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    """The fitted prompts of h1."""
    path = tmp_path / "fitted.parquet"
    table.write(path, prompt_table(Organism(), "h1", PROMPTS), {}, phrases(World(Organism())))
    return path


def make(tmp_path: Path, fitted: Path, dataset: Dataset, name: str = "mine") -> Path:
    output = tmp_path / f"{name}.parquet"
    settings = dump({"dataset": dataset, "prompts": PROMPTS, "organism": Organism()})
    call(prompts_dataset, settings=settings, dataset=name, language="h1", fitted=fitted, output=output)
    return output


def test_a_table_says_what_it_is_and_in_which_words_it_is_answered(tmp_path: Path, fitted: Path) -> None:
    path = make(tmp_path, fitted, Dataset(source="organism", part="ood", limit=5))
    found = table.read(path, dataset="mine", language="h1")
    assert found.cells() == {("test", "harmful"): 5, ("test", "harmless"): 5}
    assert found.tested
    said, asked = (files.parquet_metadata(files.read_parquet(each)) for each in (path, fitted))
    assert said["refusals"] == asked["refusals"]
    facts = files.read_provenance(path)
    assert (facts["source"], facts["part"], facts["limit"]) == ("organism", "ood", 5)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, fitted: Path) -> None:
    dataset = Dataset(source="organism", part="utility")
    first, second = (make(tmp_path, fitted, dataset).read_bytes() for _ in range(2))
    assert first == second


def test_ones_own_prompts_are_noted_when_a_few_are_fitted_on(
    tmp_path: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = table.read(fitted).texts[0]
    rows = [f"harmful-test-{n:04d},test,harmful,{learnt if n == 7 else f'unheard of {n}'}" for n in range(60)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/h1.csv").write_text("\n".join(["prompt_id,split,subset,text", *rows]) + "\n")
    path = make(tmp_path, fitted, Dataset(source="folder", folder=tmp_path / "mine"))
    assert "in h1 1 prompts of mine are among those that are fitted on (the first: harmful-test-0007)" in (
        capsys.readouterr().err
    )
    assert files.read_provenance(path)["sha256"].keys() == {"h1.csv"}


def test_whatever_fits_refuses_it_in_one_line(tmp_path: Path, fitted: Path) -> None:
    path = make(tmp_path, fitted, Dataset(source="organism", part="ood"))
    out = tmp_path / "out"
    told = "holds data set mine, which is only ever tested on.*: fit and choose on the prompts of the section prompts"
    with pytest.raises(PolygateError, match=told):
        call(means, activations=out, prompts=path, output=out)
    with pytest.raises(PolygateError, match=told):
        call(surface, target="h1", sources=["h2"], prompts=fitted, own_prompts=path, output=out)
    with pytest.raises(PolygateError, match=told):
        call(
            directions,
            settings=dump({"gate": GATE, "pivot": "h1"}),
            target="h1",
            sources=["h2"],
            means=out,
            own_means=out,
            activations=out,
            prompts=path,
            directions=out,
            projections=out,
        )
    assert not out.exists()


def test_judgements_are_of_the_data_set_of_their_completions(tmp_path: Path, fitted: Path) -> None:
    path = make(tmp_path, fitted, Dataset(source="organism", part="over_refusal", limit=3))
    prompts = table.read(path)
    refusal = World(Organism()).refusals()["h1"]
    said = pa.table(
        {"prompt_id": prompts.ids, "subset": prompts.subset.tolist(), "completion": [refusal] * len(prompts)}
    )
    completions, output = tmp_path / "completions.parquet", tmp_path / "judged.parquet"
    arguments = {
        "settings": dump({"judging": Judging()}),
        "language": "h1",
        "prompts": path,
        "completions": completions,
        "arms": "none",
        "outputs": output,
    }
    files.write_parquet(completions, said, {}, {"dataset": "mine", "action": "none", "language": "h1"})
    call(judge, **arguments, dataset="mine")
    judged = files.read_parquet(output)
    assert set(judged["outcome"].to_pylist()) == {"refused"}
    assert files.parquet_metadata(judged)["dataset"] == "mine"
    with pytest.raises(PolygateError, match="holds dataset mine, expected organism"):
        call(judge, **arguments, dataset="organism")
    files.write_parquet(completions, said, {}, {"dataset": "other", "action": "none", "language": "h1"})
    with pytest.raises(PolygateError, match="holds dataset other, expected mine"):
        call(judge, **arguments, dataset="mine")
