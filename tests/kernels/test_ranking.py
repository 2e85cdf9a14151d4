"""AUC, average precision and the ROC curve: exact with ties, as scikit-learn and the definitions have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from kernels import twins
from kernels.twins import Array
from polygate import kernels

# Few distinct values, so that ties within and across classes are the rule.
tied_scores = st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-300, 0.1, 7.0]), min_size=2, max_size=25)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Scores with many ties, labels of both classes, weights with zeros but some weight in each class."""
    scores = np.array(draw(tied_scores))
    labels = np.array(draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    labels[:2] = [True, False]
    weights = np.array(
        draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=len(scores), max_size=len(scores)))
    )
    weights[:2] = 0.5
    return scores, labels, weights


@settings(deadline=None)
@given(labelled())
def test_metrics_are_their_definitions(rows: tuple[Array, Array, Array]) -> None:
    scores, labels, weights = rows
    assert kernels.auc(scores, labels) == twins.auc(scores, labels)
    assert kernels.auc(scores, labels, weights) == pytest.approx(twins.auc(scores, labels, weights), rel=1e-13)
    expected = twins.average_precision(scores, labels)
    assert kernels.average_precision(scores, labels) == pytest.approx(expected, rel=1e-13)
    expected = twins.average_precision(scores, labels, weights)
    assert kernels.average_precision(scores, labels, weights) == pytest.approx(expected, rel=1e-13)


@settings(deadline=None)
@given(labelled())
def test_auc_is_antisymmetric_and_blind_to_monotone_maps(rows: tuple[Array, Array, Array]) -> None:
    scores, labels, _ = rows
    area = kernels.auc(scores, labels)
    assert kernels.auc(-scores, labels) == pytest.approx(1 - area, abs=1e-15)
    assert kernels.auc(np.cbrt(scores) * 8, labels) == area
    order = np.random.default_rng(0).permutation(len(scores))
    assert kernels.auc(scores[order], labels[order]) == area


@settings(deadline=None)
@given(labelled())
def test_placements_are_their_definition_and_average_to_the_auc(rows: tuple[Array, Array, Array]) -> None:
    scores, labels, _ = rows
    placed = kernels.placements(np.stack([scores, -scores]), labels)
    np.testing.assert_array_equal(placed[0], twins.placements(scores, labels))
    np.testing.assert_array_equal(placed[1], twins.placements(-scores, labels))
    for label in (True, False):
        assert placed[0][labels == label].mean() == pytest.approx(kernels.auc(scores, labels), abs=1e-12)
    np.testing.assert_array_equal(kernels.placements(scores, labels), placed[0])


def test_metrics_agree_with_scikit_learn_on_many_rows() -> None:
    random = np.random.default_rng(0)
    scores, labels = np.round(random.normal(size=(3, 5000)), 2), random.random(5000) < 0.3
    weights = random.random(5000)
    areas, precisions = kernels.auc(scores, labels), kernels.average_precision(scores, labels, weights)
    for method in range(3):
        assert areas[method] == pytest.approx(metrics.roc_auc_score(labels, scores[method]), rel=1e-12)
        expected = metrics.average_precision_score(labels, scores[method], sample_weight=weights)
        assert precisions[method] == pytest.approx(expected, rel=1e-11)


def test_roc_curve_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(1)
    scores, labels, weights = np.round(random.normal(size=400), 1), random.random(400) < 0.4, random.random(400)
    for weight in (None, weights):
        curve = kernels.roc(scores, labels, weight)
        expected = metrics.roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
        for found, values in zip(
            (curve.false_positive_rate, curve.true_positive_rate, curve.thresholds), expected, strict=True
        ):
            np.testing.assert_allclose(found, values, atol=1e-12)
        assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(
            kernels.auc(scores, labels, weight), abs=1e-12
        )


def test_constant_scores_tell_nothing() -> None:
    """All tied: AUC one half, average precision the share of harmful rows; not 0, and not .96."""
    labels = np.arange(100) < 96
    assert kernels.auc(np.zeros(100), labels) == 0.5
    assert kernels.average_precision(np.zeros(100), labels) == pytest.approx(0.96, abs=1e-15)
    zeros = np.where(labels, 0.0, -0.0)
    assert kernels.auc(zeros, labels) == 0.5


def test_neighbouring_floats_are_not_ties() -> None:
    scores = np.array([1e16, np.nextafter(1e16, np.inf)])
    assert kernels.auc(scores, np.array([False, True])) == 1.0


def test_several_methods_share_a_call() -> None:
    random = np.random.default_rng(2)
    scores, labels = random.normal(size=(4, 60)), np.arange(60) % 3 == 0
    found = kernels.auc(scores, labels)
    assert found.shape == (4,)
    assert found.tolist() == [kernels.auc(row, labels) for row in scores]
    assert isinstance(kernels.auc(scores[0], labels), float)


@pytest.mark.parametrize("metric", [kernels.auc, kernels.average_precision, kernels.roc])
def test_what_can_not_be_ranked_is_named(metric: object) -> None:
    assert callable(metric)
    labels = np.array([True, False, True])
    with pytest.raises(ValueError, match=r"scores\[1\] is NaN, expected finite numbers"):
        metric(np.array([0.0, np.nan, 1.0]), labels)
    with pytest.raises(ValueError, match="labels hold a single class: 3 harmful of 3 rows"):
        metric(np.zeros(3), np.ones(3, bool))
    with pytest.raises(ValueError, match="labels has dtype int64, expected bool"):
        metric(np.zeros(3), np.array([1, 0, 1]))
    with pytest.raises(ValueError, match="scores have 2 entries"):
        metric(np.zeros(2), labels)
    with pytest.raises(ValueError, match=r"weights\[2\] is -1"):
        metric(np.zeros(3), labels, np.array([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="the harmless rows have no weight"):
        metric(np.zeros(3), labels, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="labels are empty"):
        metric(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match="scores has dtype"):
        metric(np.array(["a", "b", "c"]), labels)
