"""OMNIGuard: what its networks learn from, what its thresholds see, and a world that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from library.decision.probes.conftest import TIERS
from polygate.decision.probes import omniguard
from polygate.decision.probes.networks import Schedule
from polygate.decision.probes.omniguard import BUDGETED, FINE_TUNED, FULL, Guards, compare, sources
from polygate.decision.probes.rows import Language
from polygate.settings.types import Omniguard

SETTINGS = Omniguard(hidden=[8], seeds=2, draws=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def draws(languages: Sequence[Language]) -> pd.DataFrame:
    return compare(languages, SETTINGS, "macro_f1", 0)[0].to_pandas()


def test_no_target_is_among_its_own_sources(languages: Sequence[Language]) -> None:
    for target in languages:
        group = sources(languages, target)
        if group is None:
            # Without the only mid-resource language there is none to learn from.
            assert target.tier == "mid"
            continue
        assert group.names == tuple(name for name in TIERS if TIERS[name] != "low" and name != target.name)


def test_a_network_learns_from_its_sources_and_its_examples_alone(
    languages: Sequence[Language], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, omniguard._Job]] = []

    def watched(kind: str, made: object) -> object:
        def call(self: Guards, jobs: Sequence[omniguard._Job], *rest: object) -> object:
            seen.extend((kind, job) for job in jobs)
            return made(self, jobs, *rest)  # type: ignore[operator]

        return call

    monkeypatch.setattr(Guards, "_train", watched("train", Guards._train))
    monkeypatch.setattr(Guards, "_tune", watched("tune", Guards._tune))
    guards = Guards(languages, SETTINGS, 0, CPU)
    guards.scored()
    owner = np.concatenate([[language.name] * len(language.train) for language in languages])
    for kind, job in seen:
        mine = job.rows[owner[job.rows] == job.target.name] - guards.place[job.target.name][0]
        budget = job.setup[0]
        assert len(mine) == 2 * budget
        if budget:
            np.testing.assert_array_equal(mine, job.target.examples[job.setup])
        others = set(owner[job.rows]) - {job.target.name}
        assert others == (set() if kind == "tune" else set(job.group.names))
    # Five targets, 3 budgets, 2 × 2 draws; each high-resource target has a group of its own, the low-resource ones one.
    assert sum(kind == "tune" for kind, _ in seen) == 5 * 3 * 4
    assert sum(kind == "train" for kind, _ in seen) == 5 * 3 * 4 + 4 * 2


def test_examples_are_those_of_the_gates_once_per_seed(languages: Sequence[Language]) -> None:
    target = next(language for language in languages if language.name == "t")
    found = omniguard._with_seeds(target, SETTINGS)
    assert set(found.examples) == {(budget, number) for budget in (1, 4, 16) for number in range(4)}
    for (budget, number), rows in found.examples.items():
        np.testing.assert_array_equal(rows, target.examples[budget, number // 2])


def test_no_threshold_but_the_oracles_sees_the_test_prompts(languages: Sequence[Language], draws: pd.DataFrame) -> None:
    class Turned(Language):
        def test(self) -> np.ndarray:
            return 5.0 - 3.0 * super().test()

    fields = Language.__dataclass_fields__
    turned = [Turned(**{name: getattr(one, name) for name in fields}) for one in languages]
    keys = ["language", "probe", "budget", "draw", "threshold_from"]
    again = compare(turned, SETTINGS, "macro_f1", 0)[0].to_pandas()
    before, after = (table[table["metric"] == "f1"].set_index(keys)["threshold"] for table in (draws, again))
    oracle = before.index.get_level_values("threshold_from") == "oracle"
    pd.testing.assert_series_equal(before[~oracle], after[~oracle])
    assert (before[oracle] != after[oracle]).any()
    assert set(before.index.get_level_values("threshold_from")) == {"source", "examples", "global", "oracle"}


def test_every_variant_has_its_rows(draws: pd.DataFrame) -> None:
    keys = ["language", "probe", "budget", "draw", "threshold_from", "metric"]
    assert not draws.duplicated(keys).any()
    assert set(draws["sources"]) == {"high+mid"}
    assert set(draws["language"]) == {"a", "b", "c", "t", "u"}
    for probe, budgets in ((FULL, {0, 1, 4, 16}), (BUDGETED, {1, 4, 16}), (FINE_TUNED, {1, 4, 16})):
        assert set(draws.loc[draws["probe"] == probe, "budget"]) == budgets
    # Examples move the threshold of the network that learns nothing from them, and not its ranking.
    full = draws[(draws["probe"] == FULL) & (draws["metric"] == "auc")]
    assert full.assign(seed=full["draw"] % 2).groupby(["language", "seed"])["estimate"].nunique().eq(1).all()


def test_a_planted_direction_is_read_and_examples_move_a_shifted_threshold(
    languages: Sequence[Language], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published schedule is made for many more than this world's 300 prompts.
    monkeypatch.setattr(omniguard, "TRAINING", Schedule(40, 1e-2))
    draws = compare(languages, SETTINGS, "macro_f1", 0)[0].to_pandas()
    means = draws.groupby(["language", "probe", "budget", "metric", "threshold_from"])["estimate"].mean()
    for language in ("t", "u"):
        assert means[language, FULL, 0, "auc", ""] > 0.8
        calibrated = means[language, FULL, 16, "balanced_accuracy", "examples"]
        assert calibrated > means[language, FULL, 0, "balanced_accuracy", "source"] + 0.05


def test_without_mid_resource_languages_there_is_none(languages: Sequence[Language]) -> None:
    fewer = [replace(one) for one in languages if one.tier != "mid"]
    tables = compare(fewer, SETTINGS, "macro_f1", 0)
    assert [table.num_rows for table in tables] == [0, 0]
