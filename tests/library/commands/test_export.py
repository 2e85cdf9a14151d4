"""A gate for other programs: what is written says the same as the gate, to readers that know nothing of polygate."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from polygate import gates
from polygate.cli import main
from polygate.decision import export
from polygate.decision.gate import Gate

WIDTH, LAYER = 24, 2


def made(**more: Any) -> Gate:
    random = np.random.default_rng(8)
    v = random.normal(size=WIDTH)
    gate = Gate(
        basis=random.normal(size=(WIDTH, 3)).astype(np.float32),
        mean=random.normal(size=3),
        scale=random.uniform(0.5, 2, size=3),
        weights=random.normal(size=3),
        bias=0.3,
        threshold=0.25,
        v=(v / np.linalg.norm(v)).astype(np.float32),
        alpha=12.5,
        scope="layer",
        layer=LAYER,
        position="t_post_inst",
        solver="convex",
        threshold_from="examples",
        informative=True,
        language="sw",
        budget=4,
        draw=0,
        sources=("en",),
        balance={"en": (6, 7), "sw": (4, 4)},
    )
    return replace(gate, **more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gate's folder as `polygate calibrate` writes it, in the working directory."""
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "qwen2-sw-gate"
    found.mkdir()
    made().save(found / export.GATE, {"module": "here"})
    (found / "card.md").write_text("# Gates for sw\n\n## Use\n\nno\n\n## Promise\n\nMisses at most 10 %.\n")
    return found


def test_the_specification_is_enough_to_write_the_gate_anew(folder: Path) -> None:
    assert main(["export", str(folder), "--to", "safetensors"]) == 0
    written = Path("qwen2-sw-gate-safetensors")
    given, said = load_file(written / export.WEIGHTS), json.loads((written / export.SPECIFICATION).read_text())
    assert {name: (list(one.shape), str(one.dtype)) for name, one in given.items()} == {
        name: (one["shape"], one["dtype"]) for name, one in said["tensors"].items()
    }
    x = np.random.default_rng(2).normal(size=(40, WIDTH)).astype(np.float32)
    twin = []
    for row in x.tolist():
        c = [
            float(np.float32(sum(row[i] * float(given["basis"][i, k]) for i in range(WIDTH))))
            for k in range(len(given["weights"]))
        ]
        terms = [(c[k] - given["mean"][k]) / given["scale"][k] * given["weights"][k] for k in range(len(c))]
        twin.append(sum(terms) + given["bias"][0])
    gate = made()
    np.testing.assert_allclose(twin, gate.score(x), rtol=1e-6)
    assert [score > given["threshold"][0] for score in twin] == gate.decide(x).tolist()
    assert 0 < gate.decide(x).sum() < 40
    assert said["read"]["layer"] == LAYER
    assert f"block {LAYER}" in said["flagged"]
    assert "every token" in said["unflagged"]
    np.testing.assert_array_equal(given["alpha"][0], gate.alpha)
    np.testing.assert_array_equal(given["v"], gate.v)


def directions(path: Path) -> tuple[dict[str, Any], dict[int, NDArray[np.float32]]]:
    """What llama.cpp's loader would make of a control vector: metadata, and float32 [d] by block, from 1 on."""
    content = path.read_bytes()
    at = 0

    def take(form: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", content, at)
        at += struct.calcsize(f"<{form}")
        return value

    def text() -> str:
        nonlocal at
        length = take("Q")
        at += length
        return content[at - length : at].decode()

    magic, version, tensors, keys = take("4s"), take("I"), take("Q"), take("Q")
    assert (magic, version) == (b"GGUF", 3)
    metadata = {}
    for _ in range(keys):
        name, kind = text(), take("I")
        metadata[name] = {4: lambda: take("I"), 8: text}[kind]()
    described = []
    for _ in range(tensors):
        name, dimensions = text(), take("I")
        assert dimensions == 1
        described.append((name, take("Q"), take("I"), take("Q")))
    start = -(-at // metadata.get("general.alignment", 32)) * metadata.get("general.alignment", 32)
    found = {}
    for name, length, kind, offset in described:
        prefix, _, layer = name.partition(".")
        assert (prefix, kind) == ("direction", 0)
        assert int(layer) > 0
        found[int(layer)] = np.frombuffer(content, "<f4", length, start + offset)
    return metadata, found


def test_llama_cpp_reads_the_direction_at_its_block_and_is_told_what_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(folder / export.GATE), "--to", "gguf", "--output", "vector"]) == 0
    metadata, found = directions(Path("vector") / export.VECTOR)
    assert metadata["general.architecture"] == "controlvector"
    assert metadata["controlvector.layer_count"] == 1
    assert list(found) == [LAYER]
    gate = made()
    np.testing.assert_allclose(found[LAYER], gate.alpha * gate.v, rtol=1e-6)
    printed, page = capsys.readouterr().out, (Path("vector") / export.CARD).read_text()
    for sentence in export.LOST:
        assert sentence in printed
        assert sentence in page
        assert sentence in metadata["general.description"]


