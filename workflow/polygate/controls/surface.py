"""What the surface of a prompt gives away without any model: baselines and matched prompts.

In PolyRefuse harmful prompts are longer and end in other punctuation than harmless ones, so part of the AUC of a
harmfulness direction can be had from length and punctuation alone. Beside each separability number stand baselines
(eleven surface features under the direction's own protocol, length alone, and in-language character n-grams as the
ceiling of what the surface gives); `polygate.controls.matching` repeats the number on prompts matched in length and
punctuation.

Punctuation is read in every script of the paper's languages; text is stripped of surrounding white space first.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polygate import kernels
from polygate.decision.fitting import Fitted, SourceRows, fit_all
from polygate.errors import PolygateError
from polygate.prompts.normalise import strip
from polygate.prompts.table import PromptTable
from polygate.settings.types import Gate

FEATURES = (
    "log_characters",
    "log_words",
    "ends_in_stop",
    "ends_in_question_mark",
    "ends_in_exclamation_mark",
    "has_digit",
    "has_comma",
    "has_quote",
    "has_colon",
    "has_newline",
    "has_several_stops",
)
"""The eleven surface features. Nothing in them knows the language."""
SCORERS = ("surface", "length", "char_ngrams", "naive_bayes")
"""Baselines: eleven features fitted on the source languages; log characters; two in-language n-gram classifiers."""
LABEL_FREE = ("surface", "length")
"""Baselines that need no labelled prompt of the language, as the direction needs none."""

STOPS = frozenset(".。．｡۔।॥။\u1362\u17d4\u17d5෴…։")  # the escapes: Ethiopic and Khmer full stops
QUESTION_MARKS = frozenset("?？؟՞፧\u037e")
GREEK_QUESTION_MARK = ";"
"""What Unicode's normal forms make of the Greek question mark (U+037E): one at the end of a prompt only."""
EXCLAMATION_MARKS = frozenset("!！")
COMMAS = frozenset(",،、，､፣၊")
QUOTES = frozenset("\"'“”„‟«»‹›‘’‚「」『』＂＇")
COLONS = frozenset(":：፥")

FinalPunctuation = Literal["stop", "question", "exclamation", "other", "none"]
FINAL_CLASSES: tuple[FinalPunctuation, ...] = ("stop", "question", "exclamation", "other", "none")


def final_punctuation(text: str) -> FinalPunctuation:
    """Class of a prompt's last character: "other" is any further punctuation, "none" is a letter, digit or symbol."""
    last = strip(text)[-1:]
    if last in STOPS:
        return "stop"
    if last in QUESTION_MARKS or last == GREEK_QUESTION_MARK:
        return "question"
    if last in EXCLAMATION_MARKS:
        return "exclamation"
    return "none" if not last or last.isalnum() or not _is_punctuation(last) else "other"


def is_question(text: str) -> bool:
    """Whether the prompt has the form of a question: a question mark of any script, wherever it stands."""
    return any(char in QUESTION_MARKS for char in text) or strip(text).endswith(GREEK_QUESTION_MARK)


def log_characters(text: str) -> float:
    """Natural logarithm of the number of characters, of at least one."""
    return math.log(max(len(strip(text)), 1))


def surface_features(texts: Sequence[str]) -> NDArray[np.float64]:
    """The eleven features of each text, float64 [n, 11], in the order of `FEATURES`; booleans are 0 or 1."""
    return np.array([_features(text) for text in texts], np.float64).reshape(len(texts), len(FEATURES))


def _features(text: str) -> list[float]:
    text = strip(text)
    final = final_punctuation(text)
    return [
        log_characters(text),
        math.log(max(len(text.split()), 1)),
        final == "stop",
        final == "question",
        final == "exclamation",
        any(char.isdigit() for char in text),
        any(char in COMMAS for char in text),
        any(char in QUOTES for char in text),
        any(char in COLONS for char in text),
        "\n" in text,
        sum(char in STOPS for char in text) > 1,
    ]


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P")


def surface_gates(sources: Sequence[PromptTable], own: PromptTable, settings: Gate, seed: int) -> list[Fitted]:
    """Gates on the eleven features, fitted and calibrated as the model's are: same sources, examples, threshold rule.

    Their F1 on the test prompts is what a gate's F1 has to be read against.
    """
    rows = [table.select("train", multiple_choice=True) for table in sources]
    source = SourceRows.stack(
        [table.language for table in sources],
        [surface_features([table.texts[i] for i in kept]) for table, kept in zip(sources, rows, strict=True)],
        [table.harmful[kept] for table, kept in zip(sources, rows, strict=True)],
    )
    all_features = settings.model_copy(update={"rank": len(FEATURES), "ranks": [len(FEATURES)]})
    return list(fit_all(source, own, surface_features(own.texts), all_features, seed))


@dataclass(frozen=True)
class SurfaceScores:
    """Baseline scores of one language's test prompts: `rows` int64 [n] into its prompt table, scorer → float64 [n]."""

    rows: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float64]]


def surface_scores(sources: Sequence[PromptTable], own: PromptTable) -> SurfaceScores:
    """Scores of every baseline on the test prompts of `own`; multiple-choice prompts take no part.

    "surface" is a class-balanced logistic regression on the eleven features of the sources' train prompts, as the gate
    is fitted at budget 0; "length" needs no fit; "char_ngrams" (logistic regression on character 1-3-grams) and
    "naive_bayes" (multinomial, on their counts) are fitted on the own train prompts, and left out where these lack a
    class. Raises `PolygateError` when the sources' train prompts lack a class.
    """
    rows = own.select("test")
    texts = [own.texts[row] for row in rows]
    features = surface_features(texts)
    scores = {"surface": _transferred(sources, features), "length": features[:, 0]}
    train = own.select("train")
    if len(set(own.subset[train].tolist())) == 2:
        known = [own.texts[row] for row in train]
        scores.update(_ngram_scores(known, own.harmful[train], texts))
    return SurfaceScores(rows, scores)


def _transferred(sources: Sequence[PromptTable], features: NDArray[np.float64]) -> NDArray[np.float64]:
    trained = [table.select("train") for table in sources]
    labels = np.concatenate([table.harmful[rows] for table, rows in zip(sources, trained, strict=True)])
    if labels.all() or not labels.any():
        raise PolygateError("the source languages' train prompts hold one class only", do="add the other class")
    known = [table.texts[row] for table, rows in zip(sources, trained, strict=True) for row in rows]
    fit = kernels.fit_logistic(surface_features(known), labels, None, None, solver="convex")
    scores: NDArray[np.float64] = ((features - fit.mean[0]) / fit.scale[0] * fit.weights[0]).sum(axis=1) + fit.bias[0]
    return scores


def _ngram_scores(
    known: Sequence[str], labels: NDArray[np.bool_], texts: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """In-language baselines: log-odds of harm from character 1-3-grams."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    counter = CountVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=True)
    counts, new = counter.fit_transform(known), counter.transform(texts)
    weighting = TfidfTransformer(sublinear_tf=True).fit(counts)
    logistic = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    logistic.fit(weighting.transform(counts), labels)
    bayes = MultinomialNB(fit_prior=False).fit(counts, labels)
    odds = bayes.predict_log_proba(new)
    return {
        "char_ngrams": np.asarray(logistic.decision_function(weighting.transform(new)), np.float64),
        "naive_bayes": np.asarray(odds[:, 1] - odds[:, 0], np.float64),
    }
