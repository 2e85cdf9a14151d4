"""Choosing layer, strength and scope: the planted optimum wins, on validation prompts, and cheaply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from polygate.steering import choice
from polygate.steering.choice import CRITERION, FIXED, Choice, Trial, choose

HARMFUL = {"x": np.array([True] * 6 + [False] * 4), "y": np.array([False] * 4 + [True] * 6)}
LAYERS, STRENGTHS, SCOPES = (0, 1, 2), (0.5, 1.0, 2.0), ("layer", "all")


class Simulated:
    """A model that refuses when pushed hard enough at the right layer, and that ablation may break.

    `refuses(trial, harmful)` gives the outcomes; every trial is recorded.
    """

    def __init__(self, flagged: Mapping[str, NDArray[np.bool_]] | None = None) -> None:
        self.flagged = flagged or HARMFUL
        self.trials: list[Trial] = []

    def flags(self, layer: int) -> Mapping[str, NDArray[np.bool_]]:
        assert layer in LAYERS
        return self.flagged

    def outcomes(self, trials: Sequence[Trial]) -> list[dict[str, list[str]]]:
        self.trials += trials
        return [{name: [self.outcome(t, name, row) for row in rows] for name, rows in t.rows.items()} for t in trials]

    def outcome(self, trial: Trial, *_where: object) -> str:
        if trial.action == "add":
            return "refused" if trial.layer == 1 and trial.strength == 1.0 else "garbled"
        return "complied" if trial.scope == "all" else "garbled"


def run(model: Simulated, **options: Sequence[str]) -> Choice:
    return choose(HARMFUL, LAYERS, STRENGTHS, SCOPES, flags=model.flags, outcomes=model.outcomes, **options)


def test_the_planted_optimum_is_found() -> None:
    found = run(Simulated())
    assert (found.layer, found.strength, found.scope) == (1, 1.0, "all")
    assert found.criterion_value == pytest.approx(1 + 0.25)
    assert found.languages == ("x", "y")


def test_the_whole_grid_is_kept_in_its_order() -> None:
    grid = run(Simulated()).grid
    assert [(p.layer, p.strength, p.scope) for p in grid] == [
        (layer, strength, scope) for layer in LAYERS for strength in STRENGTHS for scope in SCOPES
    ]


def test_flagged_prompts_are_steered_towards_refusal_and_only_the_others_ablated() -> None:
    flagged = {name: np.random.default_rng(1).random(10) < 0.5 for name in HARMFUL}
    model = Simulated(flagged)
    run(model)
    for trial in model.trials:
        for name, rows in trial.rows.items():
            expected = flagged[name] if trial.action == "add" else ~flagged[name]
            np.testing.assert_array_equal(rows, np.flatnonzero(expected))
    # Per layer: each strength once, each scope once, no pair of them.
    assert len(model.trials) == len(LAYERS) * (len(STRENGTHS) + len(SCOPES))


def test_the_criterion_is_routed_selectivity_and_a_quarter_of_correct_compliance() -> None:
    """Against a plain loop over prompts, with random outcomes."""
    random = np.random.default_rng(2)
    flagged = {name: random.random(10) < 0.6 for name in HARMFUL}
    outcome = {
        key: random.choice(["refused", "complied", "garbled", "unparsed"])
        for key in [
            (a, v, name, i) for a, v in (("add", 1.0), ("ablate", "all")) for name in HARMFUL for i in range(10)
        ]
    }

    class Random(Simulated):
        def outcome(self, trial: Trial, name: str, row: int) -> str:
            return str(outcome[trial.action, trial.strength if trial.action == "add" else trial.scope, name, row])

    model = Random(flagged)
    found = choose(HARMFUL, [0], [1.0], ["all"], flags=model.flags, outcomes=model.outcomes)
    selectivity, compliance = [], []
    for name, harmful in HARMFUL.items():
        routed = [outcome[("add", 1.0, name, i) if flagged[name][i] else ("ablate", "all", name, i)] for i in range(10)]
        refused = [[o == "refused" for o, h in zip(routed, harmful, strict=True) if h == wanted] for wanted in (1, 0)]
        selectivity.append(np.mean(refused[0]) - np.mean(refused[1]))
        compliance.append(np.mean([o == "complied" for o, h in zip(routed, harmful, strict=True) if not h]))
    assert found.grid[0].selectivity == pytest.approx(np.mean(selectivity))
    assert found.criterion_value == pytest.approx(np.mean(selectivity) + 0.25 * np.mean(compliance))


def test_harmless_refusals_that_ablation_causes_count() -> None:
    """Ablating at every layer makes this model refuse what it answered: the other scope must win."""

    class Breaks(Simulated):
        def outcome(self, trial: Trial, *_where: object) -> str:
            if trial.action == "add":
                return "refused"
            return "refused" if trial.scope == "all" else "complied"

    model = Breaks()
    for scopes in (("layer", "all"), ("all", "layer")):
        found = choose(HARMFUL, [0], [1.0], scopes, flags=model.flags, outcomes=model.outcomes)
        assert found.scope == "layer"


def test_prompts_are_left_alone_where_ablation_breaks_their_text_and_else_not() -> None:
    """No ablation is a scope like the others: it wins by answers that ablation costs, and loses to one that helps."""

    class Fragile(Simulated):
        at_layer = "garbled"

        def outcome(self, trial: Trial, *_where: object) -> str:
            if trial.action == "add":
                return "refused"
            return {"layer": self.at_layer, "all": "garbled", "none": "refused"}[trial.scope]

    class Spared(Fragile):
        def outcome(self, trial: Trial, *where: object) -> str:
            return "complied" if trial.scope == "none" and trial.action == "ablate" else super().outcome(trial, *where)

    class Helped(Fragile):
        at_layer = "complied"

    for model, scope in ((Spared(), "none"), (Helped(), "layer")):
        found = choose(HARMFUL, [0], [1.0], ["layer", "all", "none"], flags=model.flags, outcomes=model.outcomes)
        assert found.scope == scope


def test_garbled_answers_are_no_success() -> None:
    """A strength that turns text into rubbish doesn't win by not complying."""

    class Garbles(Simulated):
        def outcome(self, trial: Trial, *_where: object) -> str:
            if trial.action == "ablate":
                return "complied"
            return "garbled" if trial.strength > 0.5 else "refused"

    assert run(Garbles()).strength == 0.5


