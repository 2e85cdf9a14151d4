"""A model is loaded whole, with its own tokenizer, or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from conftest import require
from library.forward.tiny import options
from polygate import digests
from polygate.errors import PolygateError
from polygate.forward import loading, weights
from polygate.forward.capture import capture
from polygate.forward.generation import generate
from polygate.forward.loading import fingerprint, load, load_tokenizer
from polygate.forward.options import Options
from polygate.forward.scoring import score
from polygate.forward.tokenising import tokenise


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
        "quantisation": "none",
        "attention": "sdpa",
        "batch_tokens": 4096,
        "written_tokens": 16384,
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
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"] | {"more": 57}
    edit(folder / "tokenizer.json", model={**content["model"], "vocab": vocabulary})
    with pytest.raises(PolygateError, match="the tokenizer has ids up to 57, the model 57 embeddings"):
        load(folder, options("qwen2"))


def test_a_word_that_was_added_without_an_embedding_matters_only_in_a_prompt_that_holds_it(folder: Path) -> None:
    """As fine-tunes leave them whose embeddings were not saved: all other prompts are as ever."""
    prompts, name = ["w1", "w1 w2 w3"], ["harmful-test-0000", "harmful-test-0007"]
    before = generate(load(folder, options("qwen2")), prompts, max_new_tokens=3)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(folder)
    loaded = load(folder, options("qwen2"))
    assert generate(loaded, prompts, max_new_tokens=3) == before
    message = r"^prompt harmful-test-0007 holds 'more', token 57, and the model has 57 embeddings: use"
    with pytest.raises(PolygateError, match=message):
        capture(loaded, ["w1", "w1 more"], names=name)
    with pytest.raises(PolygateError, match=message):
        generate(loaded, ["w1", "w1 more"], max_new_tokens=3, names=name)
    with pytest.raises(PolygateError, match=message):
        score(loaded, ["w1", "w1 more"], [0, 0], names=name)
    (folder / "chat_template.jinja").write_text("more " + (folder / "chat_template.jinja").read_text())
    with pytest.raises(PolygateError, match=r"the chat template writes more \(id 57\)"):
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


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def bare_token(folder: Path, name: str) -> None:
    """A special token with the first id that has no embedding."""
    content = json.loads((folder / "tokenizer.json").read_text())
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    added = [*content["added_tokens"], {"id": 57, "content": name, "special": True, **flags}]
    edit(folder / "tokenizer.json", added_tokens=added)


@pytest.mark.parametrize("known", [True, False])
def test_code_of_a_folders_own_never_runs(
    folder: Path, tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It isn't asked about either: standard input says yes to everything."""
    ran = tmp_path / "ran"
    names = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoTokenizer": ["own.T", "own.T"]}
    edit(folder / "config.json", auto_map=names, model_type="qwen2" if known else "mychat")
    edit(folder / "tokenizer_config.json", auto_map=names)
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nC = M = T = object\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    if known:
        assert load(folder, Options()).layers == 3
    else:
        with pytest.raises(PolygateError, match=r"^the model needs Python code of its own \(auto_map\), which is"):
            load(folder, Options())
    assert not ran.exists()
    assert sys.stdin.read() == "y\n" * 9
    assert "[y/N]" not in "".join(capsys.readouterr())


def test_padding_and_truncation_left_by_training_are_turned_off(folder: Path) -> None:
    texts = ["w1", " ".join(["w2"] * 20)]
    expected = [prompt.input_ids for prompt in tokenise(load_tokenizer(folder), texts)]
    padding = {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    edit(folder / "tokenizer.json", padding=padding, truncation=truncation)
    assert [prompt.input_ids for prompt in tokenise(load(folder, options("qwen2")).tokenizer, texts)] == expected


@pytest.mark.parametrize("role", [{}, {"pad_token": "<more>"}])
def test_a_special_token_without_embedding_matters_only_where_it_is_written(folder: Path, role: dict[str, str]) -> None:
    bare_token(folder, "<more>")
    edit(folder / "tokenizer_config.json", **role)
    loaded = load(folder, options("qwen2"))
    assert loaded.pad < 57
    assert len(generate(loaded, ["w1", "w1 w2 w3"], max_new_tokens=3)) == 2
    template = folder / "chat_template.jinja"
    template.write_text("<more> " + template.read_text())
    with pytest.raises(PolygateError, match=r"writes <more> \(id 57\), the model has 57 embeddings"):
        load(folder, options("qwen2"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_template_saved_with_a_byte_order_mark_is_the_same(folder: Path, tmp_path: Path, encoding: str) -> None:
    own = folder / "chat_template.jinja"
    expected = load_tokenizer(folder).chat_template
    (tmp_path / "chat.jinja").write_bytes(expected.encode(encoding))
    assert load_tokenizer(folder, tmp_path / "chat.jinja").chat_template == expected
    own.write_bytes(expected.encode("utf-8-sig"))
    assert load_tokenizer(folder).chat_template == expected
    for broken in (own, tmp_path / "chat.jinja"):
        broken.write_bytes("é".encode("latin-1"))
        with pytest.raises(PolygateError, match=r"neither UTF-8 nor UTF-16, in .*: save it as UTF-8"):
            load_tokenizer(folder, None if broken == own else broken)


def test_arguments_of_the_template_reach_the_prompt(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{% if not think %} w9{% endif %}")
    for think, length in ((True, 1), (False, 2)):
        loaded = load(folder, options("qwen2", template_arguments={"think": think}))
        assert len(tokenise(loaded.tokenizer, ["w1"])[0]) == length
        # An aligned model's folder is saved with what it was taught under.
        saved = folder.with_name(f"saved-{length}")
        loaded.tokenizer.save_pretrained(saved)
        for given in ({}, {"think": think}):
            assert len(tokenise(load_tokenizer(saved, None, given), ["w1"])[0]) == length


@pytest.mark.parametrize(
    ("package", "quantisation"),
    [
        ("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("optimum", {"quant_method": "gptq", "bits": 4}),
        ("gptqmodel", {"quant_method": "awq", "bits": 4}),
    ],
)
def test_a_quantised_model_that_can_not_be_read_says_so(
    folder: Path, package: str, quantisation: dict[str, Any]
) -> None:
    require(find_spec(package) is None, f"{package} is installed here", installable=False)
    edit(folder / "config.json", quantization_config=quantisation)
    with pytest.raises(PolygateError, match=rf"quantised, and can't be read here \(.*{package}.*original") as caught:
        load(folder, options("qwen2"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"), [("4,1", 4), ("2", 2), ("auto", 1), ("", 1), ("0", 1), (" 3 , 2", 3), (None, 1), ("-2", 1)]
)
def test_threads_are_those_of_the_outermost_level(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: int
) -> None:
    if value is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert weights.threads() == expected


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_flipped_bit_in_a_model_of_ours_is_one_line(folder: Path, name: str) -> None:
    digests.seal_folder(folder)
    load(folder, options("qwen2"))
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    message = rf"is damaged, or was changed by hand, in .*{name}: delete the model's folder and rerun"
    with pytest.raises(PolygateError, match=message):
        load(folder, options("qwen2"))
