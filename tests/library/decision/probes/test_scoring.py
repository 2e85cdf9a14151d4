"""Standard errors of AUC, F1 and balanced accuracy: closed forms, and the bootstrap of the same prompts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from library.representation.planted import naive_auc
from polygate import kernels
from polygate.decision.probes import scoring


def rows(n: int = 400, fits: int = 3, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    harmful = np.arange(n) % 7 < 3
    return np.round(random.normal(size=(fits, n)) + 1.1 * harmful, 1), harmful


def error_of(scores: scoring.Scores) -> NDArray[np.float64]:
    """Standard error of each fit."""
    _, influence = scores.mean([[fit] for fit in range(len(scores.value))])
    return np.sqrt((influence**2).sum(axis=1))


def test_the_error_of_an_auc_is_delongs() -> None:
    scores, harmful = rows()
    found = scoring.auc(scores, harmful)
    for fit, values in enumerate(scores):
        a, b = values[harmful], values[~harmful]
        won = (a[:, None] > b) + 0.5 * (a[:, None] == b)
        variance = won.mean(axis=1).var(ddof=1) / len(a) + won.mean(axis=0).var(ddof=1) / len(b)
        assert found.value[fit] == pytest.approx(naive_auc(values, harmful), abs=1e-12)
        assert error_of(found)[fit] == pytest.approx(np.sqrt(variance), rel=1e-12)


@pytest.mark.parametrize("metric", ["auc", "f1", "balanced_accuracy"])
def test_errors_are_those_of_the_bootstrap(metric: str) -> None:
    scores, harmful = rows(600)
    values = scores if metric == "auc" else scores > 0.6
    found = scoring.auc(values, harmful) if metric == "auc" else scoring.decisions(values, harmful)[metric]
    drawn = kernels.bootstrap(metric, values.astype(float), harmful, resamples=4000, seed=1)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.value, drawn.estimate[:, 0], atol=1e-12)
    np.testing.assert_allclose(error_of(found), drawn.replicates[:, :, 0].std(axis=0), rtol=0.06)


def test_the_error_of_a_mean_over_draws_counts_what_they_share() -> None:
    scores, harmful = rows(600, 4)
    found = scoring.auc(scores + 2 * np.random.default_rng(9).normal(size=600), harmful)
    value, influence = found.mean([[0, 1, 2, 3]])
    drawn = kernels.bootstrap(
        "auc", scores + 2 * np.random.default_rng(9).normal(size=600), harmful, average="methods", resamples=4000
    )
    assert value[0] == pytest.approx(drawn.estimate[0, 0], abs=1e-12)
    assert np.sqrt((influence[0] ** 2).sum()) == pytest.approx(drawn.replicates.std(), rel=0.06)


def test_translations_of_a_prompt_are_one_cluster() -> None:
    scores, harmful = rows(300, 1)
    _, influence = scoring.auc(scores, harmful).mean([[0]])
    single = np.sqrt((influence**2).sum())
    ids = np.arange(300)
    same = scoring.standard_error([influence] * 3, [ids] * 3, 300)
    apart = scoring.standard_error([influence] * 3, [ids, ids + 300, ids + 600], 900)
    assert same[0] == pytest.approx(single, rel=1e-12)
    assert apart[0] == pytest.approx(single / np.sqrt(3), rel=1e-12)


def test_nothing_flagged_gives_an_f1_of_0_without_error() -> None:
    _, harmful = rows(40)
    found = scoring.decisions(np.zeros((1, 40), bool), harmful)["f1"]
    assert found.value[0] == 0
    assert error_of(found)[0] == 0