def test_what_llama_cpp_cannot_hold_or_is_of_another_model_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(layer=0).save(folder / "first.safetensors", {})
    assert main(["export", str(folder / "first.safetensors"), "--to", "gguf"]) == 1
    assert "llama.cpp steers the outputs of blocks 1 and up" in capsys.readouterr().err
    model = Path("model")
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps({"text_config": {"hidden_size": WIDTH, "num_hidden_layers": 4, "model_type": "gemma3_text"}})
    )
    assert main(["export", str(folder), "--to", "gguf", "--model", "model"]) == 0
    assert directions(Path("qwen2-sw-gate-gguf") / export.VECTOR)[0]["controlvector.model_hint"] == "gemma3"
    (model / "config.json").write_text(json.dumps({"hidden_size": 9, "num_hidden_layers": 4, "model_type": "llama"}))
    capsys.readouterr()
    assert main(["export", str(folder), "--to", "gguf", "--model", "model"]) == 1
    assert "the model has width 9" in capsys.readouterr().err


def test_the_hub_folder_is_a_gate_with_a_card_that_the_hub_reads(folder: Path) -> None:
    options = ["--base-model", "google/gemma-2-9b-it", "--licence", "gemma", "--output", "upload"]
    assert main(["export", str(folder), "--to", "hub", *options]) == 0
    ours = {path.name for path in Path("upload").iterdir()}
    assert ours == {export.GATE, export.SPECIFICATION, export.CARD}
    assert (Path("upload") / export.GATE).read_bytes() == (folder / export.GATE).read_bytes()
    x = np.random.default_rng(2).normal(size=(9, WIDTH))
    np.testing.assert_array_equal(gates.load("upload").score(x), made().score(x))
    _, header, page = (Path("upload") / export.CARD).read_text().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert facts["base_model"] == "google/gemma-2-9b-it"
    assert (facts["license"], facts["language"], facts["library_name"]) == ("gemma", ["sw"], "polygate")
    assert "Misses at most 10 %." in page
    assert "\nno\n" not in page
    assert str(folder.parent) not in page


def test_an_invented_language_is_not_told_the_hub_and_an_uninformative_gate_says_so() -> None:
    page = export.hub_card(made(language="l3", informative=False, threshold=np.inf))
    assert "language:" not in page.split("---\n")[1]
    assert "uninformative" in page


def test_an_export_replaces_an_export_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(folder), "--to", "safetensors", "--output", "out"]
    assert main(command) == main(command) == 0
    (Path("out") / "mine.txt").write_text("kept")
    assert main(command) == 1
    assert "no such export" in capsys.readouterr().err
    assert (Path("out") / "mine.txt").read_text() == "kept"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["absent", "folder", "prompts.csv", "model.safetensors"])
def test_what_is_no_gate_is_one_line_that_advises_to_delete_nothing(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be anything: a model's weights, the user's own prompts."""
    Path("folder").mkdir()
    Path("prompts.csv").write_text("text\nhello\n")
    save_file({"x": np.zeros(2)}, "model.safetensors")
    assert main(["export", name, "--to", "hub"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f", in {name}" in line
    assert line.endswith(
        ": give a whole gate: a file from a gates/ folder of a run, or the folder that calibrate wrote"
    )
    assert "delete" not in line


def test_commands_to_type_are_quoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder), "--to", "hub", "--output", "für alle"]) == 0
    assert "hf upload ORGANISATION/NAME 'für alle'\n" in capsys.readouterr().out
