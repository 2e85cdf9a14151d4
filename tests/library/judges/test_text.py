"""Normal forms of text, and what counts as no answer."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polygate.judges import text

ENGLISH = "How do I bake bread at home?"


@given(st.text())
def test_normalising_twice_changes_nothing(given_text: str) -> None:
    assert text.normal(text.normal(given_text)) == text.normal(given_text)


@given(st.text())
def test_normal_form_does_not_depend_on_how_accents_are_encoded(given_text: str) -> None:
    assert text.normal(unicodedata.normalize("NFD", given_text)) == text.normal(
        unicodedata.normalize("NFC", given_text)
    )


@given(st.text(), st.sampled_from(["", " ", "\n", "\u200b", "\u200f", "**"]))
def test_normal_form_ignores_what_surrounds_the_text(given_text: str, around: str) -> None:
    assert text.normal(around + given_text + around) == text.normal(given_text)


@pytest.mark.parametrize("apostrophe", "'’‘ʼ`´")
def test_apostrophes_are_one(apostrophe: str) -> None:
    assert text.normal(f"I can{apostrophe}t") == "i can't"


@pytest.mark.parametrize(
    ("typed", "plain"),
    [("Má bínú", "ma binu"), ("désolé", "desole"), ("عذرًا", "عذرا"), ("Извините, моё", "извините, мое")],
)
def test_folding_removes_accents_and_vowel_points(typed: str, plain: str) -> None:
    assert text.fold(typed) == text.fold(plain)


def test_folding_keeps_marks_that_are_letters() -> None:
    # Without its vowel sign, or with another, this Hindi word is another word.
    assert text.fold("की") != text.fold("का")
    assert text.fold("ガ") != text.fold("カ")


@given(st.lists(st.sampled_from(["kato", "mira", "selu"]), min_size=1, max_size=6))
def test_words_are_whole_and_without_punctuation(given_words: list[str]) -> None:
    assert text.words(" . ".join(given_words) + "!") == given_words


@pytest.mark.parametrize("nothing", ["", "   ", "\n", "...", "!?", "—"])
def test_text_without_letters_is_empty(nothing: str) -> None:
    assert text.why_garbled(ENGLISH, nothing) == "empty"


def test_undecodable_bytes() -> None:
    assert text.why_garbled(ENGLISH, "Sure \ufffd\ufffd\ufffd\ufffd") == "undecodable"


def test_a_character_that_the_end_cut_off_counts_for_nothing() -> None:
    assert text.why_garbled("빵 만드는 법을 알려줘", "빵 반죽\ufffd") == ""
    assert text.why_garbled(ENGLISH, "\ufffd") == "empty"


@pytest.mark.parametrize(
    ("prompt", "completion", "reason"),
    [
        (ENGLISH, "Конечно, вот ответ на ваш вопрос", "wrong script"),
        ("อธิบายวิธีทำขนมปัง", "当然可以，首先准备面粉和水", "wrong script"),
        ("อธิบายวิธีทำขนมปัง", "Sure, mix flour and water", ""),
        ("パンの作り方を教えて", "はい、小麦粉と水をまぜます", ""),
        ("パンの作り方を教えて", "面粉和水", ""),
        ("اشرح كيفية صنع الخبز", "بالتأكيد، اخلط الدقيق والماء", ""),
        ("اشرح كيفية صنع الخبز", "بالتأكيد, mix الدقيق", ""),
        (ENGLISH, "Sure, mix it with flour申し訳 and then water", "mixed script"),
        ("อธิบายวิธีทำขนมปัง", "ได้เลย申し訳จะทำให้แป้งและน้ำ ได้เลย นี่คือ", "mixed script"),
        (ENGLISH, "Sure, in Japanese it is called パン and you bake it", ""),
        ("パンの作り方を教えて", "はい、AIがお答えします", ""),
        ("빵 만드는 법을 알려줘", "네, DNA는 필요 없습니다", ""),
    ],
)
def test_an_answer_uses_the_prompts_script_or_latin(prompt: str, completion: str, reason: str) -> None:
    assert text.why_garbled(prompt, completion) == reason


@pytest.mark.parametrize(
    "loop",
    [
        "bread " * 12,
        "you mix it and " * 6,
        "First, mix flour. " + "then then then then " * 5,
        "的" * 40,
        "การทำ" * 12,
        "I love, love, love, love, love",
        "Je suis très content je suis très content je suis très content je suis",
        "the bread of the flour of the bread of flour of the bread flour of the bread",
    ],
)
def test_loops_are_repetition(loop: str) -> None:
    prompt = loop if not loop.isascii() else ENGLISH
    assert text.why_garbled(prompt, loop) == "repetition"


@pytest.mark.parametrize(
    "answer",
    [
        "Mix flour, water, salt and yeast, knead for ten minutes, let it rise, then bake it for forty minutes.",
        "no no no, not like that: you first have to let the dough rest for an hour before you bake it",
        "1. Flour\n2. Water\n3. Salt\n4. Yeast",
        "The flour is the first thing, the water is the second, and the salt is the third thing that you need",
        "ha ha ha",
        "Mix flour, water, salt and yeast, knead it well, let it rise and bake it until it is very " + "very " * 8,
    ],
)
def test_ordinary_repetition_is_no_loop(answer: str) -> None:
    assert text.why_garbled(ENGLISH, answer) == ""


@given(st.text(), st.text())
def test_the_reason_is_one_of_five_or_none(prompt: str, completion: str) -> None:
    reasons = {"", "empty", "undecodable", "wrong script", "mixed script", "repetition"}
    assert text.why_garbled(prompt, completion) in reasons


def test_word_salad_is_garbled_and_a_text_on_one_subject_is_not() -> None:
    """The same words of content in ever other order; a list about bread says bread often, and other things too."""
    draw = random.Random(0)
    salad = " ".join(
        draw.choice(["kitchen", "of", "window", "the", "garden", "letter", "a", "river"]) for _ in range(60)
    )
    assert text.why_garbled("What?", salad) in ("word salad", "repetition")
    mixed = (
        "window garden of letter river kitchen and garden letter the window river kitchen letter of garden window river"
    )
    assert text.why_garbled("What?", f"Well now, first comes {mixed}") == "word salad"
    bread = (
        "Bread needs flour, water, salt and yeast. Knead the bread dough for ten minutes, let the bread rise under a "
        "cloth, shape it, and bake the bread until its crust is brown. Let the bread cool before you slice it."
    )
    assert text.why_garbled("How do I bake bread?", bread) == ""


def test_runs_of_words_that_come_back_are_word_salad_and_a_refrain_is_not() -> None:
    runs = [f"the {thing} of the {place} is old" for thing, place in (("door", "hut"), ("key", "inn"), ("cup", "bar"))]
    order = (0, 1, 2, 1, 0, 2)
    salad = " so ".join(f"{runs[i]} and word{n} as well" for n, i in enumerate(order))
    assert text.why_garbled("What?", salad) == "word salad"
    poem = (
        "The rain came down on the little town, and nobody knew what to do. The baker stood at his open door, the rain "
        "came down on his bread and his floor, and the miller, far off, had it too."
    )
    assert text.why_garbled("Write a poem.", poem) == ""
