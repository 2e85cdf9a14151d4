"""The normalised variant takes final punctuation away, and nothing else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polygate.prompts.normalise import STOPS, apply, strip, terminal_punctuation

ANY = st.text(st.characters(exclude_categories=["Cs"]))
ENDING = st.text(st.sampled_from([*sorted(STOPS), *"\"')]}»”“’」』 \t\n\u200b"]))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" Name three colours. \n", "Name three colours"),
        ("What?!", "What"),
        ("And then...", "And then"),
        ("请解释。", "请解释"),
        ("何ですか？", "何ですか"),
        ("ما هذا؟", "ما هذا"),
        ("یہ کیا ہے۔", "یہ کیا ہے"),
        ("यह क्या है।", "यह क्या है"),
        ("ဒါဘာလဲ။", "ဒါဘာလဲ"),
        ("នេះជាអ្វី។", "នេះជាអ្វី"),
        ("ይህ ምንድን ነው።", "ይህ ምንድን ነው"),
        ("Τι είναι;", "Τι είναι"),
        ("¿Qué es?", "Qué es"),
        ("Dime, ¿qué es?", "Dime, qué es"),
        ("¿Qué? Dime.", "¿Qué? Dime"),
        ('Translate "I am."', 'Translate "I am"'),
        ('(see "A.").', '(see "A")'),
        ("Dites « oui. »", "Dites « oui »"),
        ("Sag „ja.“", "Sag „ja“"),
        ("Write C++", "Write C++"),
        ("At 50%", "At 50%"),
        ("...", "..."),
        ("¿?", "¿?"),
    ],
)
def test_final_punctuation_of_every_script_goes_and_quotes_stay(text: str, wanted: str) -> None:
    assert terminal_punctuation(text) == wanted


@given(ANY, ENDING)
def test_applying_it_twice_changes_nothing_more(body: str, ending: str) -> None:
    once = terminal_punctuation(body + ending)
    assert terminal_punctuation(once) == once


@given(ANY, ENDING)
def test_only_punctuation_and_white_space_are_lost(body: str, ending: str) -> None:
    before, after = body + ending, terminal_punctuation(body + ending)
    kept = [char for char in before if unicodedata.category(char)[0] in "LNMS"]
    assert [char for char in after if unicodedata.category(char)[0] in "LNMS"] == kept


@given(st.text(st.characters(categories=["L"]), min_size=1), ENDING)
def test_after_a_letter_no_stop_remains_at_the_end(body: str, ending: str) -> None:
    after = terminal_punctuation(body + ending)
    assert not set(after) & STOPS
    assert after == strip(after)


@given(ANY)
def test_text_never_becomes_empty(text: str) -> None:
    assert bool(terminal_punctuation(text)) == bool(strip(text))


@given(ANY)
def test_none_leaves_every_byte(text: str) -> None:
    assert apply(text, "none") == text
