"""`polygate bundle`: a record that is whole, the same each time, and names neither a prompt nor a machine."""

from __future__ import annotations

import getpass
import hashlib
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from library.commands.placed import DATASET, Placed
from library.tables.run import read
from polygate import cli, files
from polygate.prompts import table

SAID = "the very words of a completion"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    found = Placed(
        tmp_path_factory.mktemp("results") / "some", models=("alpha",), acts={"high": 1, "mid": 1, "low": 0.5}
    )
    found.finish()
    answer = {"answer": "in part", "sentence": "It does & doesn't, .98 [.97, .99].", "short": "does"}
    answers = {"alpha": dict.fromkeys(("know", "act", "repair"), answer), "order": ["alpha"]}
    files.write_json(found.folder / "tables/findings.json", {"models": answers, "order": ["alpha"]})
    files.write_csv(found.folder / "tables/refusal.csv", "model,estimate\nalpha,.5\n")
    files.write_csv(found.folder / "tables/samples.csv", f"model,unsteered\nalpha,{SAID}\n")
    files.write_text(found.folder / "report/samples.html", SAID)
    files.write_text(found.folder / "report/paper_vs_measured.html", "<p>measured</p>")
    files.write_text(found.folder / "figures/answers.svg", "<svg><title>Knows &amp; acts</title></svg>")
    files.write_csv(found.folder / "figures/answers.csv", "model,value\nalpha,1\n")
    return found


