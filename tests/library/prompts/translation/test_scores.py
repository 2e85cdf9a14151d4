"""BLEU and chrF++ of any resample are what sacrebleu gives the same sentences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from polygate.prompts.translation import scores

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat.", "The", "(mat)", "ü"]), max_size=12).map(
    " ".join
)
PAIRS = st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=6)
FOUND = ["The cat sat on the mat.", "How do I bake good bread at home?", "It rains."]
SOURCE = ["The cat is sitting on the mat.", "How can I bake good bread at home?", "It is raining."]


@given(PAIRS, st.data())
def test_any_resample_scores_as_its_sentences_do(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    found, sources = zip(*pairs, strict=True)
    counted = scores.count(found, sources)
    rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=8))
    times = np.bincount(rows, minlength=len(pairs))
    texts, wanted = [found[row] for row in rows], [sources[row] for row in rows]
    for name, score, kind in (("bleu", scores.bleu, BLEU()), ("chrf", scores.chrf, CHRF(word_order=2))):
        expected = kind.corpus_score(texts, [wanted]).score
        assert 100 * score(times @ getattr(counted, name)) == pytest.approx(expected, abs=1e-9)


def test_many_resamples_at_once_are_each_alone() -> None:
    counted = scores.count(FOUND, SOURCE)
    times = np.random.default_rng(0).integers(0, 3, (20, 3))
    for score, counts in ((scores.bleu, counted.bleu), (scores.chrf, counted.chrf)):
        together = score(times.astype(float) @ counts)
        assert together == pytest.approx([float(score(row @ counts)) for row in times], abs=1e-12)


def test_signatures_are_sacrebleus_own() -> None:
    bleu, chrf = BLEU(), CHRF(word_order=2)
    for kind in (bleu, chrf):
        kind.corpus_score(FOUND, [SOURCE])
    found = scores.count(FOUND, SOURCE).signatures
    assert found == {"bleu": bleu.get_signature().format(), "chrf": chrf.get_signature().format()}
    assert "nrefs:1" in found["bleu"]
    assert "nw:2" in found["chrf"]


def test_equal_texts_score_one_and_others_nothing() -> None:
    same, other = scores.count(FOUND, FOUND), scores.count(["xx yy zz qq"] * 3, ["1 2 3 4"] * 3)
    assert scores.bleu(same.bleu.sum(axis=0)) == pytest.approx(1)
    assert scores.chrf(same.chrf.sum(axis=0)) == pytest.approx(1)
    assert scores.bleu(other.bleu.sum(axis=0)) == scores.chrf(other.chrf.sum(axis=0)) == 0


def test_without_sacrebleu_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(Exception, match="pip install sacrebleu") as caught:
        scores.count(FOUND, SOURCE)
    assert "\n" not in str(caught.value)
