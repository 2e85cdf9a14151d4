"""Thresholds: every candidate is tried, the first maximum wins, and one that says nothing is called so."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import twins
from kernels.twins import Array
from polygate import kernels

OBJECTIVES = get_args(kernels.Objective)


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Scores with ties, labels, and up to four groups that each hold both classes."""
    groups = draw(st.integers(1, 4))
    size = draw(st.integers(2 * groups, 40))
    scores = np.array(draw(st.lists(st.integers(-6, 6), min_size=size, max_size=size))) / 4
    labels = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    names = np.array(draw(st.lists(st.integers(0, groups - 1), min_size=size, max_size=size))) * 10 - 5
    labels[: 2 * groups] = np.arange(2 * groups) % 2 == 0
    names[: 2 * groups] = np.arange(2 * groups) // 2 * 10 - 5
    return scores, labels, names


@settings(deadline=None)
@given(rows=grouped(), name=st.sampled_from(OBJECTIVES))
def test_the_threshold_is_the_first_best_candidate(rows: tuple[Array, Array, Array], name: kernels.Objective) -> None:
    scores, labels, groups = rows
    found = kernels.sweep_threshold(scores, labels, groups, name)
    tried = twins.candidates(scores)
    values = np.array([twins.objective(name, scores, labels, groups, t) for t in tried])
    assert found.value == pytest.approx(values.max(), abs=1e-12)
    assert found.threshold == tried[int(np.flatnonzero(values > values.max() - 1e-12)[0])]
    assert found.informative == (values.max() > values[0] + 1e-12)


@settings(deadline=None)
@given(rows=grouped(), name=st.sampled_from(OBJECTIVES), data=st.data())
def test_weights_count_rows_and_weight_0_leaves_them_out(
    rows: tuple[Array, Array, Array], name: kernels.Objective, data: st.DataObject
) -> None:
    scores, labels, groups = rows
    drawn = st.lists(st.sampled_from([0.0, 0.1, 1.0, 2.5, 3e5]), min_size=len(scores), max_size=len(scores))
    weights = np.array(data.draw(drawn))
    weights[: 2 * len(np.unique(groups))] += 0.25
    found = kernels.sweep_threshold(scores, labels, groups, name, weights)
    tried = twins.candidates(scores[weights > 0])
    values = np.array([twins.objective(name, scores, labels, groups, t, weights) for t in tried])
    assert found.value == pytest.approx(values.max(), abs=1e-12)
    # Sums of floats differ in the last places between the two, so a tie may be one or not at the edge of 1e-12.
    first = [int(np.flatnonzero(values > values.max() - margin)[0]) for margin in (0.9e-12, 1.1e-12)]
    assert found.threshold in {tried[index] for index in first}
    kept = weights > 0
    assert found == kernels.sweep_threshold(scores[kept], labels[kept], groups[kept], name, weights[kept])


@settings(deadline=None)
@given(rows=grouped(), name=st.sampled_from(OBJECTIVES), times=st.lists(st.integers(1, 4), min_size=40, max_size=40))
def test_whole_weights_are_repeated_rows(
    rows: tuple[Array, Array, Array], name: kernels.Objective, times: list[int]
) -> None:
    counts = np.array(times[: len(rows[0])])
    scores, labels, groups = (np.repeat(part, counts) for part in rows)
    weighted = kernels.sweep_threshold(*rows, name, counts)
    assert weighted == kernels.sweep_threshold(scores, labels, groups, name)


