"""Rules of calibration on planted activations: scores never saw their examples, and promises hold in new languages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from library.representation.planted import World
from library.stages.test_stages import FIXED, GATE, HIGH, LANGUAGES, Chain, call, directed
from polygate import files
from polygate.decision import conformal, guarantees
from polygate.decision.guarantees import RULES, Evaluation, Language
from polygate.settings.types import Calibration, Gate, Tier, dump
from polygate.stages import conformal as stage

TIERS: dict[str, Tier] = {**dict.fromkeys(HIGH, "high"), "m": "mid", "t": "low"}
SETTINGS = Calibration(alphas=[0.1, 0.2])


def languages(seed: int = 0, *, shift: float = -4.0, **world: object) -> list[Language]:
    """The planted languages at layer 1."""
    made = World(Path(), seed=seed, shift={"t": shift}, **world)  # type: ignore[arg-type]
    tables = {name: made.prompts(name) for name in LANGUAGES}
    return [Language.of(TIERS[name], own, made.activations(own)[1], directed=True) for name, own in tables.items()]


def evaluation(of: list[Language], gate: Gate = GATE) -> Evaluation:
    return Evaluation(of, gate, SETTINGS, "a", 0)


def rates(target: Language, decisions: NDArray[np.bool_]) -> tuple[float, float]:
    """Misses and false flags, means over draws."""
    return float((~decisions[:, target.test_harmful]).mean()), float(decisions[:, ~target.test_harmful].mean())


def test_scores_stay_the_same_whatever_the_drawn_prompts_are_in_any_source() -> None:
    of = languages()
    target = of[-1]
    drawn = target.drawn(8, 0, 0)
    plain = evaluation(of)
    spoilt = [
        replace(one, train=np.where(np.isin(one.ids, drawn)[:, None], one.train + 100, one.train).astype(np.float32))
        for one in of
    ]
    scores = [
        made.fitted(made.sources(target.name), drawn, target).score(target.test) for made in (plain, evaluation(spoilt))
    ]
    assert np.array_equal(*scores)
    # Not so the paper's gate, whose sources hold their translations.
    paper = [
        made.fitted(made.sources(target.name), drawn, target, drawn=True).score(target.test)
        for made in (plain, evaluation(spoilt))
    ]
    assert not np.allclose(*paper)


def test_a_high_resource_language_is_never_among_its_own_sources() -> None:
    of = languages()
    made = evaluation(of)
    for target in of:
        assert [one.name for one in made.sources(target.name)] == [name for name in HIGH if name != target.name]


def test_left_out_high_resource_languages_miss_what_is_promised_on_average() -> None:
    """Twelve worlds with overlapping classes: the mean miss rate of each of three languages, left out in turn."""
    gate = Gate(rank=2, ranks=[2], budgets=[0, 4, 9], draws=4)
    missed: dict[int, list[float]] = {4: [], 9: []}
    flagged: dict[int, list[float]] = {4: [], 9: []}
    for seed in range(12):
        of = languages(seed, gap=1.5)
        made = Evaluation(of, gate, Calibration(alphas=[0.2], parallel=9), "a", seed)
        for target in of[: len(HIGH)]:
            for rule, _, budget, decisions in made.flags(target):
                if rule == "conformal_miss":
                    missed[budget].append(rates(target, decisions)[0])
                elif rule == "conformal_false_flags":
                    flagged[budget].append(rates(target, decisions)[1])
    for found in (missed, flagged):
        for budget, values in found.items():
            promised = conformal.conformal_rank(budget, 0.2) / (budget + 1)
            error = np.std(values, ddof=1) / np.sqrt(len(values))
            assert len(values) == 36
            assert abs(np.mean(values) - promised) < 3.5 * error < 0.1


def test_a_moved_language_breaks_the_sources_threshold_and_not_the_promise() -> None:
    of = languages(shift=-6.0)
    target = of[-1]
    found = {(rule, alpha, budget): decisions for rule, alpha, budget, decisions in evaluation(of).flags(target)}
    assert rates(target, found["paper", None, 0])[0] > 0.6
    miss, false_flags = rates(target, found["conformal_miss", 0.2, 8])
    assert miss <= 0.35
    assert false_flags <= 0.1
    assert found["conformal_miss", 0.1, 8].shape == (0, len(target.test_ids))
    assert {rule for rule, _, _ in found} == set(RULES)


def test_budgets_that_leave_too_little_to_fit_are_left_out() -> None:
    gate = GATE.model_copy(update={"budgets": [0, 8, 25]})
    made = evaluation(languages(), gate)
    # The planted languages have 30 harmless train prompts.
    assert made.parallel == 22
    assert made.budgets == [8, 22]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The stages up to the gates."""
    made = directed(tmp_path_factory.mktemp("chain"))
    made.choose(FIXED)
    made.gates("t")
    made.gates("a")
    return made


def run(chain: Chain, output: Path) -> list[dict[str, object]]:
    call(
        stage,
        settings=dump({"gate": GATE, "calibration": SETTINGS, "pivot": "a", "seed": 0}),
        tiers=[TIERS[name] for name in LANGUAGES],
        languages=LANGUAGES,
        activations=[chain.store(name) for name in LANGUAGES],
        prompts=[chain.table(name) for name in LANGUAGES],
        choices=chain.folder / "choices.parquet",
        output=output,
    )
    rows: list[dict[str, object]] = files.read_parquet(output).to_pylist()
    return rows


def test_the_papers_rule_decides_as_the_gates_do_and_everything_is_there_for_the_surface_too(
    chain: Chain, tmp_path: Path
) -> None:
    rows = run(chain, tmp_path / "calibration.parquet")
    for language in ("a", "t"):
        scores = files.read_parquet(chain.path("gate_scores", f"{language}.parquet")).to_pylist()
        rank = max(row["rank"] for row in scores)
        for budget, draw in ((0, 0), (1, 2), (8, 1)):
            wanted = {"split": "test", "rank": rank, "budget": budget, "draw": draw}
            gates = [row["flagged"] for row in scores if all(row[name] == value for name, value in wanted.items())]
            wanted = {"scorer": "gate", "language": language, "rule": "paper", "budget": budget, "draw": draw}
            (mine,) = [row["flagged"] for row in rows if all(row[name] == value for name, value in wanted.items())]
            assert mine == gates
    by_scorer = {
        scorer: {tuple(row[name] for name in ("language", "rule", "alpha", "budget", "draw")) for row in rows
                 if row["scorer"] == scorer}
        for scorer in ("gate", "surface")
    }  # fmt: skip
    assert by_scorer["gate"] == by_scorer["surface"]
    assert not any(row["rule"] == "parallel" and row["language"] == "a" for row in rows)


def test_the_same_files_give_the_same_decisions(chain: Chain, tmp_path: Path) -> None:
    assert run(chain, tmp_path / "one.parquet") == run(chain, tmp_path / "two.parquet")


def test_surface_features_go_the_same_way() -> None:
    of = languages()
    surfaces = [
        Language.of(one.tier, one.prompts, guarantees.surface_features(one.prompts.texts), directed=False) for one in of
    ]
    target = surfaces[-1]
    for rule, _, _, decisions in evaluation(surfaces).flags(target):
        if rule.startswith("conformal") and len(decisions):
            assert decisions.shape == (GATE.draws, len(target.test_ids))
