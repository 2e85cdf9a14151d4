"""The tables: contract columns, numbers against direct computation, holes, determinism."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from library.representation.planted import naive_auc
from library.tables.run import (
    ARMS,
    BUDGETS,
    CHOSEN,
    DRAWS,
    JUDGE,
    LAYERS,
    RANKS,
    STATISTICS,
    Rows,
    Run,
    make,
    read,
)
from polygate import files, kernels
from polygate.controls import surface
from polygate.errors import PolygateError
from polygate.figures.reading import read_table
from polygate.judges import OUTCOMES
from polygate.measurement import metrics
from polygate.measurement.statistics import VERDICTS
from polygate.settings.types import Gate
from polygate.stages.surface import score_table
from polygate.tables import decomposition, gates, refusal, samples
from polygate.tables.cells import Cell
from polygate.tables.judged import BROAD, ELSEWHERE
from polygate.tables.rows import read_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run")).write()


CONTRACT = {
    "refusal": "model tier language arm budget judge subset outcome estimate low high n",
    "selectivity": "model tier language arm budget judge estimate low high n",
    "separability": "model tier language layer scorer prompts metric estimate low high n n_effective",
    "gates": "model tier language rank budget draw solver threshold_from metric estimate low high n",
    "decomposition": "model tier language scorer budget part estimate low high n",
    "diagnosis": "model tier language diagnosis verdict auc surface_auc",
    "positions": "model tier language position layer direction target estimate low high n surface p_holm verdict",
    "choices": "model what value criterion criterion_value split",
    "samples": "model tier language subset prompt_id prompt unsteered routed budget gate_score flagged",
}


@pytest.fixture(scope="module")
def tables(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    folder = tmp_path_factory.mktemp("tables")
    return {name: read(make(run, name, folder / f"{name}.csv")) for name in CONTRACT}


def where(rows: Rows, **what: object) -> Rows:
    wanted = {name: "" if value is None else str(value) for name, value in what.items()}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def one(rows: Rows, **what: object) -> dict[str, str]:
    found = where(rows, **what)
    assert len(found) == 1, (what, len(found))
    return found[0]


def value(rows: Rows, **what: object) -> float:
    return float(one(rows, **what)["estimate"])


@pytest.mark.parametrize("name", CONTRACT)
def test_the_columns_that_others_read_are_there(tables: dict[str, Rows], name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(tables[name][0])


@pytest.mark.parametrize("name", CONTRACT)
def test_the_same_input_gives_the_same_bytes(run: Run, tmp_path: Path, name: str) -> None:
    first = make(run, name, tmp_path / "a.csv").read_bytes()
    assert make(run, name, tmp_path / "b.csv").read_bytes() == first


@pytest.mark.parametrize("name", ["refusal", "selectivity", "separability", "gates", "decomposition"])
def test_every_estimate_lies_within_its_interval_and_names_its_method(tables: dict[str, Rows], name: str) -> None:
    for row in tables[name]:
        low, estimate, high = (float(row[column]) for column in ("low", "estimate", "high"))
        assert low <= estimate + 1e-6, row
        assert estimate <= high + 1e-6, row
        assert low < high, row
        assert row["method"] in {"logit", "percentile", "wilson", "mover"}
        assert int(row["n"]) > 0


def test_rates_of_the_unsteered_model_are_its_judgements(run: Run, tables: dict[str, Rows]) -> None:
    for tier, language in run.all():
        said = np.array(run.outcomes(tier, run.prompts(language), "none"))
        harmful = run.prompts(language).harmful[run.prompts(language).select("test")]
        for subset, mask in (("harmful", harmful), ("harmless", ~harmful)):
            for outcome in OUTCOMES:
                found = value(
                    tables["refusal"],
                    **{"model": "alpha", "language": language, "arm": "none", "subset": subset, "outcome": outcome},
                )
                assert found == pytest.approx((said[mask] == outcome).mean(), abs=1e-6)


def test_refusals_in_another_language_are_counted_and_are_refusals(run: Run, tmp_path: Path) -> None:
    cells = run.arms(f"judgements/{JUDGE}")
    index = next(i for i, cell in enumerate(cells) if (cell.model, cell.language, cell.arm) == ("alpha", "h1", "none"))
    table = files.read_parquet(cells[index].path)
    refused = [row["outcome"] == "refused" and row["subset"] == "harmful" for row in table.to_pylist()]
    first = np.flatnonzero(refused)[:3].tolist()
    spoken = pa.array(["h2" if row in first else "h1" for row in range(len(refused))])
    path = tmp_path / "judged.parquet"
    files.write_parquet(
        path, table.set_column(table.column_names.index("refusal_language"), "refusal_language", spoken)
    )
    cells[index] = replace(cells[index], path=path)
    refusal.build(cells, tmp_path / "refusal.csv", statistics=STATISTICS, seed=0)
    rows = read(tmp_path / "refusal.csv")
    what = {"model": "alpha", "language": "h1", "arm": "none", "subset": "harmful"}
    assert value(rows, **what, outcome=ELSEWHERE) == pytest.approx(3 / run.n, abs=1e-6)
    assert value(rows, **what, outcome="refused") == pytest.approx(sum(refused) / run.n, abs=1e-6)
    assert value(rows, **{**what, "language": "h2"}, outcome=ELSEWHERE) == 0


def test_other_data_sets_stand_below_the_fitted_one_whose_rows_they_leave_as_they_are(
    run: Run, tables: dict[str, Rows], tmp_path: Path
) -> None:
    fitted = [replace(cell, dataset="polyrefuse") for cell in run.arms(f"judgements/{JUDGE}")]
    # The same files serve as another data set: in one language, unsteered, with the harmless class alone.
    (one,) = [cell for cell in fitted if (cell.model, cell.language, cell.arm) == ("alpha", "l1", "none")]
    said = files.read_parquet(one.path)
    path = tmp_path / "xstest.parquet"
    files.write_parquet(path, said.filter(pc.equal(said["subset"], "harmless")))
    output = tmp_path / "refusal.csv"
    refusal.build([*fitted, replace(one, path=path, dataset="xstest")], output, statistics=STATISTICS, seed=0)
    rows = read(output)
    assert list(read_rows(output)) == [{"dataset": "polyrefuse", **row} for row in tables["refusal"]]
    assert list(read_rows(output, tested=True)) == rows
    frame = read_table(output, ("model", "estimate"))
    assert len(frame) == len(tables["refusal"])
    others = [row for row in rows if row["dataset"] == "xstest"]
    assert {(row["model"], row["tier"], row["arm"], row["subset"]) for row in others} == {
        ("alpha", "low", "none", "harmless")
    }
    what = {"model": "alpha", "language": "l1", "arm": "none", "subset": "harmless", "outcome": "refused"}
    assert value(others, **what) == value(tables["refusal"], **what)


def test_outcomes_of_a_prompt_sum_to_one(tables: dict[str, Rows]) -> None:
    sums: dict[tuple[str, ...], float] = {}
    for row in tables["refusal"]:
        if row["outcome"] in (BROAD, ELSEWHERE):
            continue
        key = tuple(row[name] for name in ("model", "tier", "language", "arm", "budget", "subset"))
        sums[key] = sums.get(key, 0.0) + float(row["estimate"])
    assert list(sums.values()) == pytest.approx([1.0] * len(sums), abs=1e-5)


def test_what_an_arm_does_to_refusal_is_paired_with_the_unsteered_model(tables: dict[str, Rows]) -> None:
    names = ("model", "tier", "language", "judge", "subset", "outcome")
    base = {tuple(row[name] for name in names): row for row in tables["refusal"] if row["arm"] == "none"}
    compared = [row for row in tables["refusal"] if row["change"]]
    assert {row["outcome"] for row in compared} == {"refused", "refused_or_deflected"}
    assert not any(row["arm"] == "none" for row in compared)
    for row in compared:
        before = base[tuple(row[name] for name in names)]
        assert float(row["change"]) == pytest.approx(float(row["estimate"]) - float(before["estimate"]), abs=2e-6)
        assert float(row["change_low"]) <= float(row["change"]) <= float(row["change_high"])
        assert float(row["p_holm"]) >= float(row["p"])
    # Every harmful prompt that is refused under addition and was not before says so.
    low = where(tables["refusal"], arm="addition", tier="low", language=None, subset="harmful", outcome="refused")
    assert all(float(row["change_low"]) > 0 and float(row["p_holm"]) < 0.05 for row in low)


def test_the_broad_reading_of_a_refusal_adds_what_is_deflected(tables: dict[str, Rows]) -> None:
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for row in tables["refusal"]:
        key = tuple(row[name] for name in ("model", "tier", "language", "arm", "budget", "subset"))
        found.setdefault(key, {})[row["outcome"]] = float(row["estimate"])
    for rates in found.values():
        assert rates[BROAD] == pytest.approx(rates["refused"] + rates["deflected"], abs=2e-6)
    assert any(rates[BROAD] > 0 for rates in found.values())


def test_a_refusal_rate_says_by_which_reading(tables: dict[str, Rows]) -> None:
    found = {(row["outcome"], row["reading"]) for row in tables["refusal"]}
    assert {outcome for outcome, reading in found if reading == "strict"} == {"refused"}
    assert {outcome for outcome, reading in found if reading == "broad"} == {BROAD}
    assert {reading for _, reading in found} == {"strict", "broad", ""}
    for caption in (Path(__file__).parents[3] / "reports/captions").glob("*.rst"):
        text = caption.read_text(encoding="utf-8")
        assert "refuse" not in text or "strict" in text, caption.name


def test_base_arms_have_no_budget_and_routed_arms_one_row_per_budget(tables: dict[str, Rows]) -> None:
    for name in ("refusal", "selectivity"):
        found = {(row["arm"], row["budget"]) for row in tables[name]}
        assert found == {*((arm, "") for arm in ARMS), *(("routed", str(budget)) for budget in BUDGETS)}
    per_language = where(tables["selectivity"], model="beta", language="l2")
    assert len(per_language) == len(ARMS) + len(BUDGETS)


def test_routed_rates_are_means_over_draws(run: Run, tables: dict[str, Rows]) -> None:
    routed = files.read_parquet(run.path(f"alpha/judgements/{JUDGE}/routed-4/l1")).to_pylist()
    harmful = [row for row in routed if row["subset"] == "harmful"]
    by_draw = [
        np.mean([row["outcome"] == "refused" for row in harmful if row["draw"] == draw]) for draw in range(DRAWS)
    ]
    found = value(
        tables["refusal"],
        **{"model": "alpha", "language": "l1", "arm": "routed", "budget": 4, "subset": "harmful", "outcome": "refused"},
    )
    assert found == pytest.approx(np.mean(by_draw), abs=1e-6)


@pytest.mark.parametrize("name", ["refusal", "selectivity", "separability", "gates", "decomposition"])
def test_tier_means_are_means_over_languages(run: Run, tables: dict[str, Rows], name: str) -> None:
    measured = {"estimate", "low", "high", "n", "method", "n_effective", "n_pairs", "overlap", "sd", "threshold_from"}
    compared = {"gain", "gain_low", "gain_high", "gain_method", "p", "p_holm", "baseline", "verdict"}
    compared |= {"difference", "difference_low", "difference_high"}
    compared |= {"change", "change_low", "change_high", "change_method"}
    keys = [column for column in tables[name][0] if column not in measured | compared | {"language"}]
    means = [row for row in tables[name] if row["language"] == ""]
    assert means
    for mean in means:
        parts = [
            float(row["estimate"])
            for row in tables[name]
            if row["language"] and all(row[column] == mean[column] for column in keys)
        ]
        assert len(parts) == len(run.languages[mean["tier"]])
        assert float(mean["estimate"]) == pytest.approx(np.mean(parts), abs=2e-6)


def test_translations_of_a_prompt_do_not_make_a_tier_surer(run: Run, tables: dict[str, Rows]) -> None:
    """All refused in three languages that share their prompts: Wilson's interval is that of one language's prompts."""
    what = {"model": "alpha", "tier": "high", "arm": "none", "subset": "harmful", "outcome": "refused"}
    mean, single = (one(tables["refusal"], **what, language=language) for language in (None, "h1"))
    assert mean["method"] == single["method"] == "wilson"
    assert int(mean["n"]) == 3 * run.n
    assert mean["low"] == single["low"]
    assert float(mean["low"]) == pytest.approx(kernels.wilson(run.n, run.n)[0], abs=1e-6)


def test_selectivity_is_the_difference_of_the_rates(tables: dict[str, Rows]) -> None:
    for row in tables["selectivity"]:
        same = {name: row[name] for name in ("model", "tier", "language", "arm", "budget")}
        rates = [
            value(tables["refusal"], **same, subset=subset, outcome="refused") for subset in ("harmful", "harmless")
        ]
        assert float(row["estimate"]) == pytest.approx(rates[0] - rates[1], abs=3e-6)


def test_gains_are_paired_with_the_unsteered_arm(tables: dict[str, Rows]) -> None:
    for row in tables["selectivity"]:
        if row["arm"] == "none":
            assert row["gain"] == ""
            continue
        same = {name: row[name] for name in ("model", "tier", "language")}
        unsteered = value(tables["selectivity"], **same, arm="none")
        assert float(row["gain"]) == pytest.approx(float(row["estimate"]) - unsteered, abs=2e-6)
        assert float(row["p"]) <= float(row["p_holm"]) + 1e-9


def test_the_planted_repair_is_found_and_needs_its_examples(tables: dict[str, Rows]) -> None:
    routed = {"model": "alpha", "tier": "low", "language": None, "arm": "routed"}
    repaired, without = (one(tables["selectivity"], **routed, budget=budget) for budget in (4, 0))
    assert float(repaired["gain_low"]) > 0.3
    assert float(repaired["p_holm"]) < 0.05
    assert float(without["gain_low"]) < 0.1
    for arm in ("addition", "ablation"):
        ungated = one(tables["selectivity"], **{**routed, "arm": arm})
        assert float(ungated["estimate"]) == pytest.approx(0.0)


def test_auc_of_a_direction_is_that_of_its_projections(run: Run, tables: dict[str, Rows]) -> None:
    rows = files.read_parquet(run.path("beta/projections/m1")).to_pylist()
    for layer in range(LAYERS):
        for scorer in ("v_hrl", "local"):
            kept = [row for row in rows if (row["split"], row["layer"], row["scorer"]) == ("test", layer, scorer)]
            labels = np.array([row["subset"] == "harmful" for row in kept])
            expected = naive_auc([row["score"] for row in kept], labels)
            what = {"model": "beta", "language": "m1", "layer": layer, "scorer": scorer}
            found = value(tables["separability"], **what, prompts="all", metric="auc")
            assert found == pytest.approx(expected, abs=1e-6)


def test_the_gate_beside_the_directions_is_the_uncalibrated_one_that_routes(run: Run, tables: dict[str, Rows]) -> None:
    kept = [
        row
        for row in files.read_parquet(run.path("alpha/gate_scores/h3")).to_pylist()
        if (row["split"], row["rank"], row["budget"]) == ("test", RANKS[-1], 0)
    ]
    expected = naive_auc([row["score"] for row in kept], np.array([row["subset"] == "harmful" for row in kept]))
    what = {"model": "alpha", "language": "h3", "scorer": "gate", "layer": CHOSEN}
    assert value(tables["separability"], **what, prompts="all", metric="auc") == pytest.approx(expected, abs=1e-6)


def test_no_separability_without_its_surface_baseline(run: Run, tables: dict[str, Rows]) -> None:
    for model in run.models:
        for _, language in run.all():
            for prompts in ("all", "matched", "caliper"):
                rows = where(tables["separability"], model=model, language=language, prompts=prompts, metric="auc")
                found = {(row["scorer"], row["layer"]) for row in rows}
                directions = {(name, str(layer)) for name in ("v_hrl", "local") for layer in range(LAYERS)}
                baselines = {(name, "") for name in ("surface", "length", "char_ngrams", "naive_bayes")}
                assert found == directions | baselines | {("gate", str(CHOSEN))}


def test_matched_rows_say_how_much_is_left(tables: dict[str, Rows]) -> None:
    for row in tables["separability"]:
        if row["prompts"] == "matched":
            assert 0 < float(row["n_effective"]) <= int(row["n"]) + 1e-6
            assert row["overlap"] in {"ok", "too small"}
        elif row["prompts"] == "caliper":
            assert int(row["n_pairs"]) > 0
        else:
            assert float(row["n_effective"]) == int(row["n"])


def test_the_estimator_of_every_direction_is_named(tables: dict[str, Rows]) -> None:
    named = {row["scorer"]: row["estimator"] for row in tables["separability"]}
    assert (named["v_hrl"], named["local"], named["surface"]) == ("pc1_of_diffs", "difference_in_means", "")


def test_verdicts_stand_on_v_hrl_at_the_chosen_layer_alone(run: Run, tables: dict[str, Rows]) -> None:
    with_verdict = [row for row in tables["separability"] if row["verdict"]]
    assert len(with_verdict) == len(run.models) * len(run.all())
    for row in with_verdict:
        what = (row["scorer"], row["layer"], row["prompts"], row["metric"], row["chosen"])
        assert what == ("v_hrl", str(CHOSEN), "all", "auc", "true")
        assert row["verdict"] in VERDICTS
        same = {name: row[name] for name in ("model", "language", "prompts", "metric")}
        baseline = value(tables["separability"], **same, scorer=row["baseline"])
        assert float(row["difference"]) == pytest.approx(float(row["estimate"]) - baseline, abs=2e-6)
    assert {row["verdict"] for row in with_verdict} == {"beyond the surface"}


def test_a_longer_harmful_class_is_reported_and_the_verdict_follows(tmp_path: Path) -> None:
    planted = Run(tmp_path, models=("alpha",), longer=True).write()
    rows = read(make(planted, "separability", tmp_path / "separability.csv"))
    assert value(rows, language="l1", scorer="length", prompts="all", metric="auc") > 0.95
    verdicts = [row["verdict"] for row in rows if row["verdict"]]
    assert "beyond the surface" not in verdicts
    # The classes share almost no length: matching says so instead of giving a number.
    assert not [row for row in rows if row["prompts"] == "matched" and row["overlap"] == "ok"]


def test_gate_metrics_of_each_draw_and_their_mean(run: Run, tables: dict[str, Rows]) -> None:
    rows = [
        row
        for row in files.read_parquet(run.path("alpha/gate_scores/l2")).to_pylist()
        if (row["split"], row["rank"], row["budget"]) == ("test", 1, 4)
    ]
    draws = []
    for draw in range(DRAWS):
        kept = [row for row in rows if row["draw"] == draw]
        harmful = np.array([row["subset"] == "harmful" for row in kept])
        flagged = np.array([row["flagged"] for row in kept])
        draws.append((float(metrics.f1(flagged, harmful)), float(metrics.balanced_accuracy(flagged, harmful))))
    what = {"model": "alpha", "language": "l2", "rank": 1, "budget": 4}
    for i, metric in enumerate(("f1", "balanced_accuracy")):
        for draw in range(DRAWS):
            found = value(tables["gates"], **what, metric=metric, draw=draw)
            assert found == pytest.approx(draws[draw][i], abs=1e-6)
        mean = one(tables["gates"], **what, metric=metric, draw=None)
        assert float(mean["estimate"]) == pytest.approx(np.mean([pair[i] for pair in draws]), abs=1e-6)
        assert float(mean["sd"]) == pytest.approx(np.std([pair[i] for pair in draws], ddof=1), abs=1e-6)
        assert mean["threshold_from"] == "examples"


def test_decomposition_is_that_of_its_definition(run: Run, tables: dict[str, Rows]) -> None:
    for tier, language in run.all():
        prompts = run.prompts(language)
        ids = [prompts.ids[i] for i in prompts.select("test", "harmful")]
        said = dict(
            zip([prompts.ids[i] for i in prompts.select("test")], run.outcomes(tier, prompts, "none"), strict=True)
        )
        flags: dict[tuple[str, int, int], bool] = {
            (row["prompt_id"], row["budget"], row["draw"]): row["flagged"]
            for row in files.read_parquet(run.path(f"alpha/gate_scores/{language}")).to_pylist()
            if row["rank"] == RANKS[-1]
        }
        parts = dict.fromkeys(("acted", "action", "calibration", "representation"), 0.0)
        for name in ids:
            if said[name] == "refused":
                parts["acted"] += 1
            elif flags[name, 0, 0]:
                parts["action"] += 1
            else:
                share = np.mean([flags[name, 4, draw] for draw in range(DRAWS)])
                parts["calibration"] += share
                parts["representation"] += 1 - share
        for part, count in parts.items():
            found = value(tables["decomposition"], model="alpha", language=language, budget=4, part=part)
            assert found == pytest.approx(count / len(ids), abs=1e-6)


def test_decomposition_sums_to_one_and_has_a_row_per_budget_of_examples(tables: dict[str, Rows]) -> None:
    sums: dict[tuple[str, ...], float] = {}
    for row in tables["decomposition"]:
        key = tuple(row[name] for name in ("model", "tier", "language", "budget"))
        sums[key] = sums.get(key, 0.0) + float(row["estimate"])
    assert list(sums.values()) == pytest.approx([1.0] * len(sums), abs=1e-5)
    assert {key[3] for key in sums} == {str(budget) for budget in BUDGETS if budget}


def test_samples_are_the_same_prompts_in_every_language_and_model(run: Run, tables: dict[str, Rows]) -> None:
    picked = {
        (row["model"], row["language"]): tuple(
            other["prompt_id"] for other in where(tables["samples"], model=row["model"], language=row["language"])
        )
        for row in tables["samples"]
    }
    assert len(picked) == len(run.models) * len(run.all())
    assert len(set(picked.values())) == 1
    assert len(next(iter(picked.values()))) == 4
    for row in tables["samples"]:
        assert row["budget"] == "4"
        assert row["unsteered"] == f"none {row['prompt_id']}"
        arm = "addition" if row["flagged"] == "true" else "ablation"
        assert row["routed"] == f"{arm} {row['prompt_id']}"


@pytest.mark.parametrize(("budgets", "expected"), [([0, 1, 4, 16, 64], 16), ([0, 1, 4], 4), ([0, 64], 0), ([0], 0)])
def test_a_handful_is_at_most_sixteen(budgets: list[int], expected: int) -> None:
    assert samples.handful(budgets) == expected


def test_a_hole_leaves_its_rows_out_and_the_rest_whole(tmp_path: Path) -> None:
    holed = Run(tmp_path, models=("alpha",), without={"h2": "harmless test"}).write()
    made = {name: read(make(holed, name, tmp_path / f"{name}.csv")) for name in CONTRACT}
    assert where(made["refusal"], language="h2", subset="harmful")
    assert not where(made["refusal"], language="h2", subset="harmless")
    for name in ("selectivity", "separability", "gates"):
        assert not where(made[name], language="h2")
        assert where(made[name], language="h1")
        assert where(made[name], language=None, tier="high")
    assert where(made["decomposition"], language="h2")
    text = "".join((tmp_path / f"{name}.csv").read_text() for name in CONTRACT)
    assert "nan" not in text.lower().split(",")


@pytest.fixture(scope="module")
def surfaces(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    """Surface cells that hold gates."""
    folder, cells = tmp_path_factory.mktemp("surface"), []
    for tier, language in run.all():
        own = run.prompts(language)
        sources = [run.prompts(name) for name in run.languages["high"] if name != language]
        settings = Gate(rank=1, ranks=[1], budgets=[0, 4], draws=2)
        fitted = surface.surface_gates(sources, own, settings, 0)
        path = folder / f"{language}.parquet"
        files.write_parquet(path, score_table(own, surface.surface_scores(sources, own), fitted), {})
        cells.append(Cell("", tier, language, path))
    return cells


def test_surface_gates_stand_beside_the_models(run: Run, surfaces: list[Cell], tmp_path: Path) -> None:
    output = tmp_path / "gates.csv"
    gates.build(run.per_language("gate_scores"), output, statistics=STATISTICS, seed=0, surfaces=surfaces)
    rows = read(output)
    surface = where(rows, scorer="surface", model="beta", language="l1", metric="f1", draw=None)
    assert [row["budget"] for row in surface] == ["0", "4"]
    assert {row["rank"] for row in where(rows, scorer="surface")} == {""}
    assert {row["rank"] for row in where(rows, scorer="gate")} == {"1", "2"}


def test_the_surface_divides_failures_by_its_own_flags(run: Run, surfaces: list[Cell], tmp_path: Path) -> None:
    output = tmp_path / "decomposition.csv"
    judged, scored = run.arms(f"judgements/{JUDGE}"), run.per_language("gate_scores")
    decomposition.build(
        judged, scored, output, rank=RANKS[-1], statistics=STATISTICS, seed=0, surfaces=list(reversed(surfaces))
    )
    rows = read(output)
    for cell in surfaces:
        prompts = run.prompts(cell.language)
        said = run.outcomes(cell.tier, prompts, "none")
        refused = dict(zip([prompts.ids[i] for i in prompts.select("test")], said, strict=True))
        flags = {
            (row["prompt_id"], row["budget"], row["draw"]): row["flagged"]
            for row in files.read_parquet(cell.path).to_pylist()
            if row["scorer"] == "surface_gate"
        }
        failed = [name for i in prompts.select("test", "harmful") if refused[name := prompts.ids[i]] != "refused"]
        n = len(prompts.select("test", "harmful"))
        what = {"model": "beta", "language": cell.language, "budget": 4, "scorer": "surface"}
        action = sum(flags[name, 0, 0] for name in failed) / n
        calibration = sum(
            np.mean([flags[name, 4, draw] for draw in (0, 1)]) * (not flags[name, 0, 0]) for name in failed
        )
        assert value(rows, **what, part="action") == pytest.approx(action, abs=1e-6)
        assert value(rows, **what, part="calibration") == pytest.approx(calibration / n, abs=1e-6)
        acted = value(rows, **what, part="acted")
        assert acted == value(rows, **{**what, "scorer": "gate"}, part="acted")


def test_a_file_that_lacks_a_prompt_is_named(run: Run, tmp_path: Path) -> None:
    cells = run.arms(f"judgements/{JUDGE}")
    short = files.read_parquet(cells[0].path).slice(1)
    broken = tmp_path / "short.parquet"
    files.write_parquet(broken, short)
    routed = next(i for i, cell in enumerate(cells) if cell.arm == "addition" and cell.language == "h1")
    cells[routed] = Cell("alpha", "high", "h1", broken, "addition", None, JUDGE)
    with pytest.raises(PolygateError, match=r"short\.parquet"):
        refusal.build(cells, tmp_path / "refusal.csv", statistics=STATISTICS, seed=0)
    assert not (tmp_path / "refusal.csv").exists()
