"""Exports: the specification's own code decides as the gate does; a control vector is α·v after the gate's block."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from gguf import GGUFReader

from polygate import cli
from polygate.decision import exports
from polygate.decision.gate import Gate
from polygate.errors import PolygateError

WIDTH, RANK = 12, 3


@pytest.fixture
def gate() -> Gate:
    random = np.random.default_rng(0)
    v = random.normal(size=WIDTH)
    return Gate(
        basis=random.normal(size=(WIDTH, RANK)).astype(np.float32),
        mean=random.normal(size=RANK),
        scale=random.random(RANK) + 0.5,
        weights=random.normal(size=RANK),
        bias=0.3,
        threshold=0.1,
        v=(v / np.linalg.norm(v)).astype(np.float32),
        alpha=7.5,
        scope="none",
        layer=4,
        position="t_post_inst",
        solver="convex",
        threshold_from="examples",
        informative=True,
        language="l1",
        budget=4,
        draw=0,
        sources=("h1", "h2"),
        balance={"h1": (5, 5)},
    )


def test_the_specification_alone_decides_as_the_gate_does(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of README.md, run as it stands in the folder: numpy and safetensors, nothing of ours."""
    exports.weights(gate, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    assert "polygate" not in code
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    x = np.random.default_rng(1).normal(size=(200, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(found["score"](x), gate.score(x), rtol=1e-12)
    np.testing.assert_array_equal(found["harmful"](x), gate.decide(x))
    assert 0 < gate.decide(x).sum() < 200


def test_weights_are_arrays_and_everything_else_is_json(gate: Gate, tmp_path: Path) -> None:
    exports.weights(gate, tmp_path)
    facts = json.loads((tmp_path / "gate.json").read_text())
    for name in ("bias", "threshold", "alpha", "layer", "scope", "position", "language"):
        assert facts[name] == getattr(gate, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "gate.json", "gate.safetensors"]
    assert "7.5 * v" in (tmp_path / "README.md").read_text()


def test_a_control_vector_is_what_flagged_prompts_are_steered_by(gate: Gate, tmp_path: Path) -> None:
    exports.control_vector(gate, tmp_path / "v.gguf", "qwen2")
    reader = GGUFReader(tmp_path / "v.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"  # type: ignore[union-attr]
    assert reader.get_field("controlvector.model_hint").contents() == "qwen2"  # type: ignore[union-attr]
    (tensor,) = reader.tensors
    assert tensor.name == "direction.4"
    np.testing.assert_allclose(np.asarray(tensor.data), 7.5 * gate.v, rtol=1e-6)


def test_block_0_has_no_control_vector(gate: Gate, tmp_path: Path) -> None:
    first = replace(gate, layer=0)
    with pytest.raises(PolygateError, match="can't act after block 0"):
        exports.control_vector(first, tmp_path / "v.gguf")
    exports.hub_folder(first, tmp_path, base_model="", licence="", architecture="", card="")
    assert not (tmp_path / "refusal.gguf").exists()
    assert "there is none" in (tmp_path / "README.md").read_text()


def test_the_command_writes_every_format_from_a_file_or_a_folder(
    gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    gate.save(folder / "gate.safetensors", {})
    (folder / "card.md").write_text("# Gates for l1\n\n## Thresholds\n\nof the card\n")
    hub = ["--base-model", "a/b", "--licence", "apache-2.0", "--output", str(tmp_path / "hub")]
    assert cli.main(["export", str(folder), "--to", "hub", *hub]) == 0
    assert (tmp_path / "hub/refusal.gguf").is_file()
    text = (tmp_path / "hub/README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert (head["base_model"], head["license"], head["library_name"]) == ("a/b", "apache-2.0", "polygate")
    assert "of the card" in text
    file = str(folder / "gate.safetensors")
    assert cli.main(["export", file, "--to", "gguf", "--output", str(tmp_path / "v.gguf")]) == 0
    assert "can't route" in capsys.readouterr().out
    assert cli.main(["export", file, "--to", "safetensors", "--output", str(tmp_path / "plain")]) == 0
    # Again over its own export, but over nobody else's folder.
    assert cli.main(["export", file, "--to", "safetensors", "--output", str(tmp_path / "plain")]) == 0
    assert cli.main(["export", file, "--to", "safetensors", "--output", str(folder)]) == 1
    assert "is there already, and no exported gate" in capsys.readouterr().err
    assert (folder / "card.md").is_file()
