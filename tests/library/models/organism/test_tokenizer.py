"""Words in, words out: the organisms' tokenizer and chat template, as loaded from a folder."""

from __future__ import annotations

from typing import Any

import pytest

from polygate.forward.tokenising import render, tokenise
from polygate.models.organism.corpus import Corpus
from polygate.models.organism.tokenizer import ASSISTANT, BOS, EOS, PAD, UNKNOWN, build
from polygate.prompts.table import PromptTable


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer after a save and a load."""
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    build(corpus.world).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def test_every_prompt_comes_back_unchanged(tokenizer: Any, tables: dict[str, PromptTable]) -> None:
    unknown = tokenizer.convert_tokens_to_ids(UNKNOWN)
    for prompts in tables.values():
        encoded = tokenizer(list(prompts.texts), add_special_tokens=False)["input_ids"]
        assert tokenizer.batch_decode(encoded) == list(prompts.texts)
        assert not any(unknown in ids for ids in encoded)


def test_refusals_survive_decoding_with_special_tokens_skipped(tokenizer: Any, corpus: Corpus) -> None:
    for phrase in corpus.world.refusals().values():
        ids = tokenizer(f"{BOS}{phrase}{EOS}{PAD}{PAD}", add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == phrase


def test_the_template_starts_once_and_ends_with_the_assistant_marker(
    tokenizer: Any, tables: dict[str, PromptTable]
) -> None:
    prompts = tables["h1"]
    for tokenised, text in zip(tokenise(tokenizer, prompts.texts), prompts.texts, strict=True):
        tokens = tokenizer.convert_ids_to_tokens(list(tokenised.input_ids))
        assert tokens.count(BOS) == 1
        assert tokens[0] == BOS
        assert tokens[tokenised.t_post_inst] == ASSISTANT
        assert tokens[tokenised.t_inst] == text.split()[-1]
        assert tokenised.token_count == len(text.split())


def test_special_tokens_asked_for_put_a_second_start_before_a_rendered_chat(tokenizer: Any) -> None:
    """The trap is real here, as in Gemma and Llama: only one function of the house may tokenise."""
    ids = tokenizer(render(tokenizer, ["a b ."])[0])["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 2


def test_batches_are_padded_on_the_left(tokenizer: Any, corpus: Corpus) -> None:
    known = corpus.world.languages[0]
    ids = tokenizer([known.actions[0], " ".join(known.actions[:3])], padding=True)["input_ids"]
    assert ids[0][:2] == [tokenizer.pad_token_id] * 2
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="only the roles"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}], tokenize=False)
