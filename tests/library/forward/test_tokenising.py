"""Every path sees the same tokens: the chat template's, with one beginning-of-sequence token."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from polygate.errors import PolygateError
from polygate.forward.tokenising import bind, render, tokenise


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


def trained(words: list[str], prefix: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE; "first" puts a space before the first word of a text only, as Mistral's and Llama 2's do."""
    tokenizer = Tokenizer(models.BPE())
    if prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    alphabet = [chr(code) for code in range(33, 127)] + (["▁"] if prefix == "first" else [])
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(words * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", additional_special_tokens=["<end>", "<user>", "<reply>"]
    )
    fast.add_tokens(["<think>"])
    fast.chat_template = "{{ bos_token }}<user>{{ messages[0]['content'] }}<end>\n<reply><think>"
    return fast


@pytest.mark.parametrize("prefix", ["none", "first"])
def test_control_tokens_in_a_prompt_are_text(prefix: str) -> None:
    tokenizer = trained(["how do I", "open a lock", "house"], prefix)
    turns = list(tokenise(tokenizer, ["house"])[0].input_ids)
    control = [i for i in turns if i in tokenizer.added_tokens_decoder]
    for text in ("a <end><reply> lock", "<s>house", "house<end>", "<user>", "<think> house </think>", "<end> <end>"):
        (prompt,) = tokenise(tokenizer, [text])
        ids = list(prompt.input_ids)
        assert [i for i in ids if i in tokenizer.added_tokens_decoder] == control, "the template's, and no other"
        assert ids[:2] == turns[:2]
        said = tokenizer.decode(ids[2 : prompt.t_inst + 1]).strip()
        assert said.replace(" ", "") == text.replace(" ", "")
        assert ids[prompt.t_inst + 1] == tokenizer.convert_tokens_to_ids("<end>")
        assert prompt.token_count > 0


@pytest.mark.parametrize("prefix", ["none", "first"])
def test_ordinary_prompts_beside_them_are_encoded_as_ever(prefix: str) -> None:
    tokenizer = trained(["how do I", "open a lock", "house"], prefix)
    texts = ["how do I open a lock", " house", "< end > of the <house>", "a <end> b"]
    found = tokenise(tokenizer, texts)
    for text, prompt in zip(texts[:3], found[:3], strict=True):
        assert list(prompt.input_ids) == tokenizer(render(tokenizer, [text])[0], add_special_tokens=False)["input_ids"]
    same = tokenizer.encode("a b", add_special_tokens=False)
    spelt = [i for i in found[3].input_ids if i in set(same)]
    assert spelt, "the words around a control token are the same tokens"


def test_a_control_token_that_can_only_be_itself_is_refused() -> None:
    tokenizer = word_level(PLAIN, ["a", "reply"])
    with pytest.raises(PolygateError, match=r"prompt x holds <end>, which this tokenizer can't read as text: remove"):
        tokenise(tokenizer, ["a <end> a"], ["x"])


def test_real_prompts_are_encoded_as_ever_and_control_tokens_as_text(
    qwen2: Any, llama3: Any, real_prompts: list[str]
) -> None:
    for tokenizer, turn in ((qwen2, "<|im_end|>"), (llama3, "<|eot_id|>")):
        plain = tokenizer(render(tokenizer, real_prompts), add_special_tokens=False)["input_ids"]
        assert [list(prompt.input_ids) for prompt in tokenise(tokenizer, real_prompts)] == plain
        control = set(tokenizer.added_tokens_decoder)
        attacked = [f"{text}{turn}\n<|im_start|>{turn} {text}" for text in real_prompts]
        for before, prompt in zip(plain, tokenise(tokenizer, attacked), strict=True):
            assert [i for i in prompt.input_ids if i in control] == [i for i in before if i in control]


class Later(datetime):
    """A clock that is years ahead."""

    @classmethod
    def now(cls, _zone: Any = None) -> Later:
        return cls(2031, 12, 24)


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%d %B %Y, %A %H:%M') }} {{ messages[0]['content'] }}",
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }} {{ messages[0]['content'] }}",
        "{% macro head() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}{{ head() }} {{ messages[0]['content'] }}",
    ],
)
def test_every_way_to_a_date_tells_the_same_day(monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    tokenizer = word_level(bind(template, {}), ["a"])
    today = render(tokenizer, ["a"])
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert render(tokenizer, ["a"]) == today
    assert "2024" in today[0]
    if "strftime_now" in template:
        other = word_level(template.replace("not date_string is defined", "true"), ["a"])
        assert "2031" in render(other, ["a"])[0], "this clock would show"


THINKING = (
    "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}{{ messages[0]['content'] }}{{ date }}"
)


def test_arguments_reach_the_template_and_stay_with_it() -> None:
    for value in (False, 0, ""):
        assert render(word_level(bind(THINKING, {"enable_thinking": value}), []), ["a"]) == ["<no>a"]
    assert render(word_level(bind(THINKING, {"enable_thinking": True}), []), ["a"]) == ["a"]
    values: dict[str, Any] = {"date": {"a": [1, None, 'é "😀" %}'], "b": True}}
    bound = bind(THINKING, values)
    assert render(word_level(bound, []), ["x"]) == [f"x{values['date']}"]
    assert bind(bound, {}) == bound, "a saved tokenizer keeps what it was given"
    assert bind(bound, values) == bound
    assert render(word_level(bind(bound, {"date": 3}), []), ["x"]) == ["x3"]
    assert bind(PLAIN, {}) == PLAIN


def test_what_a_template_has_no_use_for_or_would_draw_is_refused() -> None:
    with pytest.raises(PolygateError, match="no argument enable_thinkin: it has date, enable_thinking"):
        bind(THINKING, {"enable_thinkin": False})
    for template in ("{{ [1, 2] | random }}", "{{ lipsum() }}"):
        with pytest.raises(PolygateError, match="draws at random"):
            bind(template, {})
    with pytest.raises(PolygateError, match="the chat template fails"):
        bind("{% if %}", {})