def bundle(run: Placed, output: Path, *more: str) -> int:
    return cli.main(["bundle", str(run.folder), "--output", str(output), *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def record(run: Placed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("records") / "record"
    assert bundle(run, output) == 0
    return output


def test_it_holds_the_tables_figures_answers_and_settings(run: Placed, record: Path) -> None:
    found = contents(record)
    for name in ("tables/findings.json", "tables/refusal.csv", "figures/answers.svg", "report/paper_vs_measured.html"):
        assert found[name] == (run.folder / name).read_bytes()
    assert found["settings.yaml"] == (run.folder / "report/config.yaml").read_bytes()
    page = found["report.html"].decode()
    assert page.count("It does &amp; doesn&#x27;t, .98 [.97, .99].") == 3
    assert '<img src="figures/answers.svg" alt="Knows &amp; acts"' in page
    assert not any(Path(name).name.startswith(".") for name in found)


def test_it_names_no_prompt_no_completion_no_machine_and_nobody(run: Placed, record: Path, root: Path) -> None:
    texts = {
        text.encode()
        for path in (run.folder / "prompts").rglob("*.parquet")
        for text in table.read(path, align=True).texts
        if len(text) > 8
    }
    assert len(texts) > 20
    private = [str(run.folder), str(Path.cwd()), str(Path.home()), str(root), socket.gethostname(), SAID]
    if len(getpass.getuser()) > 4:
        private.append(getpass.getuser())
    for name, content in contents(record).items():
        assert not any(text in content for text in texts), name
        assert not any(word.encode() in content for word in private), name


def test_prompts_are_there_by_the_hash_of_their_text(run: Placed, record: Path) -> None:
    rows = {(row["dataset"], row["language"], row["prompt_id"]): row for row in read(record / "prompts.csv")}
    prompts = table.read(run.path("prompts/l1"))
    for name, split, text in zip(prompts.ids, prompts.split, prompts.texts, strict=True):
        row = rows[DATASET, "l1", name]
        assert (row["split"], row["sha256"]) == (split, hashlib.sha256(text.encode()).hexdigest())
    assert len(rows) == sum(len(table.read(path)) for path in (run.folder / "prompts").rglob("*.parquet"))


def test_its_checksums_are_those_that_everybody_can_check(record: Path, tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    check = ["sha256sum", "--check", "--strict", "checksums.sha256"]
    said = subprocess.run(check, cwd=record, capture_output=True, text=True, check=True).stdout
    assert said.count(": OK") == len(contents(record)) - 1
    broken = tmp_path / "broken"
    shutil.copytree(record, broken)
    (broken / "tables/refusal.csv").write_text("model,estimate\nalpha,.6\n")
    assert subprocess.run(check, cwd=broken, capture_output=True, check=False).returncode == 1


def test_the_same_results_make_the_same_bytes(run: Placed, record: Path, tmp_path: Path) -> None:
    assert bundle(run, tmp_path / "again") == 0
    assert contents(tmp_path / "again") == contents(record)


def test_it_is_described_as_an_ro_crate(record: Path) -> None:
    """The rules of RO-Crate 1.1: one description about a root, which has a name, a date, and every file as a part."""
    described: dict[str, Any] = json.loads((record / "ro-crate-metadata.json").read_text())
    assert described["@context"] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in described["@graph"]}
    assert len(graph) == len(described["@graph"])
    descriptor = graph["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = graph[descriptor["about"]["@id"]]
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished"} <= root.keys()
    parts = {part["@id"] for part in root["hasPart"]}
    found = contents(record)
    assert parts == found.keys() - {"ro-crate-metadata.json", "checksums.sha256"}
    for name in parts:
        assert graph[name]["@type"] == "File"
        assert graph[name]["contentSize"] == str(len(found[name]))
        assert graph[name]["sha256"] == hashlib.sha256(found[name]).hexdigest()
    references = [value["@id"] for entity in graph.values() for value in _values(entity) if set(value) == {"@id"}]
    assert all(name in graph or name.startswith("https://") for name in references)


def _values(entity: dict[str, Any]) -> list[dict[str, Any]]:
    flat = [one for value in entity.values() for one in (value if isinstance(value, list) else [value])]
    return [value for value in flat if isinstance(value, dict)]


def test_what_made_the_files_is_counted(run: Placed, record: Path) -> None:
    made = json.loads((record / "made_by.json").read_text())
    stores = [path for pattern in ("*.parquet", "*.safetensors") for path in run.folder.rglob(pattern)]
    named = [said for path in stores if "module" in (said := files.read_provenance(path))]
    assert sum(one["files"] for one in made) == len(named)


def test_prompts_and_completions_go_in_when_asked_for(run: Placed, tmp_path: Path) -> None:
    assert bundle(run, tmp_path / "whole", "--with-completions", "--licence", "https://example.org/licence") == 0
    found = contents(tmp_path / "whole")
    assert SAID.encode() in found["tables/samples.csv"]
    assert SAID.encode() in found["report/samples.html"]
    for path in [*run.folder.glob("*/completions/*/*/*.parquet"), *run.folder.glob("prompts/*/*.parquet")]:
        assert found[str(path.relative_to(run.folder))] == path.read_bytes()
    assert b'"license": {\n        "@id": "https://example.org/licence"' in found["ro-crate-metadata.json"]


def test_a_run_that_is_not_finished_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unfinished/tables").mkdir(parents=True)
    assert cli.main(["bundle", str(tmp_path / "unfinished"), "--output", str(tmp_path / "record")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("polygate bundle: not the results of a finished run (no tables/findings.json)")
    assert said.count("\n") == 1
    assert not (tmp_path / "record").exists()


def test_half_a_run_is_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Placed) -> None:
    shutil.copytree(run.folder, tmp_path / "half")
    lost = next((tmp_path / "half/prompts").glob("*/*.parquet"))
    lost.unlink()
    assert cli.main(["bundle", str(tmp_path / "half"), "--output", str(tmp_path / "record")]) == 1
    assert f"the run has lost {lost.relative_to(tmp_path / 'half')}, in " in capsys.readouterr().err
    assert not (tmp_path / "record").exists()


def test_a_folder_that_is_no_record_is_left_alone(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    assert bundle(run, tmp_path / "mine") == 1
    assert "is there already, and no record" in capsys.readouterr().err
    assert contents(tmp_path / "mine") == {"notes.txt": b"mine"}


def test_a_record_that_somebody_has_added_to_is_left_alone(
    run: Placed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bundle(run, tmp_path / "mine") == bundle(run, tmp_path / "mine") == 0
    (tmp_path / "mine/notes.txt").write_text("mine")
    before = contents(tmp_path / "mine")
    assert bundle(run, tmp_path / "mine") == 1
    assert "is there already, and no record" in capsys.readouterr().err
    assert contents(tmp_path / "mine") == before


def test_a_file_that_names_a_path_of_this_machine_stops_it(
    run: Placed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    copied = tmp_path / "copied"
    shutil.copytree(run.folder, copied)
    (copied / "report/paper_vs_measured.html").write_text(f"see {tmp_path}/secret")
    assert cli.main(["bundle", str(copied), "--output", str(tmp_path / "record")]) == 1
    assert "names a path of this machine, in report/paper_vs_measured.html" in capsys.readouterr().err
    assert not (tmp_path / "record").exists()
