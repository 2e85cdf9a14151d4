"""Openings of answers: appended after the user's turn, and read over their own tokens alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from library.forward.tiny import WORDS, options
from polygate.errors import PolygateError
from polygate.forward import cells
from polygate.forward.capture import capture
from polygate.forward.job import Job
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise
from polygate.prompts import table
from polygate.prompts.table import OPENING
from polygate.representation.store import ActivationStore

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENINGS = ["w1", "w2 w3 w4 w5", "w6 w7", "w8 w9 w10 w11 w12 w13 w14", "w1 w1", "w2", *(f"w{i}" for i in range(6))]


def plain(folder: Path, prompts: list[str], openings: list[str]) -> list[torch.Tensor]:
    """The slow twin, by transformers alone: a text at a time, float64 means over the last tokens, [layers, d] each.

    The last block's output is not among the hidden states that transformers gives: those end with the final norm.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    found = []
    for text, opening in zip(prompts, openings, strict=True):
        ids = tokenizer.apply_chat_template([{"role": "user", "content": text}], return_dict=False)
        assert ids[-1] != tokenizer.convert_tokens_to_ids("<assistant>")
        begun = tokenizer(opening, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids + begun]), output_hidden_states=True).hidden_states
        found.append(torch.stack([one[0, -len(begun) :].double().mean(0) for one in hidden[1:-1]]))
    return found


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_an_openings_mean_is_that_of_a_plain_forward_pass(
    loaded: LoadedModel, prompts: list[str], batch_tokens: int
) -> None:
    few = dataclasses.replace(loaded, batch_tokens=batch_tokens)
    found = capture(few, prompts, [OPENING], openings=OPENINGS)
    expected = plain(Path(loaded.tokenizer.name_or_path), prompts, OPENINGS)
    for row, layers in enumerate(expected):
        assert len(layers) == loaded.layers - 1
        for layer, mean in enumerate(layers):
            ours = found.tensors[layer, OPENING][row].double()
            assert float((ours - mean).abs().max() / mean.abs().max()) < 1e-5


def test_openings_are_read_beside_other_positions(loaded: LoadedModel, prompts: list[str]) -> None:
    whole = capture(loaded, prompts, ["t_post_inst", OPENING, "mean"], openings=OPENINGS)
    alone = capture(loaded, prompts, [OPENING], openings=OPENINGS)
    last = loaded.layers - 1
    assert torch.equal(whole.tensors[last, OPENING], alone.tensors[last, OPENING])
    # An opening of one token is the last token of the whole.
    rows = [row for row, opening in enumerate(OPENINGS) if " " not in opening]
    assert torch.equal(whole.tensors[last, OPENING][rows], whole.tensors[last, "t_post_inst"][rows])
    assert not torch.equal(whole.tensors[last, OPENING], whole.tensors[last, "mean"])


def test_control_tokens_in_an_opening_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(PolygateError, match=r"prompt x holds <end>"):
        tokenise(loaded.tokenizer, ["w1"], ["x"], openings=["w2 <end>"])
    (prompt,) = tokenise(loaded.tokenizer, ["w1"], ["x"], openings=["w2 w3"])
    assert prompt.opening == 2


@pytest.fixture(scope="module")
def texts(shared_data: Path) -> tuple[list[str], list[str]]:
    """CAST's questions, and its openings of either kind."""
    questions = json.loads((shared_data / "cast/alpaca.json").read_text())["train"]
    openings = json.loads((shared_data / "cast/behavior_refusal.json").read_text())
    both = [text for key in ("non_compliant_responses", "compliant_responses") for text in openings[key]]
    return [row["question"] for row in questions[: len(both)]], both


@pytest.mark.parametrize(("name", "end"), [("qwen2", "<|im_end|>\n"), ("llama3", "<|eot_id|>")])
def test_real_openings_stand_after_the_turns_end_whole(
    shared_data: Path, texts: tuple[list[str], list[str]], name: str, end: str
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(shared_data / "tokenizers/qwen2", local_files_only=True)
    tokenizer.chat_template = CHATML
    if name == "llama3":
        special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer.add_special_tokens({"bos_token": special[0], "additional_special_tokens": special[1:]})
        tokenizer.chat_template = (shared_data / "tokenizers/llama3/chat_template.jinja").read_text()
    for opening, question, prompt in zip(texts[1], texts[0], tokenise(tokenizer, *texts_of(texts)), strict=True):
        ids = prompt.input_ids
        assert tokenizer.decode(ids[-prompt.opening :]) == opening
        before = tokenizer.decode(ids[: -prompt.opening])
        assert before.endswith(end)
        assert before.count("assistant") == question.count("assistant")
        assert tokenizer.decode(ids[: prompt.t_inst + 1]).endswith(question.strip())


def texts_of(texts: tuple[list[str], list[str]]) -> tuple[list[str], None, None, list[str]]:
    """Arguments of `tokenise`."""
    return texts[0], None, None, texts[1]


def write(folder: Path, openings: list[str]) -> Path:
    rows = [
        table.Prompt(table.prompt_id("harmless", "train", i), " ".join(WORDS[: i + 1]), opening=opening)
        for i, opening in enumerate(openings)
    ]
    path = folder / f"{len(list(folder.iterdir()))}.parquet"
    table.write(path, table.build("en", rows), {})
    return path


def job(folder: Path, model: Path, prompts: Path, task: str = "capture", **more: Any) -> Job:
    given = {"positions": [OPENING], "cache": folder / "cells", "output": folder / "out", "arm": "none", **more}
    described = {"model": dataclasses.asdict(options("qwen2")), "model_folder": model, "prompts": prompts, **given}
    return Job.parse({"task": task, "max_new_tokens": 1, **described})


def test_a_job_of_openings_has_a_cell_of_its_own(tmp_path: Path, folders: dict[str, Path]) -> None:
    first, other = write(tmp_path, ["w1 w2", "w3"]), write(tmp_path, ["w1 w2", "w4"])
    jobs = [job(tmp_path, folders["qwen2"], path) for path in (first, other)]
    assert len({cells.key(one, one.read(), "model") for one in jobs}) == 2
    for one, name in zip(jobs, ("first", "other"), strict=True):
        cells.run(one, jobs, tmp_path / name, lambda _: None)
    stores = [ActivationStore.open(tmp_path / name) for name in ("first", "other")]
    same, different = [
        bool((stores[0].read(1, OPENING, [row]) == stores[1].read(1, OPENING, [row])).all()) for row in (0, 1)
    ]
    assert same
    assert not different
    assert len({store.metadata["prompts"] for store in stores}) == 2


def test_what_no_job_can_mean_is_one_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    begun, alone = write(tmp_path, ["w1 w2", "w3"]), write(tmp_path, ["", ""])
    with pytest.raises(PolygateError, match="its prompts have openings: they are read, not answered"):
        job(tmp_path, folders["qwen2"], begun, "generate").read()
    with pytest.raises(PolygateError, match="its prompts have no openings to read"):
        job(tmp_path, folders["qwen2"], alone).read()