@settings(deadline=None)
@given(
    rows=grouped(), name=st.sampled_from(OBJECTIVES), seed=st.integers(0, 99), threads=st.integers(1, 3),
    weighted=st.booleans(),
)  # fmt: skip
def test_methods_of_a_batch_are_swept_as_if_alone(
    rows: tuple[Array, Array, Array], name: kernels.Objective, seed: int, threads: int, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    scores = np.stack([random.permutation(rows[0]), rows[0], random.normal(size=len(rows[0]))])
    weights = random.random(len(rows[0])) if weighted else None
    found = kernels.sweep_threshold(scores, rows[1], rows[2], name, weights, threads=threads)
    assert found.informative.dtype == bool
    for index in range(3):
        alone = kernels.sweep_threshold(scores[index], rows[1], rows[2], name, weights)
        assert (found.threshold[index], found.value[index]) == (alone.threshold, alone.value)
        assert found.informative[index] == alone.informative


@pytest.mark.parametrize("name", OBJECTIVES)
def test_constant_scores_are_uninformative(name: kernels.Objective) -> None:
    """Flagging everything has an F1 of 2/3 here; that must not pass for a finding."""
    found = kernels.sweep_threshold(np.full(10, 3.7), np.arange(10) < 5, None, name)
    assert found.threshold == np.nextafter(3.7, 0)
    assert not found.informative
    assert found.value == pytest.approx(0.5 if name == "balanced_accuracy" else 2 / 3)


@pytest.mark.parametrize("size", [1.0, 17.0, 1e6, 1e300])
def test_the_threshold_separates_neighbouring_floats_of_any_size(size: float) -> None:
    """A margin of 1e-6 vanishes beside large scores; the chosen threshold lies between the two whatever their size."""
    scores = np.array([size, np.nextafter(size, np.inf)])
    found = kernels.sweep_threshold(scores, np.array([False, True]))
    assert (scores > found.threshold).tolist() == [False, True]
    assert found.value == 1.0


@settings(deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=10, unique=True),
    st.integers(1, 9),
)
def test_separable_scores_are_separated(values: list[float], place: int) -> None:
    scores = np.unique(np.array(values) + 0.0)
    if len(scores) < 2:
        return
    labels = np.arange(len(scores)) >= max(1, place % len(scores))
    found = kernels.sweep_threshold(scores, labels)
    np.testing.assert_array_equal(scores > found.threshold, labels)


def test_a_single_language_is_the_macro_objective_of_one() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=300), random.random(300) < 0.5
    alone = kernels.sweep_threshold(scores, labels, None, "balanced_f1")
    assert alone == kernels.sweep_threshold(scores, labels, np.full(300, 7), "balanced_f1")


def test_many_languages_at_once_agree_with_the_definition() -> None:
    random = np.random.default_rng(1)
    scores, groups = np.round(random.normal(size=1500), 2), random.integers(0, 23, 1500)
    labels = random.random(1500) < 1 / (1 + np.exp(-2 * scores - groups / 10 + 1))
    found = kernels.sweep_threshold(scores, labels, groups, "macro_f1")
    values = [twins.objective("macro_f1", scores, labels, groups, t) for t in twins.candidates(scores)]
    assert found.value == pytest.approx(max(values), abs=1e-12)
    assert twins.objective("macro_f1", scores, labels, groups, found.threshold) == pytest.approx(max(values), abs=1e-12)


def test_arguments_that_do_not_fit_are_named() -> None:
    scores, labels = np.arange(4.0), np.arange(4) < 2
    with pytest.raises(ValueError, match="group 7 holds a single class: 0 harmful, 1 harmless"):
        kernels.sweep_threshold(scores, labels, np.array([0, 0, 0, 7]))
    with pytest.raises(ValueError, match='objective is "f2", expected one of "macro_f1", "balanced_f1"'):
        kernels.sweep_threshold(scores, labels, None, "f2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scores\[0\] is NaN"):
        kernels.sweep_threshold(np.full(4, np.nan), labels)
    with pytest.raises(ValueError, match="weights has 3 entries, expected 4 as labels"):
        kernels.sweep_threshold(scores, labels, weights=np.ones(3))
    with pytest.raises(ValueError, match=r"weights\[1\] is -1, expected finite numbers ≥ 0"):
        kernels.sweep_threshold(scores, labels, weights=np.array([1, -1, 1, 1]))
    with pytest.raises(ValueError, match="weights of group 0's harmful rows sum to 0, expected a number > 0"):
        kernels.sweep_threshold(scores, labels, weights=~labels * 1.0)
    with pytest.raises(ValueError, match="weights sum to inf, expected a finite number"):
        kernels.sweep_threshold(scores, labels, weights=np.where(labels, 1, 1e308))
    with pytest.raises(ValueError, match="scores have 3 entries in the last axis, expected 4 as labels"):
        kernels.sweep_threshold(np.zeros((2, 3)), labels)
    with pytest.raises(ValueError, match="groups has 3 entries"):
        kernels.sweep_threshold(scores, labels, np.zeros(3, int))
