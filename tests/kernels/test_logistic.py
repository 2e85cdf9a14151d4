"""Batches of logistic fits: torch's trajectory, scikit-learn's minimum, and each fit as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from kernels import twins
from kernels.twins import Array
from polygate import kernels


def rows(seed: int, n: int, features: int, gap: float = 1.0) -> tuple[Array, Array]:
    """Features of different means and scales, twice as many harmless rows as harmful ones."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    spread = 10.0 ** random.integers(-2, 3, features)
    values = (random.normal(size=(n, features)) + gap * labels[:, None] * random.normal(size=features)) * spread
    return values + spread * 3, labels


def standardised(values: Array) -> Array:
    scale = values.std(axis=0)
    scaled: Array = (values - values.mean(axis=0)) / np.where(scale == 0, 1, scale)
    return scaled


@pytest.mark.parametrize("features", [1, 2, 10, 64])
def test_adamw_follows_torch(features: int) -> None:
    source, labels = rows(features, 400, features)
    extra, extra_labels = rows(features + 1, 3 * 32, features)
    extra, extra_labels = extra.reshape(3, 32, features), extra_labels.reshape(3, 32)
    initial = np.random.default_rng(0).uniform(-0.5, 0.5, features)
    found = kernels.fit_logistic(source, labels, extra, extra_labels, solver="adamw", initial=initial)
    for index in range(3):
        together = np.concatenate([source, extra[index]])
        weights, bias = twins.adamw(standardised(together), np.concatenate([labels, extra_labels[index]]), initial)
        np.testing.assert_allclose(found.weights[index], weights, atol=1e-9)
        assert found.bias[index] == pytest.approx(bias, abs=1e-9)
        np.testing.assert_allclose(found.mean[index], together.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.scale[index], together.std(axis=0), rtol=1e-12)
    assert not found.converged.any()


def test_adamw_stays_near_torch_in_float32() -> None:
    import torch

    source, labels = rows(5, 500, 8)
    initial = np.full(8, 0.1)
    found = kernels.fit_logistic(source, labels, solver="adamw", initial=initial)
    x, y = torch.tensor(standardised(source), dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)
    layer = torch.nn.Linear(8, 1)
    with torch.no_grad():
        layer.weight[:] = torch.tensor(initial)
        layer.bias[:] = 0
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.01)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())
    for _ in range(80):
        optimiser.zero_grad()
        loss(layer(x)[:, 0], y).backward()
        optimiser.step()
    np.testing.assert_allclose(found.weights[0], layer.weight.detach().numpy()[0], atol=1e-5)


@pytest.mark.parametrize("features", [1, 3, 10, 64])
@pytest.mark.parametrize("gap", [0.0, 0.5, 20.0])
def test_convex_solution_is_scikit_learns(features: int, gap: float) -> None:
    """A gap of 20 makes the classes separable: the ridge alone keeps the weights finite."""
    source, labels = rows(features, 300, features, gap)
    found = kernels.fit_logistic(source, labels)
    weight = (~labels).sum() / labels.sum()
    model = LogisticRegression(C=100, class_weight={True: weight, False: 1}, tol=1e-12, max_iter=10_000)
    model.fit(standardised(source), labels)
    assert found.converged.all()
    np.testing.assert_allclose(found.weights[0], model.coef_[0], rtol=2e-4, atol=2e-4)
    assert found.bias[0] == pytest.approx(model.intercept_[0], rel=2e-4, abs=2e-4)


def derivatives(fits: kernels.LogisticFits, index: int, values: Array, labels: Array) -> Array:
    """Gradient of the documented loss at a fit."""
    x = (values - fits.mean[index]) / fits.scale[index]
    balance = np.where(labels, (~labels).sum() / labels.sum(), 1.0)
    logits = x @ fits.weights[index] + fits.bias[index]
    residual = balance * (1 / (1 + np.exp(-logits)) - labels)
    return np.append(residual @ x + 0.01 * fits.weights[index], residual.sum())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32), n=st.integers(3, 200), features=st.integers(1, 12), extra=st.integers(0, 9),
    gap=st.sampled_from([0.0, 1.0, 30.0]),
)  # fmt: skip
def test_the_gradient_vanishes_at_a_converged_fit(seed: int, n: int, features: int, extra: int, gap: float) -> None:
    source, labels = rows(seed, n, features, gap)
    own = np.random.default_rng(seed).normal(size=(2, extra, features))
    own_labels = np.random.default_rng(seed).random((2, extra)) < 0.5
    fits = kernels.fit_logistic(source, labels, own, own_labels)
    assert fits.converged.all()
    for index in range(2):
        slope = derivatives(
            fits, index, np.concatenate([source, own[index]]), np.concatenate([labels, own_labels[index]])
        )
        assert np.abs(slope).max() <= 1e-7 * (n + extra)


def test_the_convex_solution_does_not_depend_on_the_start() -> None:
    source, labels = rows(3, 200, 4)
    a = kernels.fit_logistic(source, labels)
    b = kernels.fit_logistic(source, labels, initial=np.array([30.0, -20.0, 5.0, 100.0]))
    assert b.converged.all()
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-8)


