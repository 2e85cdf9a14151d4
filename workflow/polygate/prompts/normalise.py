"""Removing what a prompt's last characters give away.

In PolyRefuse the final full stop alone separates harmful from harmless prompts in some languages, and differently in
train and test. The normalised variant of a data set drops final punctuation and surrounding white space from every
prompt before the forward pass.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Normalise = Literal["none", "terminal_punctuation"]

STOPS = frozenset(
    ".!?,:;…‥‼⁇⁈⁉‽"  # Latin, Cyrillic, Greek (whose question mark is ; or its twin below)
    "\u037e\u0387"  # Greek question mark, ano teleia
    "։׃"  # Armenian, Hebrew
    "،؛؟۔"  # Arabic, Persian, Urdu
    "।॥෴"  # Devanagari and its neighbours, Sinhala
    "๏๚๛"  # Thai
    "၊။"  # Burmese
    "።፡፣፤፥፦፧፨"  # Ethiopic
    "។៕៖៘៚"  # Khmer
    "。、．，：；！？｡､"  # Chinese, Japanese, full and half width
)
"""Punctuation that ends a sentence or a clause (after Unicode's Terminal_Punctuation), and ellipses."""

_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
_INVERTED = {"?": "¿", "!": "¡"}


def strip(text: str) -> str:
    """`text` without surrounding white space, zero-width spaces and direction marks."""
    previous = None
    while previous != text:
        previous = text
        text = text.strip().strip(_INVISIBLE)
    return text


def visible(text: str) -> str:
    """What a reader sees of `text`: in NFC, without control and format characters other than white space."""
    composed = unicodedata.normalize("NFC", text)
    return "".join(char for char in composed if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf"))


def terminal_punctuation(text: str) -> str:
    """`text` without surrounding white space and without the punctuation that ends it.

    Closing quotes and brackets stay, the stops before and after them go: `(see "A.").` gives `(see "A")`. An
    inverted Spanish mark goes with the mark it announces. Text that is nothing but punctuation is only stripped.
    Applying it twice changes nothing more.
    """
    text = strip(text)
    start = len(text)
    while start and (text[start - 1] in STOPS or _closes(text[start - 1]) or strip(text[start - 1]) == ""):
        start -= 1
    body, tail = text[:start], text[start:]
    if not body:
        return text
    kept = re.sub(r"\s+", " ", "".join(char for char in tail if char not in STOPS))
    return strip(_without_inverted(body, tail) + kept) or text


def _closes(char: str) -> bool:
    """Whether `char` can close a quotation or a bracket (German closes with “, Swedish with », English with ")."""
    return char in "\"'`„" or unicodedata.category(char) in ("Pe", "Pf", "Pi")


def _without_inverted(body: str, tail: str) -> str:
    for mark, inverted in _INVERTED.items():
        if mark in tail and body.count(inverted) > body.count(mark):
            at = body.rindex(inverted)
            body = body[:at] + body[at + 1 :]
    return body


def apply(text: str, how: Normalise) -> str:
    """`text` as the setting `prompts.normalise` wants it; "none" leaves it byte for byte."""
    return terminal_punctuation(text) if how == "terminal_punctuation" else text
