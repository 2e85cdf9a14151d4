"""Few-shot recoverability on a planted world: known limits, controls at chance, fits that are what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from library.probes.conftest import SETTINGS, load
from library.science.planted import World, naive_auc
from polygate.errors import PolygateError
from polygate.probes.full_space import RIDGE
from polygate.probes.recoverability import _dual_logistic, recoverability
from polygate.probes.rows import Language
from polygate.settings import Probes


@pytest.fixture(scope="module")
def tables(languages: Sequence[Language]) -> tuple[pd.DataFrame, pd.DataFrame]:
    draws, means = recoverability(languages, "a", 0)
    return draws.to_pandas(), means.to_pandas()


def test_there_is_a_row_for_every_language_probe_budget_and_draw(
    languages: Sequence[Language], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    draws, means = tables
    few = ["local", "logistic", "mlp", "permuted", "random"]
    assert len(draws) == len(languages) * (2 + len(few) * 3 * 3)
    assert not draws.duplicated(["language", "probe", "budget", "draw"]).any()
    assert draws["estimate"].between(0, 1).all()
    single = means[means["language"] != ""].set_index(["language", "probe", "budget"])["estimate"]
    expected = draws.groupby(["language", "probe", "budget"])["estimate"].mean()
    np.testing.assert_allclose(single.sort_index(), expected.sort_index(), atol=1e-12)
    tier = means[(means["language"] == "") & (means["tier"] == "low")].set_index(["probe", "budget"])["estimate"]
    low = single.loc[["t", "u"]].groupby(["probe", "budget"]).mean()
    np.testing.assert_allclose(tier.sort_index(), low.sort_index(), atol=1e-12)


def test_more_examples_recover_more_and_controls_nothing(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    mean = tables[0].groupby(["probe", "budget"])["estimate"].mean()
    for probe in ("local", "logistic", "mlp"):
        assert mean[probe, 1] < mean[probe, 4] < mean[probe, 16] <= mean["full_local", 0] + 0.02
    assert mean["v_hrl", 0] > mean["local", 4]
    for control in ("permuted", "random"):
        assert abs(mean[control].mean() - 0.5) < 0.07


def test_local_is_the_difference_in_means_of_the_examples_drawn(
    languages: Sequence[Language], tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    target = languages[4]
    rows = target.examples[4, 2]
    assert target.harmful[rows].tolist() == [True] * 4 + [False] * 4
    assert not target.choice[rows].any()
    direction = target.train[rows[:4]].mean(axis=0) - target.train[rows[4:]].mean(axis=0)
    found = tables[0].set_index(["language", "probe", "budget", "draw"])["estimate"]
    expected = naive_auc(target.test() @ direction, target.test_harmful)
    assert found["t", "local", 4, 2] == pytest.approx(expected, abs=1e-6)


def test_logistic_regression_in_the_span_of_the_examples_is_the_one_in_full_space(
    languages: Sequence[Language],
) -> None:
    target = languages[4]
    rows = target.train[target.examples[16, 0]].astype(np.float64)
    labels = target.labels(16)
    found = rows.T @ _dual_logistic((rows @ rows.T)[None], labels)[0]
    scale = np.sqrt(((rows - rows.mean(axis=0)) ** 2).sum() / len(rows))
    model = LogisticRegression(C=1 / RIDGE, tol=1e-12, max_iter=1000, solver="newton-cholesky")
    expected = model.fit((rows - rows.mean(axis=0)) / scale, labels).coef_[0] / scale
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_budgets_beyond_the_train_prompts_are_left_out(tmp_path: Path) -> None:
    draws, _ = recoverability(load(World(tmp_path), Probes(budgets=[4, 31, 64], draws=1)), "a", 0, mlp=False)
    assert set(draws.to_pandas()["budget"]) == {0, 4}


def test_a_language_without_one_class_of_test_prompts_has_no_estimate(languages: Sequence[Language]) -> None:
    lacking = replace(languages[4], test_harmful=np.ones(len(languages[4].test_harmful), bool))
    draws, _ = recoverability([*languages[:4], lacking], "a", 0, mlp=False)
    assert "t" not in set(draws.to_pandas()["language"])


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    prompts = world.prompts("a")
    x = world.activations(prompts)
    x[1, 5, 2] = np.nan
    store, written = world.write_activations(prompts, x)
    from polygate.probes.rows import load_all

    with pytest.raises(PolygateError, match=r"of prompt harmful-train-0005.*a\.safetensors"):
        load_all(["high"], [written], [store], 1, SETTINGS, 0)
