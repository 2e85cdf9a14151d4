"""Reading completions: one normal form for phrases and answers, and the signs of text that is no answer at all."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Set
from functools import cache
from itertools import pairwise

_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼʻ`´＇′‛"), "'")
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_VARIANTS = str.maketrans(
    {
        **dict.fromkeys("یىې", "ي"),
        **dict.fromkeys("کڪ", "ك"),
        **dict.fromkeys("ۀەة", "ه"),
        **dict.fromkeys("ٱ", "ا"),
        "ـ": None,
        "ё": "е",
        "ı": "i",
    }
)
"""Letters that are typed in more than one way: Arabic and Persian yeh, kaf and heh, tatweel, Russian yo, dotless i."""
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u064b-\u0655\u0670]")
_MARKS = re.compile(r"[*_#>~]+")
_REPLACEMENT = "\ufffd"
_CJK = {"CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH", "FULLWIDTH", "IDEOGRAPHIC"}

LONGEST_PERIOD = 12
"""A loop may be up to this many words (or characters, in scripts without spaces) long."""
LOOP_SHARE = 0.5
"""Text is a loop when more than this share of it, at the end, repeats with one period, three times or more."""
WINDOW, FEWEST_WORDS, FEW_WORDS = 20, 10, 0.6
"""Text is a loop, too, when of its first twenty words (at least ten) fewer than this share are different ones."""
SALAD_WINDOW, SALAD_LETTERS, SALAD_WORDS, SALAD_SHARE, SALAD_PAIRS = 300, 4, 12, 0.6, 0.6
"""Text is word salad when of the words of four letters and more in its first 300 characters (twelve at least, none
counted more than three times) fewer than 60 % are different ones, in ever other order: 60 % of their pairs are.
Function words repeat in all text, words of content hardly: of 640 answers and refusals of a 7B model in eight languages
one was below, of its Yoruba, which looks fluent and says nothing, a fifth. Scripts without spaces have the loops alone.
"""
RUN, RUN_WORDS, RUN_SHARE = 3, 20, 0.5
"""Word salad is also text of twenty words or more of which over half stand in runs of three that come back. None of 746
answers and refusals of a 7B model in ten languages is, of its Yoruba that was read as salad half.
"""
FOREIGN_SHARE = 1 / 3
"""More letters than this in scripts that neither the prompt nor Latin explains is wrong-script text."""
BROKEN_SHARE = 0.05
"""More replacement characters than this are undecodable bytes."""
FEWEST_LETTERS = 6
"""Below this many letters shares of scripts say nothing."""
PROMPT_SHARE = 0.1
"""A script counts as the prompt's own from this share of its letters on."""


def normal(text: str) -> str:
    """`text` in NFKC, casefolded, apostrophes and white space unified, without invisible characters or Markdown marks.

    Idempotent; the same is done to phrases, so that what matches does not depend on how it was typed. Casefolding can
    leave NFKC, hence the second pass.
    """
    previous = None
    while previous != text:
        previous = text
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
        text = _MARKS.sub(" ", _INVISIBLE.sub("", text)).translate(_APOSTROPHES)
        text = " ".join(unicodedata.normalize("NFKC", text.casefold()).split())
    return text


def fold(text: str) -> str:
    """`normal` without accents, vowel points, tone marks and variants of letters, for phrases typed with and without.

    Only marks of the Latin, Greek, Cyrillic, Hebrew and Arabic scripts go: in others they are letters.
    """
    apart = unicodedata.normalize("NFD", normal(text))
    return unicodedata.normalize("NFC", _ACCENTS.sub("", apart)).translate(_VARIANTS)


_THOUGHTS = "think|thinking|thought|thoughts|reasoning|reflection|seed:think"
_THOUGHT = re.compile(rf"<({_THOUGHTS})>.*?</\1>|\[THINK\].*?\[/THINK\]", re.IGNORECASE | re.DOTALL)
_THOUGHT_CLOSE = re.compile(rf"</({_THOUGHTS})>|\[/THINK\]", re.IGNORECASE)
_THOUGHT_OPEN = re.compile(rf"(<({_THOUGHTS})>|\[THINK\]).*", re.IGNORECASE | re.DOTALL)


def without_thoughts(completion: str) -> tuple[str, bool]:
    """A completion without what a reasoning model thinks before it answers, and whether it was cut off thinking.

    Thoughts stand between `<think>` and `</think>` or another pair of that kind; templates that open them within the
    prompt leave the closing mark only.
    """
    said = _THOUGHT.sub("", completion)
    said = said[max((close.end() for close in _THOUGHT_CLOSE.finditer(said)), default=0) :]
    answer = _THOUGHT_OPEN.sub("", said)
    return answer, answer != said


_QUOTED = re.compile(
    r"```.*?(?:```|$)|\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|»[^«]*«|「[^」]*」|『[^』]*』|(?<!\w)'[^']*'(?!\w)",
    re.DOTALL,
)
_FEWEST_QUOTED = 3


