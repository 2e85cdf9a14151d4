"""A model is loaded whole, with its own tokenizer, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from library.model.tiny import options
from polygate.errors import PolygateError
from polygate.model import loading
from polygate.model.loading import fingerprint, load, load_tokenizer
from polygate.model.options import Options


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the Qwen2 model's folder, to be spoilt."""
    return Path(shutil.copytree(folders["qwen2"], tmp_path / "model"))


def test_the_tokenizer_is_the_one_in_tokenizer_json(folder: Path) -> None:
    text = "w1 w2 w49 w0"
    ours = load_tokenizer(folder)
    assert ours.decode(ours(text, add_special_tokens=False)["input_ids"]) == text
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "Qwen2Tokenizer"}))
    guessed = AutoTokenizer.from_pretrained(folder)
    assert guessed.decode(guessed(text)["input_ids"]) != text, "the class that the name suggests drops words"
    again = load_tokenizer(folder)
    assert again.decode(again(text, add_special_tokens=False)["input_ids"]) == text


def test_what_a_loaded_model_says_of_itself(folder: Path) -> None:
    loaded = load(folder, options("qwen2"), "abc")
    assert (loaded.layers, loaded.width, len(loaded.blocks)) == (3, 32, 3)
    assert loaded.facts() == {
        "dtype": "float32",
        "attention": "sdpa",
        "batch_tokens": 16384,
        "device": "cpu" if loaded.device.type == "cpu" else torch.cuda.get_device_name(0),
        "fingerprint": "abc",
    }
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_an_answer_ends_where_the_model_the_tokenizer_or_the_template_says(folder: Path) -> None:
    ids = load_tokenizer(folder).convert_tokens_to_ids(["<eos>", "<end>"])
    assert load(folder, options("qwen2")).stop == frozenset(ids), "<end> is known from the template alone"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_come_in_the_dtype_asked_for(folder: Path, dtype: str) -> None:
    assert load(folder, options("qwen2", dtype=dtype)).model.dtype == getattr(torch, dtype)


def spoil_weights(folder: Path, how: str) -> None:
    path = folder / "model.safetensors"
    if how == "absent":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "not safetensors":
        path.write_bytes(b"<html>not found</html>")
    else:
        weights = load_file(path)
        name = "model.layers.1.mlp.up_proj.weight"
        if how == "one missing":
            del weights[name]
        elif how == "wrong shape":
            weights[name] = weights[name][:-1].clone()
        else:
            weights[name][3, 4] = float(how)
        save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("absent", "can't be loaded"),
        ("truncated", "can't be loaded"),
        ("not safetensors", "can't be loaded"),
        ("one missing", r"1 weights are missing .*layers\.1\.mlp\.up_proj"),
        ("wrong shape", "up_proj|can't be loaded"),
        ("nan", r"layers\.1\.mlp\.up_proj\.weight hold NaN"),
        ("inf", r"layers\.1\.mlp\.up_proj\.weight hold NaN or infinity"),
    ],
)
def test_spoilt_weights_are_one_line_and_no_model(folder: Path, how: str, message: str) -> None:
    spoil_weights(folder, how)
    with pytest.raises(PolygateError, match=message) as caught:
        load(folder, options("qwen2"))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_model_tokenizer_or_template(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match=r"config\.json is missing"):
        load(tmp_path / "nowhere", options("qwen2"))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PolygateError, match="no chat template"):
        load(folder, options("qwen2"))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(PolygateError, match="no usable tokenizer"):
        load(folder, options("qwen2"))


def test_a_chat_template_can_be_given(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    with pytest.raises(PolygateError, match="can't be read"):
        load(folder, options("qwen2", chat_template=template))
    template.write_text("{{ bos_token }}<user> {{ messages[0]['content'] }} <assistant>")
    assert load(folder, options("qwen2", chat_template=template)).tokenizer.chat_template == template.read_text()


def test_attention_that_a_model_does_not_have_is_refused(folders: dict[str, Path]) -> None:
    """Gemma 2 caps attention scores, which sdpa can't: running it all the same would give other numbers."""
    with pytest.raises(PolygateError, match="eager"):
        load(folders["gemma2"], Options(attention="sdpa"))


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(PolygateError, match="embeddings"):
        load(folder, options("qwen2"))


def test_the_fingerprint_is_that_of_the_contents(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = fingerprint(folder, cache)
    (folder / "README.md").write_text("notes don't count")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("nor do hidden files")
    elsewhere = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    os.utime(elsewhere / "model.safetensors", (1, 1))
    assert fingerprint(folder, cache) == fingerprint(elsewhere, cache) == first
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    os.utime(folder / "model.safetensors", (2, 2))
    assert fingerprint(folder, cache) != first
    with pytest.raises(PolygateError, match="no model"):
        fingerprint(tmp_path / "nowhere", cache)


def test_weights_are_hashed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = loading._file_hash

    def counting(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(loading, "_file_hash", counting)
    first = fingerprint(folder, tmp_path / "cache")
    assert "model.safetensors" in hashed
    hashed.clear()
    assert fingerprint(folder, tmp_path / "cache") == first
    assert hashed == []
