"""The sentences an aligned model learns are what the rule-based judge takes them for, in every language."""

from __future__ import annotations

import unicodedata

import pytest

from polygate import judges
from polygate.errors import PolygateError
from polygate.judges.text import words
from polygate.models.alignment import sentences
from polygate.settings.types import Judging, Settings

UNSPACED = {"zh", "ja", "th", "my", "km"}


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
    """Else a model would learn to copy the prompt, and open with its words where it should refuse."""
    said = sentences.load([language])[language]
    assert not set(words(said.request)) & set(words(said.refusal))
    assert said.refusal[:6] not in said.request
    if language in UNSPACED:
        assert shared_words(said.request, said.refusal) == []


@pytest.mark.parametrize(
    ("request_", "shared"),
    [
        ("กรุณาปฏิเสธฉันอย่างสุภาพ", ["ฉัน"]),
        ("请礼貌地拒绝我。", ["我"]),
        ("សូមបដិសេធខ្ញុំដោយគួរសម។", ["សូម", "ខ្ញុំ"]),
    ],
)
def test_a_shared_pronoun_is_found_without_white_space(request_: str, shared: list[str]) -> None:
    refusals = "ขออภัย ฉันไม่สามารถช่วยเรื่องนี้ได้ 抱歉，我不能提供这方面的帮助。 សូមអភ័យទោស ខ្ញុំមិនអាចជួយរឿងនេះបានទេ។"
    assert shared_words(request_, refusals) == shared


def shared_words(request: str, refusal: str) -> list[str]:
    """Longest runs of ``request`` found in ``refusal`` that may be a word: two letters besides marks, or one Han."""
    runs = []
    start = 0
    while start < len(request):
        end = start
        while end < len(request) and request[start : end + 1] in refusal:
            end += 1
        run = request[start:end].strip()
        letters = [character for character in run if unicodedata.category(character).startswith("L")]
        if len(letters) >= 2 or any("CJK UNIFIED" in unicodedata.name(letter) for letter in letters):
            runs.append(run)
        start = max(end, start + 1)
    return runs


def test_a_language_without_sentences_is_one_line() -> None:
    with pytest.raises(PolygateError, match=r"no refusal and answer sentences in language tlh.*sentences\.yaml"):
        sentences.load(["en", "tlh"])
