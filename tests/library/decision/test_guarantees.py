"""Rules of calibration on planted activations: scores never saw their examples, and promises hold in new languages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from library.controls.standin import FACTS, WIDTH, embed
from library.representation.planted import World
from library.stages.test_stages import FIXED, GATE, HIGH, LANGUAGES, Chain, call, directed
from polygate import files
from polygate.controls.semantic import Embedded, semantic_gates
from polygate.decision import calibration, conformal, guarantees
from polygate.decision.guarantees import RULES, Evaluation, Language, Scorer
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.settings.types import Calibration, Controls, Gate, Tier, dump
from polygate.stages import conformal as stage
from polygate.stages import conformal_semantic

TIERS: dict[str, Tier] = {**dict.fromkeys(HIGH, "high"), "m": "mid", "t": "low"}
CONTROLS = Controls(encoder="a/b", folder=Path())
SETTINGS = Calibration(alphas=[0.1, 0.2])
SCORERS: tuple[Scorer, ...] = ("gate", "semantic")


def languages(seed: int = 0, *, shift: float = -4.0, scorer: Scorer = "gate", **world: object) -> list[Language]:
    """The planted languages at layer 1, which a control takes for its own features."""
    made = World(Path(), seed=seed, shift={"t": shift}, **world)  # type: ignore[arg-type]
    tables = {name: made.prompts(name) for name in LANGUAGES}
    return [Language.of(TIERS[name], own, made.activations(own)[1], scorer) for name, own in tables.items()]


def evaluation(of: list[Language], gate: Gate = GATE) -> Evaluation:
    return Evaluation(of, gate, SETTINGS, "a", 0)


def rates(target: Language, decisions: NDArray[np.bool_]) -> tuple[float, float]:
    """Misses and false flags, means over draws."""
    return float((~decisions[:, target.test_harmful]).mean()), float(decisions[:, ~target.test_harmful].mean())


@pytest.mark.parametrize("scorer", SCORERS)
def test_scores_stay_the_same_whatever_the_drawn_prompts_are_in_any_source(scorer: Scorer) -> None:
    of = languages(scorer=scorer)
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


@pytest.mark.parametrize("scorer", SCORERS)
def test_left_out_high_resource_languages_miss_what_is_promised_on_average(scorer: Scorer) -> None:
    """Twelve worlds with overlapping classes: the mean miss rate of each of three languages, left out in turn."""
    gate = Gate(rank=2, ranks=[2], budgets=[0, 4, 9], draws=4)
    missed: dict[int, list[float]] = {4: [], 9: []}
    flagged: dict[int, list[float]] = {4: [], 9: []}
    for seed in range(12):
        of = languages(seed, gap=1.5, scorer=scorer)
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


def test_scores_on_embeddings_are_those_of_a_fit_by_hand_without_the_drawn_prompts() -> None:
    of = languages(scorer="semantic")
    target, made = of[-1], evaluation(of)
    drawn = target.drawn(8, 0, 0)
    kept = [~np.isin(one.ids, drawn) for one in of[: len(HIGH)]]
    known = np.concatenate([one.train[rows] for one, rows in zip(of, kept, strict=False)]).astype(float)
    labels = np.concatenate([one.harmful[rows] for one, rows in zip(of, kept, strict=False)])
    assert len(known) == sum(len(one.ids) for one in of[: len(HIGH)]) - 16 * len(HIGH)
    twin = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(known, labels)
    found = made.fitted(made.sources(target.name), drawn, target)
    assert found.score(target.test) == pytest.approx(twin.decision_function(target.test.astype(float)), abs=1e-9)
    # The paper's rule learns from the examples and keeps their translations.
    own = target.rows(drawn)
    known = np.concatenate([*(one.train for one in of[: len(HIGH)]), target.train[own]]).astype(float)
    labels = np.concatenate([*(one.harmful for one in of[: len(HIGH)]), target.harmful[own]])
    twin = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(known, labels)
    paper = made.fitted(made.sources(target.name), drawn, target, drawn=True)
    assert paper.score(target.test) == pytest.approx(twin.decision_function(target.test.astype(float)), abs=1e-9)


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


def run(chain: Chain, output: Path, gate: Gate = GATE) -> list[dict[str, object]]:
    call(
        stage,
        settings=dump({"gate": gate, "calibration": SETTINGS, "pivot": "a", "seed": 0}),
        tiers=[TIERS[name] for name in LANGUAGES],
        languages=LANGUAGES,
        activations=[chain.store(name) for name in LANGUAGES],
        prompts=[chain.table(name) for name in LANGUAGES],
        choices=chain.folder / "choices.parquet",
        output=output,
    )
    rows: list[dict[str, object]] = files.read_parquet(output).to_pylist()
    return rows


def as_gates_do(chain: Chain, language: str, rows: list[dict[str, object]]) -> list[list[bool]]:
    """Decisions by the paper's rule, which must be those of the language's gates."""
    scores = files.read_parquet(chain.path("gate_scores", f"{language}.parquet")).to_pylist()
    rank = max(row["rank"] for row in scores)
    decided = []
    for budget, draw in ((0, 0), (1, 2), (8, 1)):
        wanted = {"split": "test", "rank": rank, "budget": budget, "draw": draw}
        gates = [row["flagged"] for row in scores if all(row[name] == value for name, value in wanted.items())]
        wanted = {"scorer": "gate", "language": language, "rule": "paper", "budget": budget, "draw": draw}
        (mine,) = [row["flagged"] for row in rows if all(row[name] == value for name, value in wanted.items())]
        assert mine == gates
        decided.append(gates)
    return decided


def test_the_papers_rule_takes_its_threshold_from_val_where_the_gates_do(tmp_path: Path) -> None:
    """With classes that overlap, so that one example and all of val give other thresholds."""
    made = directed(tmp_path, gap=1.5)
    made.choose(FIXED)
    decided = []
    for chosen in ("examples", "val"):
        gate = GATE.model_copy(update={"threshold_on": chosen})
        made.gates("t", settings=gate)
        decided.append(as_gates_do(made, "t", run(made, tmp_path / f"{chosen}.parquet", gate)))
    (source, first, second), (source_too, *others) = decided
    assert source == source_too
    assert first != others[0] or second != others[1]


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_score_at_the_papers_threshold_is_what_the_settings_call_it(scorer: Scorer) -> None:
    of = languages(scorer=scorer)
    target = of[-1]
    drawn = target.drawn(8, 0, 0)
    for ids, of_examples in ((np.empty(0, np.str_), False), (drawn, True)):
        plain, tied = (
            made.fitted(made.sources(target.name), ids, target, drawn=of_examples).fit
            for made in (evaluation(of), evaluation(of, GATE.model_copy(update={"ties": "harmful"})))
        )
        at = plain.threshold.threshold
        assert [calibration.decide(np.array([at]), fit.threshold.threshold).item() for fit in (plain, tied)] == [
            False,
            True,
        ]
        assert tied.threshold.threshold == np.nextafter(at, -np.inf)


def test_the_papers_rule_decides_as_the_gates_do_and_everything_is_there_for_the_surface_too(
    chain: Chain, tmp_path: Path
) -> None:
    rows = run(chain, tmp_path / "calibration.parquet")
    for language in ("a", "t"):
        as_gates_do(chain, language, rows)
    by_scorer = {
        scorer: {tuple(row[name] for name in ("language", "rule", "alpha", "budget", "draw")) for row in rows
                 if row["scorer"] == scorer}
        for scorer in ("gate", "surface")
    }  # fmt: skip
    assert by_scorer["gate"] == by_scorer["surface"]
    assert not any(row["rule"] == "parallel" and row["language"] == "a" for row in rows)


def embedded(chain: Chain, name: str, width: int = WIDTH) -> Path:
    path = chain.path(f"embeddings-{width}", f"{name}.safetensors")
    prompts = table.read(chain.table(name))
    Embedded(prompts, embed(prompts.texts)[:, :width], FACTS).save(path, {})
    return path


def run_on_embeddings(chain: Chain, embeddings: list[Path], output: Path) -> list[dict[str, object]]:
    call(
        conformal_semantic,
        settings=dump({"gate": GATE, "calibration": SETTINGS, "controls": CONTROLS, "pivot": "a", "seed": 0}),
        tiers=[TIERS[name] for name in LANGUAGES],
        languages=LANGUAGES,
        prompts=[chain.table(name) for name in LANGUAGES],
        embeddings=embeddings,
        output=output,
    )
    rows: list[dict[str, object]] = files.read_parquet(output).to_pylist()
    return rows


def test_on_embeddings_there_are_the_same_rules_and_the_papers_decides_as_gates_on_them_do(
    chain: Chain, tmp_path: Path
) -> None:
    paths = {name: embedded(chain, name) for name in LANGUAGES}
    rows = run_on_embeddings(chain, list(paths.values()), tmp_path / "semantic.parquet")
    assert {row["scorer"] for row in rows} == {"semantic"}
    keys = ("tier", "language", "prompts", "rule", "alpha", "budget", "draw")
    first = [row for row in run(chain, tmp_path / "calibration.parquet") if row["scorer"] == "gate"]
    # All but what depends on scores: whether a class of the sources has a spread, which a prior needs.
    mine, gates = ({tuple(row[name] for name in keys) for row in of if row["rule"] != "prior"} for of in (rows, first))
    assert mine == gates
    for language in ("a", "t"):
        sources = [name for name in HIGH if name != language]
        own, *others = (
            Embedded.load(paths[name], table.read(chain.table(name), language=name), FACTS)
            for name in (language, *sources)
        )
        test = own.values[own.prompts.select("test")]
        for gate in semantic_gates(others, own, GATE, 0):
            what = {"language": language, "rule": "paper", "budget": gate.budget, "draw": gate.draw}
            (decided,) = [row["flagged"] for row in rows if all(row[name] == value for name, value in what.items())]
            assert decided == (gate.fit.score(test) > gate.fit.threshold.threshold).tolist()


def test_embeddings_of_another_language_or_encoder_are_one_line(chain: Chain, tmp_path: Path) -> None:
    whole = [embedded(chain, name) for name in LANGUAGES]
    with pytest.raises(PolygateError, match="holds language a, expected b"):
        run_on_embeddings(chain, [whole[0], whole[0], *whole[2:]], tmp_path / "out.parquet")
    with pytest.raises(PolygateError, match="of different encoders") as failed:
        run_on_embeddings(chain, [*whole[:-1], embedded(chain, "t", 8)], tmp_path / "out.parquet")
    other = tmp_path / "other.safetensors"
    prompts = table.read(chain.table("t"))
    Embedded(prompts, embed(prompts.texts), {**FACTS, "prefix": "q: "}).save(other, {})
    with pytest.raises(PolygateError, match=r"prefix 'q: ', the settings ask for .* prefix ''"):
        run_on_embeddings(chain, [*whole[:-1], other], tmp_path / "out.parquet")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out.parquet").exists()


def test_the_same_files_give_the_same_decisions(chain: Chain, tmp_path: Path) -> None:
    assert run(chain, tmp_path / "one.parquet") == run(chain, tmp_path / "two.parquet")


def test_surface_features_go_the_same_way() -> None:
    of = languages()
    surfaces = [
        Language.of(one.tier, one.prompts, guarantees.surface_features(one.prompts.texts), "surface") for one in of
    ]
    target = surfaces[-1]
    for rule, _, _, decisions in evaluation(surfaces).flags(target):
        if rule.startswith("conformal") and len(decisions):
            assert decisions.shape == (GATE.draws, len(target.test_ids))
