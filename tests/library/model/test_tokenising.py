"""Every path sees the same tokens: the chat template's, with one beginning-of-sequence token."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polygate.errors import PolygateError
from polygate.model.tokenising import render, tokenise


def word_level(template: str | None, words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that adds a start token of its own whenever it is allowed to, as Llama's and Gemma's do."""
    vocabulary = {word: i for i, word in enumerate(["<bos>", "<unk>", "<end>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>", additional_special_tokens=["<end>"]
    )
    fast.chat_template = template
    return fast


PLAIN = "{{ bos_token }}{% for m in messages %}{{ m['content'] }} <end>{% endfor %} reply"


def test_the_template_alone_writes_the_start_token() -> None:
    tokenizer = word_level(PLAIN, ["a", "b", "reply"])
    (prompt,) = tokenise(tokenizer, ["a b"])
    assert tokenizer.convert_ids_to_tokens(list(prompt.input_ids)) == ["<bos>", "a", "b", "<end>", "reply"]
    twice = tokenizer(render(tokenizer, ["a b"])[0])["input_ids"]
    assert twice.count(tokenizer.bos_token_id) == 2, "this tokenizer would show the defect"


def test_positions_and_count() -> None:
    tokenizer = word_level(PLAIN, ["a", "b", "reply"])
    one, two = tokenise(tokenizer, ["a", "a b a"])
    assert (one.t_inst, one.t_post_inst, one.token_count) == (1, 3, 1)
    assert (two.t_inst, two.t_post_inst, two.token_count) == (3, 5, 3), "counted without template and start token"


def test_more_start_tokens_than_the_template_writes_are_refused() -> None:
    tokenizer = word_level(PLAIN, ["a", "reply"])
    with pytest.raises(PolygateError, match=r"prompt harmful-test-0001 has 2 beginning-of-sequence tokens"):
        tokenise(tokenizer, ["a", "a <bos> a"], ["harmful-test-0000", "harmful-test-0001"])
    with pytest.raises(PolygateError, match="twice"):
        tokenise(word_level("<bos> " + PLAIN, ["a"]), ["a"])


def test_a_start_token_that_opens_every_turn_is_the_templates_business() -> None:
    tokenizer = word_level("{{ bos_token }} sys <end> {{ bos_token }} {{ messages[0]['content'] }} <end>", ["a", "sys"])
    (prompt,) = tokenise(tokenizer, ["a"])
    assert list(prompt.input_ids).count(tokenizer.bos_token_id) == 2


@pytest.mark.parametrize(
    ("template", "message"),
    [(None, "no chat template"), ("<bos> hello", "leaves out the user's text")],
)
def test_a_template_that_can_not_serve_is_refused(template: str | None, message: str) -> None:
    with pytest.raises(PolygateError, match=message):
        tokenise(word_level(template, ["hello"]), ["a"])


def test_a_result_does_not_depend_on_the_day() -> None:
    template = "{% if not date_string is defined %}{% set date_string = strftime_now('%Y') %}{% endif %}"
    tokenizer = word_level(template + "<bos> {{ date_string }} {{ messages[0]['content'] }}", ["a"])
    assert render(tokenizer, ["a"]) == ["<bos> 26 Jul 2024 a"]


@pytest.fixture(scope="module")
def real_prompts(shared_data: Path) -> list[str]:
    """The first harmful and harmless test prompts of languages with quite different scripts."""
    prompts = []
    for language in ("yo", "ja", "ar", "th", "ru", "ko"):
        for subset in ("harmful", "harmless"):
            rows = json.loads((shared_data / "polyrefuse" / f"{subset}_test_translated_{language}.json").read_text())
            prompts += [row["instruction_translated"] for row in rows[:10]]
    return prompts


@pytest.fixture(scope="module")
def qwen2(shared_data: Path) -> Any:
    """The real Qwen2 tokenizer: byte-level BPE with NFC normalisation, no start token."""
    return AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "qwen2", local_files_only=True)


def check_positions(tokenizer: Any, prompts: list[str], turn_end: str) -> None:
    """The token after t_inst closes the user's turn; what ends at t_inst is the instruction."""
    for text, prompt in zip(prompts, tokenise(tokenizer, prompts), strict=True):
        assert tokenizer.decode([prompt.input_ids[prompt.t_inst + 1]]) == turn_end
        said = tokenizer.decode(prompt.input_ids[: prompt.t_inst + 1])
        assert said.endswith(unicodedata.normalize("NFC", text.strip()))
        assert prompt.t_post_inst == len(prompt) - 1 > prompt.t_inst
        assert prompt.token_count == len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_real_qwen2_tokenizer(qwen2: Any, real_prompts: list[str]) -> None:
    check_positions(qwen2, real_prompts, "<|im_end|>")


@pytest.fixture(scope="module")
def llama3(shared_data: Path) -> Any:
    """The real Llama-3 chat template and special tokens over a real byte-level vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "qwen2", local_files_only=True)
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens({"bos_token": special[0], "additional_special_tokens": special[1:]})
    tokenizer.chat_template = (shared_data / "tokenizers" / "llama3" / "chat_template.jinja").read_text()
    return tokenizer


def test_llama3_template_which_strips_the_instruction(llama3: Any, real_prompts: list[str]) -> None:
    check_positions(llama3, [*real_prompts, "  Tell me a story. \n", "assistant\n"], "<|eot_id|>")
    for prompt in tokenise(llama3, real_prompts):
        assert list(prompt.input_ids).count(llama3.bos_token_id) == 1
        assert prompt.input_ids[0] == llama3.bos_token_id


def test_an_instruction_that_repeats_the_template_is_found_where_it_stands(llama3: Any) -> None:
    text = "user assistant <|eot_id|> user"
    (prompt,) = tokenise(llama3, [text])
    assert llama3.decode(prompt.input_ids[: prompt.t_inst + 1]).endswith(text)
