"""What the surface gives away: features in every script, baselines, planted cues, and the real data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.tables.run import Run
from polygate import kernels
from polygate.controls import surface
from polygate.controls.surface import FEATURES
from polygate.errors import PolygateError
from polygate.measurement.statistics import Panel, Part, Resampling, replicate
from polygate.models.organism.prompts import prompt_table
from polygate.prompts import table
from polygate.prompts.table import Prompt, PromptTable, prompt_id
from polygate.settings.types import Gate, Languages, Organism, Prompts


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("Bake bread.", "stop"),
        ("パンを焼く。", "stop"),
        ("रोटी बनाओ।", "stop"),
        ("روٹی بناؤ۔", "stop"),
        ("ပေါင်မုန့်ဖုတ်ပါ။", "stop"),
        ("ዳቦ ጋግር።", "stop"),
        ("ធ្វើនំប៉័ង។", "stop"),
        ("How?", "question"),
        ("كيف؟", "question"),
        ("如何？", "question"),
        ("Πώς;", "question"),
        ("Πώς\u037e", "question"),
        ("Now!", "exclamation"),
        ("现在！", "exclamation"),
        ('Say "bread"', "other"),
        ("Bake:", "other"),
        ("Bake bread", "none"),
        ("อบขนมปัง", "none"),
        ("2 + 2", "none"),
        ("Bake bread.  \n", "stop"),
        ("", "none"),
    ],
)
def test_final_punctuation_in_every_script(text: str, final: str) -> None:
    assert surface.final_punctuation(text) == final


@pytest.mark.parametrize(
    ("text", "question"), [("Why? Tell me.", True), ("لماذا؟", True), ("Γιατί;", True), ("One; two.", False)]
)
def test_question_form(text: str, question: bool) -> None:
    assert surface.is_question(text) == question


def features(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, surface.surface_features([text])[0].tolist(), strict=True))


def test_features_by_hand() -> None:
    found = features('Bake 2 loaves, then say: "done".\nRest.')
    assert found.pop("log_characters") == pytest.approx(np.log(38))
    assert found.pop("log_words") == pytest.approx(np.log(7))
    yes = {"ends_in_stop", "has_digit", "has_comma", "has_quote", "has_colon", "has_newline", "has_several_stops"}
    assert {name for name, value in found.items() if value} == yes


def test_scripts_do_not_change_the_features() -> None:
    """The same sentence in full-width, Arabic and Latin punctuation has the same marks."""
    marks = FEATURES[2:]
    variants = ["a, b: «c»?", "ا، ب: «ج»؟", "あ、い：「う」？"]
    found = [tuple(features(text)[name] for name in marks) for text in variants]
    assert len(set(found)) == 1


@given(st.lists(st.text(), max_size=5))
def test_any_text_has_eleven_finite_features(texts: list[str]) -> None:
    found = surface.surface_features(texts)
    assert found.shape == (len(texts), 11)
    assert np.isfinite(found).all()
    assert set(np.unique(found[:, 2:])) <= {0.0, 1.0}


@given(st.text(), st.sampled_from(["", " ", "\n", "  \t"]))
def test_surrounding_white_space_is_no_feature(text: str, around: str) -> None:
    assert features(around + text + around) == features(text)


def auc(scores: np.ndarray, own: PromptTable, rows: np.ndarray) -> float:
    return float(kernels.auc(scores, own.harmful[rows]))


def baselines(sources: list[PromptTable], own: PromptTable) -> dict[str, float]:
    found = surface.surface_scores(sources, own)
    return {name: auc(scores, own, found.rows) for name, scores in found.scores.items()}


def test_a_planted_cue_is_reported(tmp_path: Path) -> None:
    """Harmful prompts made longer: length and the transferred features see it, and did not before."""
    for longer in (False, True):
        run = Run(tmp_path, longer=longer, n=60)
        found = baselines([run.prompts("h1"), run.prompts("h2")], run.prompts("l1"))
        for scorer in ("length", "surface"):
            assert (found[scorer] > 0.95) == longer, (scorer, found)


def test_the_organisms_languages_hold_no_surface_cue() -> None:
    """Length and the eleven features are at chance: their intervals hold .5 as often as intervals at 95 % do."""
    settings, prompts = Organism(), Prompts(source="organism")
    names = Languages(high=["h1", "h2", "h3", "h4", "h5"], mid=["m1", "m2", "m3"], low=["l1", "l2", "l3", "l4"])
    tables = {name: prompt_table(settings, name, prompts) for name in names.all()}
    misses = []
    for name, own in tables.items():
        found = surface.surface_scores([tables[source] for source in names.sources(name)], own)
        ids = [own.ids[row] for row in found.rows]
        panel = Panel.stack([Part(name, ids, own.harmful[found.rows])])
        values = np.stack([found.scores["surface"], found.scores["length"]])
        replicates = replicate("auc", values, panel, Resampling(500))
        intervals = [replicates.bootstrap(method, 0) for method in (0, 1)]
        misses += [not interval.low <= 0.5 <= interval.high for interval in intervals]
    # 24 intervals at 95 %: more than 4 misses have a probability of 1 %.
    assert sum(misses) <= 4


def test_the_targets_own_labels_do_not_reach_the_transferred_baseline(tmp_path: Path) -> None:
    run = Run(tmp_path)
    sources, own = [run.prompts("h1"), run.prompts("h2")], run.prompts("l1")
    train = set(own.select("train").tolist())
    swapped = [
        Prompt(prompt_id("harmless" if own.harmful[i] else "harmful", "train", int(own.ids[i][-4:])), own.texts[i])
        if i in train
        else Prompt(own.ids[i], own.texts[i])
        for i in range(len(own))
    ]
    first = surface.surface_scores(sources, own)
    second = surface.surface_scores(sources, table.build("l1", swapped))
    assert np.array_equal(first.scores["surface"], second.scores["surface"])
    assert not np.array_equal(first.scores["char_ngrams"], second.scores["char_ngrams"])


def test_without_a_class_of_its_own_a_language_keeps_the_transferred_baselines(tmp_path: Path) -> None:
    run = Run(tmp_path, without={"l1": "harmless train"})
    found = surface.surface_scores([run.prompts("h1"), run.prompts("h2")], run.prompts("l1"))
    assert set(found.scores) == {"surface", "length"}


def test_sources_of_one_class_are_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path, without={"h1": "harmless train"})
    with pytest.raises(PolygateError, match="one class"):
        surface.surface_scores([run.prompts("h1")], run.prompts("l1"))


def test_surface_gates_are_calibrated_like_the_models(tmp_path: Path) -> None:
    run = Run(tmp_path, longer=True)
    settings = Gate(rank=2, ranks=[1, 2], budgets=[0, 4], draws=3)
    gates = surface.surface_gates([run.prompts("h1"), run.prompts("h2")], run.prompts("l1"), settings, seed=0)
    assert [(gate.budget, gate.draw) for gate in gates] == [(0, 0), (4, 0), (4, 1), (4, 2)]
    assert [gate.fit.threshold.origin for gate in gates] == ["source", "examples", "examples", "examples"]
    assert all(len(gate.fit.weights) == len(FEATURES) for gate in gates)


MEASURED = {
    "en": (0.85, 0.82),
    "de": (0.85, 0.80),
    "ar": (0.88, 0.85),
    "th": (0.86, 0.85),
    "yo": (0.87, 0.83),
}
"""AUC of length alone and of the eleven features, measured on PolyRefuse."""
HIGH = ("en", "de", "fr", "es", "it", "nl", "pl", "ru", "ja")


def polyrefuse(folder: Path, language: str) -> PromptTable:
    """Train and test prompts of a language from upstream's files."""
    rows = []
    for split in ("train", "test"):
        for subset in ("harmful", "harmless"):
            name = f"{subset}_{split}_translated_{language}.json"
            if language == "en" and split == "train":
                name = f"en_{subset}_train{'_200_sampled' if subset == 'harmless' else ''}.json"
            for i, row in enumerate(json.loads((folder / "polyrefuse" / name).read_text(encoding="utf-8"))):
                text = row.get("instruction_translated") or row["instruction"]
                rows.append(Prompt(prompt_id(subset, split, i), text))  # type: ignore[arg-type]
    return table.build(language, rows)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, PromptTable]:
    return {name: polyrefuse(shared_data, name) for name in {*HIGH, *MEASURED}}


@pytest.mark.parametrize("language", MEASURED)
def test_the_measured_confounds_of_polyrefuse(real: dict[str, PromptTable], language: str) -> None:
    sources = [real[name] for name in HIGH if name != language]
    found = baselines(sources, real[language])
    length, surface = MEASURED[language]
    assert found["length"] == pytest.approx(length, abs=0.03)
    assert found["surface"] == pytest.approx(surface, abs=0.03)
    assert found["char_ngrams"] > 0.9
    assert 0.8 < found["naive_bayes"] < found["char_ngrams"]
