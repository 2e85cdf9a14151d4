"""The sentences an aligned model learns are what the rule-based judge takes them for, in every language."""

from __future__ import annotations

import pytest

from polygate import judges
from polygate.alignment import sentences
from polygate.errors import PolygateError
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


def test_a_language_without_sentences_is_one_line() -> None:
    with pytest.raises(PolygateError, match=r"no refusal and answer sentences in language tlh.*sentences\.yaml"):
        sentences.load(["en", "tlh"])
