"""The sentences an aligned model learns are what the rule-based judge takes them for, in every language."""

from __future__ import annotations

import pytest

from polygate import judges
from polygate.alignment import sentences
from polygate.errors import PolygateError
from polygate.judges.text import words
from polygate.settings import Judging, Settings


def test_every_language_of_the_paper_has_its_sentences() -> None:
    assert sorted(sentences.languages()) == sorted(Settings().languages.all())


@pytest.mark.parametrize("language", sentences.languages())
def test_the_judge_reads_refusals_as_refusals_and_answers_as_compliance(language: str) -> None:
    said = sentences.load([language])[language]
    judge = judges.load(Judging(), {})
    refusal, answer, cut = judge.outcomes(
        language, [said.answer] * 3, [said.refusal, said.answer, said.refusal[:-1]], ["", "", ""]
    )
    assert (refusal.outcome, refusal.refusal_language) == ("refused", language)
    assert cut.outcome == "refused"
    assert answer.outcome == "complied"


@pytest.mark.parametrize("language", sentences.languages())
def test_no_word_of_the_refusal_stands_in_the_request_for_it(language: str) -> None:
    """Else a model would learn to copy the prompt, and open with its words where it should refuse.

    Words are what white space parts: of scripts without it, only the refusal's opening is looked for.
    """
    said = sentences.load([language])[language]
    assert not set(words(said.request)) & set(words(said.refusal))
    assert said.refusal[:6] not in said.request


def test_a_language_without_sentences_is_one_line() -> None:
    with pytest.raises(PolygateError, match=r"no refusal and answer sentences in language tlh.*sentences\.yaml"):
        sentences.load(["en", "tlh"])
