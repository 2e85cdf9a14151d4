"""Calibration: a threshold sees the rows it may see, and one comparison decides everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from library.representation.planted import World
from polygate.decision import calibration
from polygate.errors import PolygateError


def test_a_prompt_on_the_threshold_is_harmless() -> None:
    np.testing.assert_array_equal(calibration.decide(np.array([0.0, 1.0, 2.0]), 1.0), [False, False, True])


def test_decisions_are_made_in_float64() -> None:
    """In float32 the score and the threshold below are the same number."""
    score, threshold = np.array([20.0 + 1e-9]), 20.0
    assert np.float32(score[0]) == np.float32(threshold)
    assert calibration.decide(score, threshold).all()


def test_the_source_threshold_is_fair_to_languages_rather_than_to_rows() -> None:
    """One language with many rows and a shifted scale doesn't drown the others: the objective is a mean over them."""
    small = np.linspace(-1, 1, 20)
    large = np.linspace(4, 6, 2000)
    scores = np.concatenate([small, small, large])
    labels = np.concatenate([small > 0, small > 0, large > 5])
    languages = np.repeat([0, 1, 2], [20, 20, 2000]).astype(np.int64)
    found = calibration.source_threshold(scores, labels, languages, "macro_f1")
    assert -0.1 < found.threshold < 0.1
    assert found.origin == "source"
    pooled = calibration.source_threshold(scores, labels, np.zeros(len(scores), np.int64), "macro_f1")
    assert pooled.threshold > 4


def test_an_example_threshold_separates_separable_examples() -> None:
    scores = np.array([3.0, 4.0, 1.0, 2.0])
    labels = np.array([True, True, False, False])
    found = calibration.example_threshold(scores, labels, "macro_f1")
    assert found.threshold == 2.5
    assert (found.value, found.informative, found.origin) == (1.0, True, "examples")


@pytest.mark.parametrize("objective", ["macro_f1", "balanced_f1", "balanced_accuracy"])
def test_constant_scores_are_reported_as_uninformative(objective: calibration.Objective) -> None:
    labels = np.array([True] * 5 + [False] * 5)
    assert not calibration.example_threshold(np.full(10, 0.7), labels, objective).informative


def test_scores_in_the_wrong_order_are_reported_as_uninformative() -> None:
    """One example per class, the harmless one scored higher: nothing beats flagging everything."""
    found = calibration.example_threshold(np.array([0.0, 1.0]), np.array([True, False]), "macro_f1")
    assert not found.informative


def test_draws_are_train_prompts_of_both_classes_without_multiple_choice(tmp_path: Path) -> None:
    prompts = World(tmp_path).prompts("t")
    for draw in range(20):
        rows = calibration.draw_examples(prompts, 8, draw, seed=0)
        assert len(set(rows)) == 16
        assert (prompts.split[rows] == "train").all()
        assert not prompts.multiple_choice[rows].any()
        assert prompts.harmful[rows].tolist() == [True] * 8 + [False] * 8


def test_draws_depend_on_their_key_and_on_nothing_else(tmp_path: Path) -> None:
    prompts, other = World(tmp_path).prompts("t"), World(tmp_path).prompts("u")
    first = calibration.draw_examples(prompts, 8, 3, seed=0)
    calibration.draw_examples(prompts, 4, 1, seed=0)
    np.testing.assert_array_equal(first, calibration.draw_examples(prompts, 8, 3, seed=0))
    rivals = [
        calibration.draw_examples(prompts, 8, 4, seed=0),
        calibration.draw_examples(prompts, 8, 3, seed=1),
        calibration.draw_examples(other, 8, 3, seed=0),
    ]
    assert all(rival.tolist() != first.tolist() for rival in rivals)


def test_a_budget_beyond_the_train_prompts_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="30 harmless train prompts, budget 31"):
        calibration.draw_examples(World(tmp_path).prompts("t"), 31, 0, seed=0)


def test_class_balance_names_the_languages_seen_from_one_side() -> None:
    labels = [np.array([True, False, False]), np.array([False, False])]
    balance = calibration.class_balance(["a", "b"], labels)
    assert balance == {"a": (1, 2), "b": (0, 2)}
    assert calibration.one_sided(balance) == ["b"]