def test_the_first_of_equals_wins() -> None:
    class Same(Simulated):
        def outcome(self, trial: Trial, *_where: object) -> str:
            return "refused" if trial.action == "add" else "complied"

    found = run(Same())
    assert (found.layer, found.strength, found.scope) == (0, 0.5, "layer")


class OneStrengthEach(Simulated):
    """Refuses in each language at a strength of its own, in layer 1 only; text breaks at any other."""

    needs: Mapping[str, float] = {"x": 2.0, "y": 1.0}

    def outcome(self, trial: Trial, name: str, *_row: object) -> str:
        if trial.action == "ablate":
            return "complied" if trial.scope == "all" else "garbled"
        return "refused" if trial.layer == 1 and trial.strength == self.needs[name] else "garbled"


def test_languages_count_alike() -> None:
    """A language with ten times the prompts has no larger say."""
    harmful = {"big": np.array([True] * 100 + [False] * 100), "small": np.array([True, False])}

    class Uneven(OneStrengthEach):
        needs: Mapping[str, float] = {"small": 1.0, "big": 2.0}

    found = choose(harmful, [1], [1.0, 2.0], ["all"], flags=lambda _: harmful, outcomes=Uneven().outcomes)
    assert found.grid[0].criterion == pytest.approx(found.grid[1].criterion)
    assert found.strength == 1.0


def test_every_language_takes_the_strength_that_repairs_it() -> None:
    found = run(OneStrengthEach())
    assert (found.layer, found.scope) == (1, "all")
    assert found.strength == 1.0  # The first of two that are alike on average, for languages that take no part.
    assert [found.strength_in(name) for name in ("x", "y", "unseen")] == [2.0, 1.0, 1.0]
    assert dict(found.own) == {"x": 2.0}
    assert found.criterion_value == pytest.approx(1.25)
    of_x = {(p.strength, p.by_language["x"]) for p in found.grid if (p.layer, p.scope) == (1, "all")}
    assert of_x == {(0.5, 0.25), (1.0, 0.25), (2.0, 1.25)}


def test_a_layer_wins_by_what_languages_do_at_their_own_strengths() -> None:
    """Layer 0 is the better one at any single strength, layer 1 at one strength per language."""

    class Tempting(OneStrengthEach):
        def outcome(self, trial: Trial, name: str, *row: object) -> str:
            if trial.layer == 0 and trial.action == "add":
                return "refused" if row[0] in (0, 1, 2, 3, 6, 7, 8, 9) else "garbled"  # 4 of 6 in each language.
            return super().outcome(trial, name, *row)

    found = run(Tempting())
    single = {layer: max(p.criterion for p in found.grid if p.layer == layer) for layer in (0, 1)}
    assert single[0] > single[1]
    assert found.layer == 1
    assert found.criterion_value > max(single.values())


def test_no_language_leaves_the_common_strength_for_one_that_is_no_better() -> None:
    class Mostly(OneStrengthEach):
        def outcome(self, trial: Trial, name: str, *row: object) -> str:
            if name == "y" and trial.action == "add":
                return "refused"  # At any strength.
            return super().outcome(trial, name, *row)

    found = run(Mostly())
    assert found.strength == 2.0
    assert found.own == {}


def test_choices_survive_their_file_and_say_what_decided(tmp_path: Path) -> None:
    found = replace(run(Simulated(), fixed=["strength"]), unit="raw")
    found.save(tmp_path / "choices.parquet", {})
    assert Choice.load(tmp_path / "choices.parquet") == found
    rows = {row["what"]: row for row in choice.files.read_parquet(tmp_path / "choices.parquet").to_pylist()}
    assert rows["layer"] == {
        "what": "layer",
        "language": "",
        "value": "1",
        "criterion": CRITERION,
        "criterion_value": found.criterion_value,
        "split": "val",
        "languages": "x,y",
    }
    assert (rows["strength"]["value"], rows["strength"]["criterion"], rows["strength"]["split"]) == ("1.0", FIXED, "")
    assert rows["strength"]["criterion_value"] is None


def test_a_strength_of_its_own_has_a_row_of_its_own(tmp_path: Path) -> None:
    found = run(OneStrengthEach())
    found.save(tmp_path / "choices.parquet", {})
    assert Choice.load(tmp_path / "choices.parquet") == found
    *_, row = choice.files.read_parquet(tmp_path / "choices.parquet").to_pylist()
    assert row == {
        "what": "strength",
        "language": "x",
        "value": "2.0",
        "criterion": CRITERION,
        "criterion_value": 1.25,
        "split": "val",
        "languages": "x",
    }


def test_a_choice_made_by_the_settings_alone_survives_its_file(tmp_path: Path) -> None:
    fixed = Choice(15, 1.0, "layer", fixed=("layer", "strength", "ablation"))
    fixed.save(tmp_path / "choices.parquet", {})
    loaded = Choice.load(tmp_path / "choices.parquet")
    assert (loaded.layer, loaded.strength, loaded.scope, loaded.fixed) == (15, 1.0, "layer", fixed.fixed)
    assert loaded.grid == ()
