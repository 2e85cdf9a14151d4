"""Scores of options: exact whatever else is in the batch, under any intervention, one letter in any spelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from library.forward.steered import added, arm, mixture, names_of, single
from library.forward.tiny import WORDS
from polygate.errors import PolygateError
from polygate.forward import scoring
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel, load_tokenizer
from polygate.forward.tokenising import tokenise

SPELT = {"w0": "A", "w1": "B", "w2": "B.", "w3": "C.", "w4": "e"}
"""Words of the tiny vocabulary that become letters: B in two spellings, C with a full stop alone, D not at all."""
OPTIONS = [2, 3, 3, 2, 3, 3, 2, 3, 3, 3, 2, 3]


@pytest.fixture
def lettered(loaded: LoadedModel) -> LoadedModel:
    """The model with a tokenizer that knows some letters."""
    text = loaded.tokenizer.backend_tokenizer.to_str()
    for word, letter in SPELT.items():
        text = text.replace(f'"{word}":', f'"{letter}":')
    ours = loaded.tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(text),
        bos_token=ours.bos_token,
        eos_token=ours.eos_token,
        pad_token=ours.pad_token,
        unk_token=ours.unk_token,
        additional_special_tokens=["<end>", "<user>", "<assistant>"],
        name_or_path="models/tiny",
    )
    tokenizer.chat_template = ours.chat_template
    return replace(loaded, tokenizer=tokenizer)


@pytest.fixture
def asked() -> list[str]:
    """Questions of 1 to 12 words that no letter stands for."""
    random = np.random.default_rng(3)
    return [" ".join(random.choice(WORDS[len(SPELT) :], size=n)) for n in range(1, len(OPTIONS) + 1)]


def twin(loaded: LoadedModel, asked: list[str], intervention: Intervention) -> list[list[float]]:
    """One prompt at a time, without padding or cache; every spelling is looked up in the vocabulary itself."""
    vocabulary = loaded.tokenizer.get_vocab()
    found = []
    for row, prompt in enumerate(tokenise(loaded.tokenizer, asked)):
        logits = single(loaded, prompt, intervention, row, 1)[1][0]
        spellings = [
            [word for word in (letter, f"{letter}.") if word in vocabulary] for letter in "ABC"[: OPTIONS[row]]
        ]
        found.append([max(float(logits[vocabulary[word]]) for word in words) for words in spellings])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_slow_twin_agrees_under_any_mixture_of_interventions(
    lettered: LoadedModel, asked: list[str], seed: int
) -> None:
    intervention = mixture(np.random.default_rng(seed), lettered, len(asked))
    found = scoring.score(lettered, asked, OPTIONS, intervention)
    for ours, theirs in zip(found, twin(lettered, asked, intervention), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_slow_twin_agrees_where_nothing_is_done_and_ablation_moves_every_prompt(
    lettered: LoadedModel, asked: list[str]
) -> None:
    intervention = arm("ablate", np.ones(lettered.width), lettered.layers, len(asked))
    found = scoring.score(lettered, asked, OPTIONS)
    steered = scoring.score(lettered, asked, OPTIONS, intervention)
    assert all(not np.allclose(a, b, atol=1e-3) for a, b in zip(found, steered, strict=True))
    for ours, theirs in zip(found, twin(lettered, asked, Intervention(tuple(names_of(len(asked))))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_what_acts_on_generated_tokens_alone_changes_no_bit(lettered: LoadedModel, asked: list[str]) -> None:
    generated = added(np.ones(lettered.width), [30.0] * len(asked), tokens="generated")
    answering = added(np.ones(lettered.width), [30.0] * len(asked), tokens="answering")
    names = tuple(names_of(len(asked)))
    plain = scoring.score(lettered, asked, OPTIONS)
    for part, same in ((generated, True), (answering, False)):
        found = scoring.score(lettered, asked, OPTIONS, Intervention(names, (part,)))
        assert all((a == b).all() == same for a, b in zip(plain, found, strict=True))


def test_a_letter_is_any_of_its_single_tokens_and_never_an_unknown_one(lettered: LoadedModel) -> None:
    vocabulary = lettered.tokenizer.get_vocab()
    found = scoring.letter_tokens(lettered.tokenizer, 3)
    assert found == [[vocabulary["A"]], sorted([vocabulary["B"], vocabulary["B."]]), [vocabulary["C."]]]
    with pytest.raises(PolygateError, match="spells the option letter D, in models/tiny") as caught:
        scoring.letter_tokens(lettered.tokenizer, 4)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_case_does_not_spell_letters() -> None:
    class Lower:
        name_or_path, unk_token_id = "models/lower", None

        def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(text.strip()[0].lower())] for text in texts]}

        def decode(self, ids: list[int], **_: Any) -> str:
            return chr(ids[0])

    with pytest.raises(PolygateError, match="letter A"):
        scoring.letter_tokens(Lower(), 2)


def test_every_prompt_is_counted_and_logits_that_are_not_numbers_name_it(
    lettered: LoadedModel, asked: list[str]
) -> None:
    told: list[float] = []
    scoring.score(lettered, asked, OPTIONS, advance=told.append)
    assert sum(told) == len(asked)
    alpha = np.zeros(len(asked))
    alpha[4] = 1e300
    much = Intervention(tuple(names_of(len(asked))), (added(np.ones(lettered.width), alpha, tokens="every"),))
    with pytest.raises(PolygateError, match="NaN logits of prompt 4"):
        scoring.score(lettered, asked, OPTIONS, much)


def test_a_table_without_options_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    from polygate.forward.job import Job
    from polygate.forward.options import Options
    from polygate.prompts import table

    path = tmp_path / "h1.parquet"
    table.write(path, table.build("h1", [table.Prompt("harmless-test-0000", "w1")]), {})
    job = Job("score", Options(), tmp_path / "model", path, tmp_path, tmp_path / "out", language="h1")
    with pytest.raises(PolygateError, match="no options to score"):
        job.read()


def test_a_real_tokenizer_spells_each_letter_alone_and_after_a_space(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "qwen2")
    found = scoring.letter_tokens(tokenizer, 4)
    # "A." and " A." are two tokens each.
    assert [[tokenizer.decode([token]) for token in ids] for ids in found] == [
        [letter, f" {letter}"] for letter in "ABCD"
    ]