@pytest.mark.parametrize("solver", ["convex", "adamw"])
def test_each_fit_of_a_batch_is_as_if_alone(solver: kernels.Solver) -> None:
    source, labels = rows(4, 130, 5)
    random = np.random.default_rng(0)
    extra, extra_labels = random.normal(size=(6, 4, 5)), random.random((6, 4)) < 0.5
    together = kernels.fit_logistic(source, labels, extra, extra_labels, solver=solver)
    for index in range(6):
        alone = kernels.fit_logistic(
            source, labels, extra[index : index + 1], extra_labels[index : index + 1], solver=solver
        )
        np.testing.assert_array_equal(alone.weights[0], together.weights[index])
        merged = kernels.fit_logistic(
            np.concatenate([source, extra[index]]), np.concatenate([labels, extra_labels[index]]), solver=solver
        )
        np.testing.assert_allclose(merged.weights[0], together.weights[index], atol=1e-8)


@pytest.mark.parametrize("solver", ["convex", "adamw"])
def test_fits_of_different_sizes_are_one_batch(solver: kernels.Solver) -> None:
    """Padding is never read, not even where it is NaN."""
    source, labels = rows(9, 130, 5)
    random = np.random.default_rng(0)
    counts = np.array([0, 1, 7, 4])
    extra, extra_labels = random.normal(size=(4, 7, 5)), random.random((4, 7)) < 0.5
    extra[np.arange(7) >= counts[:, None]] = np.nan
    together = kernels.fit_logistic(source, labels, extra, extra_labels, extra_rows=counts, solver=solver)
    for index, count in enumerate(counts):
        alone = kernels.fit_logistic(
            source, labels, extra[[index], :count], extra_labels[[index], :count], solver=solver
        )
        for name in ("mean", "scale", "weights", "bias", "converged"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[index])


def test_source_rows_of_one_class_are_completed_by_each_fits_own() -> None:
    source, _ = rows(10, 60, 3)
    extra = np.random.default_rng(0).normal(size=(2, 5, 3)) * source.std(axis=0)
    own = np.tile(np.arange(5) < 3, (2, 1))
    fits = kernels.fit_logistic(source, np.zeros(60, bool), extra, own)
    assert fits.converged.all()
    for index in range(2):
        slope = derivatives(
            fits, index, np.concatenate([source, extra[index]]), np.concatenate([np.zeros(60, bool), own[index]])
        )
        assert np.abs(slope).max() <= 1e-7 * 65


def test_a_fit_far_from_the_source_solution_converges() -> None:
    """As many rows as the sources have, with the labels turned round."""
    source, labels = rows(11, 120, 4, gap=30.0)
    extra = np.stack([source, source * 1.5])
    fits = kernels.fit_logistic(source, labels, extra, np.tile(~labels, (2, 1)))
    assert fits.converged.all()
    for index in range(2):
        slope = derivatives(fits, index, np.concatenate([source, extra[index]]), np.concatenate([labels, ~labels]))
        assert np.abs(slope).max() <= 1e-7 * 240


@pytest.mark.parametrize("solver", ["convex", "adamw"])
def test_a_constant_feature_has_scale_1_and_says_nothing(solver: kernels.Solver) -> None:
    source, labels = rows(6, 90, 3)
    source[:, 1] = 0.1
    found = kernels.fit_logistic(source, labels, solver=solver)
    assert found.scale[0, 1] == 1.0
    assert abs(found.weights[0, 1]) < 1e-9
    assert np.isfinite(found.weights).all()


def test_features_far_from_zero_are_fitted_as_well() -> None:
    """Massive activations: a mean a million times the spread."""
    source, labels = rows(7, 200, 3)
    near = kernels.fit_logistic(source, labels)
    far = kernels.fit_logistic(source + 1e6 * source.std(axis=0), labels)
    assert far.converged.all()
    np.testing.assert_allclose(near.weights, far.weights, atol=1e-6)


def test_arguments_that_do_not_fit_are_named() -> None:
    source, labels = rows(8, 9, 2)
    extra, extra_labels = np.zeros((2, 3, 2)), np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match="extra and extra_labels go together"):
        kernels.fit_logistic(source, labels, extra)
    with pytest.raises(ValueError, match=r"extra has shape \(2, 3, 2\) and extra_labels \(2, 2\)"):
        kernels.fit_logistic(source, labels, extra, extra_labels[:, :2])
    with pytest.raises(ValueError, match="fit 0 holds a single class: 0 harmful of 12 rows"):
        kernels.fit_logistic(source, labels & False, extra, extra_labels)
    with pytest.raises(ValueError, match=r"source\[1\] is NaN"):
        kernels.fit_logistic(np.where(source == source[0, 1], np.nan, source), labels)
    with pytest.raises(ValueError, match="initial has 3 entries, expected 2 as features"):
        kernels.fit_logistic(source, labels, initial=np.zeros(3))
    with pytest.raises(ValueError, match='solver is "sgd", expected one of "convex", "adamw"'):
        kernels.fit_logistic(source, labels, solver="sgd")  # type: ignore[arg-type]
    for count in (-1, 4):
        with pytest.raises(ValueError, match=rf"extra_rows\[1\] is {count}, expected 0 … 3 as extra has rows"):
            kernels.fit_logistic(source, labels, extra, extra_labels, extra_rows=np.array([0, count]))
    with pytest.raises(ValueError, match=r"extra\[1\]\[2\] is NaN"):
        kernels.fit_logistic(source, labels, np.where(np.arange(12).reshape(2, 3, 2) == 8, np.nan, 0), extra_labels)
    with pytest.raises(ValueError, match="extra holds no fits"):
        kernels.fit_logistic(source, labels, extra[:0], extra_labels[:0])