def unquoted(completion: str) -> str:
    """A completion without the insides of quotations and code blocks: what stands there is not said by the model.

    Titles of one or two words stay. A completion that is one quotation as a whole says what is in it.
    """

    def blank(found: re.Match[str]) -> str:
        inside = found[0].strip("`\"“”„«»「」『』'")
        whole = len(found[0]) >= len(completion.strip()) - 2
        short = len(inside.split()) < _FEWEST_QUOTED and len(inside) < 3 * _FEWEST_QUOTED
        return found[0] if whole or short else ' "" '

    return _QUOTED.sub(blank, completion)


def words(text: str) -> list[str]:
    """Words of the normal form, surrounding punctuation removed; what is punctuation alone is no word."""
    stripped = (_bare(word) for word in normal(text).split())
    return [word for word in stripped if word]


def _bare(word: str) -> str:
    start, end = 0, len(word)
    while start < end and _outer(word[start]):
        start += 1
    while end > start and _outer(word[end - 1]):
        end -= 1
    return word[start:end]


def _outer(char: str) -> bool:
    return unicodedata.category(char)[0] in "PSZC"


@cache
def script(char: str) -> str:
    """Script of a letter by its Unicode name ("LATIN", "CYRILLIC", "CJK" …); "" for what is not a letter.

    Han, hiragana and katakana count as one, since Japanese mixes them.
    """
    if not char.isalpha():
        return ""
    name = unicodedata.name(char, "").split(" ")[0].split("-")[0]
    return "CJK" if name in _CJK else name


def scripts(text: str) -> Counter[str]:
    """Number of letters per script."""
    found = Counter(map(script, text))
    del found[""]
    return found


def why_garbled(prompt: str, completion: str) -> str:
    """Why a completion is no answer in any language, "" when it may be one.

    "empty", "undecodable", "wrong script", "mixed script", "repetition" or "word salad". Scripts are judged by the
    prompt's own: an answer may use those and Latin (English, names, code). An answer in English to a Thai prompt is an
    answer; one in Cyrillic letters isn't, nor is one that goes on in Chinese letters in the middle of a German word. A
    character that the end cut off counts for nothing.
    """
    completion = completion.removesuffix(_REPLACEMENT)
    letters = sum(char.isalnum() for char in completion)
    broken = completion.count(_REPLACEMENT)
    if broken > BROKEN_SHARE * len(completion):
        return "undecodable"
    if letters == 0:
        return "empty"
    found, allowed = scripts(completion), _allowed(prompt)
    total = sum(found.values())
    if total >= FEWEST_LETTERS and sum(n for name, n in found.items() if name not in allowed) > FOREIGN_SHARE * total:
        return "wrong script"
    if _changes_within_a_word(completion, allowed):
        return "mixed script"
    if _loops(completion):
        return "repetition"
    return "word salad" if _is_salad(completion) or _comes_back(completion) else ""


def _allowed(prompt: str) -> set[str]:
    own = scripts(prompt)
    return {"LATIN"} | {name for name, n in own.items() if n >= PROMPT_SHARE * sum(own.values())}


def _changes_within_a_word(completion: str, allowed: Set[str]) -> bool:
    """Whether a letter of a script that is not allowed stands right beside one of another script."""
    known = [script(char) for char in completion]
    return any(a and b and a != b and not {a, b} <= allowed for a, b in pairwise(known))


def _loops(completion: str) -> bool:
    """Whether the text's end is one short piece over and over, or its beginning a handful of words over and over.

    Of words, or of characters where few spaces stand.
    """
    pieces = words(completion)
    characters = [char for char in normal(completion) if char.isalnum()]
    first = pieces[:WINDOW]
    few = len(first) >= FEWEST_WORDS and len(set(first)) < FEW_WORDS * len(first)
    return few or _periodic(pieces, fewest=5) or _periodic(characters, fewest=24)


def _is_salad(completion: str) -> bool:
    """Whether the words of content at the beginning are the same few over and over, in ever other order."""
    said = [word for word in words(completion[:SALAD_WINDOW]) if len(word) >= SALAD_LETTERS]
    if len(said) < SALAD_WORDS:
        return False
    counts, pairs = Counter(said), list(pairwise(said))
    few = len(counts) < SALAD_SHARE * sum(min(count, 3) for count in counts.values())
    return few and len(set(pairs)) >= SALAD_PAIRS * len(pairs)


def _comes_back(completion: str) -> bool:
    """Whether most words stand in runs that come back, at whatever distance."""
    said = words(completion)
    runs = [tuple(said[i : i + RUN]) for i in range(len(said) - RUN + 1)]
    counts = Counter(runs)
    again = {i + k for i, run in enumerate(runs) if counts[run] > 1 for k in range(RUN)}
    return len(said) >= RUN_WORDS and len(again) > RUN_SHARE * len(said)


def _periodic(items: list[str], fewest: int) -> bool:
    """Whether at least `fewest` items and LOOP_SHARE of all, at the end, repeat three times or more with a period."""
    for period in range(1, LONGEST_PERIOD + 1):
        run = 0
        while run < len(items) - period and items[-1 - run] == items[-1 - run - period]:
            run += 1
        length = run + period if run else 0
        if length >= max(fewest, 3 * period) and length > LOOP_SHARE * len(items):
            return True
    return False
