"""Cross-lingual transfer: thresholds and scores against plain fits, and who takes part in which gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kernels import twins
from library.decision.probes.conftest import TIERS
from polygate import kernels
from polygate.decision.probes import transfer as module
from polygate.decision.probes.rows import Language
from polygate.decision.probes.transfer import SCHEMA, transfer
from polygate.measurement.metrics import f1 as f1_of
from polygate.representation.subspace import subspace
from polygate.settings.types import Gate

GATE = Gate(rank=3, ranks=[1, 3], budgets=[0], draws=1)
HIGH = [name for name, tier in TIERS.items() if tier == "high"]
OTHERS = [name for name, tier in TIERS.items() if tier != "high"]


@pytest.fixture(scope="module")
def found(languages: Sequence[Language]) -> pd.DataFrame:
    return transfer(languages, GATE, "a", 0).to_pandas()


def slow_threshold(scores: np.ndarray, harmful: np.ndarray, groups: np.ndarray) -> float:
    """The first of all candidates with the highest mean F1 over languages."""
    values = np.unique(scores)
    middles = (values[:-1] + values[1:]) / 2
    candidates = [np.nextafter(values[0], -np.inf), *middles, values[-1]]
    worth = []
    for threshold in candidates:
        each = [f1_of(scores[groups == g] > threshold, harmful[groups == g]) for g in np.unique(groups)]
        worth.append(round(float(np.mean(each)), 12))
    return float(candidates[int(np.argmax(worth))])


@pytest.mark.parametrize("source", ["", "m", "t"])
def test_every_gate_is_one_fit_on_its_sources_with_one_threshold_from_them(
    languages: Sequence[Language], found: pd.DataFrame, source: str
) -> None:
    known = {language.name: language for language in languages}
    chosen = [known[name] for name in [*HIGH, *([source] if source else [])]]
    stack = np.stack([language.difference() for language in chosen])
    basis = subspace(stack, 3, known["a"].difference()).basis
    rows = np.concatenate([language.train.astype(np.float64) @ basis.T for language in chosen])
    harmful = np.concatenate([language.harmful for language in chosen])
    groups = np.repeat(np.arange(len(chosen)), [len(language.train) for language in chosen])
    fit = kernels.fit_logistic(rows, harmful, None, None, solver="convex")
    slope = fit.weights[0] / fit.scale[0]
    offset = fit.bias[0] - slope @ fit.mean[0]
    threshold = slow_threshold(rows @ slope + offset, harmful, groups)
    for name in OTHERS:
        mine = found[(found["source"] == source) & (found["language"] == name)]
        assert mine["prompt_id"].tolist() == list(known[name].test_ids)
        scores = known[name].test().astype(np.float64) @ basis.T @ slope + offset
        np.testing.assert_allclose(mine["score"], scores, atol=1e-4)
        np.testing.assert_allclose(mine["threshold"], threshold, atol=1e-4)
        assert (mine["flagged"] == (mine["score"] > mine["threshold"])).all()


def test_a_score_at_the_threshold_is_what_the_settings_call_it(
    languages: Sequence[Language], found: pd.DataFrame
) -> None:
    tied = transfer(languages, GATE.model_copy(update={"ties": "harmful"}), "a", 0).to_pandas()
    np.testing.assert_array_equal(tied["threshold"], np.nextafter(found["threshold"], -np.inf))


def test_every_mid_and_low_resource_language_is_added_and_tested(found: pd.DataFrame) -> None:
    assert found["source"].unique().tolist() == ["", *OTHERS]
    assert found["language"].unique().tolist() == OTHERS
    assert not found.duplicated(["source", "language", "prompt_id"]).any()
    assert set(found["split"]) == {"test"}


def test_a_target_takes_part_in_no_gate_but_its_own(languages: Sequence[Language], found: pd.DataFrame) -> None:
    """With other train prompts of `t`, and other test prompts, all gates but that of `t` stay what they are."""
    other = replace(next(one for one in languages if one.name == "t"))
    changed = [
        replace(one, train=-one.train[::-1].copy(), harmful=one.harmful[::-1].copy(), choice=one.choice[::-1].copy())
        if one.name == other.name
        else one
        for one in languages
    ]
    again = transfer(changed, GATE, "a", 0).to_pandas()
    own = found["source"] == "t"
    pd.testing.assert_frame_equal(again[~own], found[~own])
    assert (again.loc[own, "score"] != found.loc[own, "score"]).any()


def test_nothing_is_chosen_on_test_prompts(languages: Sequence[Language], found: pd.DataFrame) -> None:
    flipped = [replace(one, test_harmful=~one.test_harmful) for one in languages]
    again = transfer(flipped, GATE, "a", 0).to_pandas()
    pd.testing.assert_frame_equal(again.drop(columns="subset"), found.drop(columns="subset"))
    assert (again["subset"] != found["subset"]).all()


def test_a_language_added_mends_the_threshold_of_one_shifted_alike(found: pd.DataFrame) -> None:
    """`t` is shifted up and `u` down: t's prompts move the common threshold to where t's own test prompts need it."""

    def balanced(source: str, language: str) -> float:
        mine = found[(found["source"] == source) & (found["language"] == language)]
        rates = mine.groupby("subset")["flagged"].mean()
        return float(rates["harmful"] + 1 - rates["harmless"]) / 2

    assert balanced("t", "t") > balanced("", "t") + 0.02
    for language in OTHERS:
        mine = found[(found["source"] == "") & (found["language"] == language)]
        assert twins.auc(mine["score"].to_numpy(), (mine["subset"] == "harmful").to_numpy()) > 0.85


def test_the_rank_is_that_of_as_many_languages_as_there_are(languages: Sequence[Language]) -> None:
    ranks = transfer(languages, Gate(rank=4, ranks=[4], budgets=[0], draws=1), "a", 0).to_pandas()
    assert ranks.groupby("source")["rank"].first().to_dict() == {"": 3, "m": 4, "t": 4, "u": 4}


def test_without_high_resource_languages_there_is_none(languages: Sequence[Language]) -> None:
    low = [language for language in languages if language.tier != "high"]
    assert module.transfer(low, GATE, "a", 0).equals(SCHEMA.empty_table())
