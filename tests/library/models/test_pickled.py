"""Pickled weights become safetensors that transformers loads alike, and nothing in a pickle runs."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from library.prompts.translation import seq2seq
from polygate.errors import PolygateError
from polygate.models import pickled


def published(folder: Path, shape: seq2seq.Shape, shards: int) -> tuple[Path, Any]:
    """A translation model as NLLB is on the hub: pickles, which name tied weights several times; and the model."""
    seq2seq.folder(folder, shape)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    named = list(model.state_dict().items())
    for number in range(shards):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        torch.save(dict(named[number::shards]), folder / name)
    return folder, model


@pytest.mark.parametrize("shape", ["nllb", "t5"])
@pytest.mark.parametrize("shards", [1, 3])
def test_transformers_loads_what_it_would_have_loaded(tmp_path: Path, shape: seq2seq.Shape, shards: int) -> None:
    folder, model = published(tmp_path / "model", shape, shards)
    pickles = pickled.found(folder)
    assert len(pickles) == shards
    pickled.convert(pickles, folder)
    for path in pickles:
        path.unlink()
    names = [name for path in folder.glob("*.safetensors") for name in load_file(path)]
    assert len(names) == len(set(names)) < len(model.state_dict())
    found, report = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, weight in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name
    index = folder / "model.safetensors.index.json"
    assert index.is_file() == (shards > 1)
    if shards > 1:
        assert set(json.loads(index.read_text())["weight_map"]) == set(names)


class Opens:
    """What calls a function where pickle reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_something_is_refused_in_one_line_and_runs_nothing(tmp_path: Path) -> None:
    path, there = tmp_path / "pytorch_model.bin", tmp_path / "there"
    torch.save({"weight": torch.ones(2), "other": Opens(there)}, path)
    pickle.loads(pickle.dumps(Opens(there)))
    there.rmdir()  # So it does, where nobody looks.
    with pytest.raises(PolygateError, match=r"no plain tensors.*pytorch_model.bin: choose another model") as caught:
        pickled.convert([path], tmp_path)
    assert not there.exists()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path) -> None:
    for content in ([torch.ones(2)], {"weight": 1.0}, torch.ones(2)):
        torch.save(content, tmp_path / "pytorch_model.bin")
        with pytest.raises(PolygateError, match="no tensors by name"):
            pickled.convert([tmp_path / "pytorch_model.bin"], tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"<html>not found</html>")
    with pytest.raises(PolygateError, match="damaged"):
        pickled.convert([tmp_path / "pytorch_model.bin"], tmp_path)
    torch.save({"weight": torch.arange(5000.0)}, tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PolygateError, match="damaged"):
        pickled.convert([tmp_path / "pytorch_model.bin"], tmp_path)


def test_files_of_old_torch_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.arange(6.0).reshape(2, 3).T}, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    pickled.convert([path], tmp_path)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["weight"], torch.arange(6.0).reshape(2, 3).T)
