"""Measured beside published: the same thing is compared with the same thing, or with nothing."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from library.figures import made_up
from polygate.errors import PolygateError
from polygate.report import measured, paper_vs_measured, published
from polygate.report.comparable import Run
from polygate.report.measured import MAPPINGS, Mapped
from polygate.report.published import MEAN, Key

MODELS = dict.fromkeys(made_up.PAPER[0], "")
OURS = dict(zip(published.MODELS, MODELS, strict=True))
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run of the paper's models that has the paper's rank, and its budget of 32 in place of 16."""
    folder = tmp_path_factory.mktemp("paper")
    made_up.write(folder, made_up.PAPER)
    gates = pd.read_csv(folder / "gates.csv", keep_default_na=False)
    gates.assign(rank=gates["rank"].astype(str).replace({"2.0": "10", "2": "10"})).to_csv(
        folder / "gates.csv", index=False
    )
    for name in ("refusal", "selectivity"):
        table = pd.read_csv(folder / f"{name}.csv")
        # Released baselines are the strongest here, and are not adapted.
        table["estimate"] += 0.3 * table["arm"].str.endswith("-released") * (name == "selectivity")
        table.assign(budget=table["budget"].replace({16.0: 32.0})).to_csv(folder / f"{name}.csv", index=False)
    return folder


def paths(folder: Path) -> dict[str, str]:
    return {name: str(folder / f"{name}.csv") for name in measured.TABLES}


ALIKE = Run("", "", {}, {}, {}, {})


def build(tables: dict[str, str], models: dict[str, str], output: Path, run: Run = ALIKE) -> tuple[Rows, str]:
    table, page = output / "paper_vs_measured.csv", output / "paper_vs_measured.html"
    paper_vs_measured.build(tables, models, run, table, page)
    return rows_of(table), page.read_text(encoding="utf-8")


def rows_of(path: Path | str) -> Rows:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_papers_judge_is_compared_where_it_has_judged(folder: Path, tmp_path: Path) -> None:
    """Of the refusals; the sweeps are the first judge's alone."""
    shutil.copytree(folder, tmp_path / "tables")
    table = pd.read_csv(tmp_path / "tables/refusal.csv", keep_default_na=False)
    other = table.assign(judge="paid", estimate=0.5, low=0.25, high=0.75)
    pd.concat([table, other]).to_csv(tmp_path / "tables/refusal.csv", index=False)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    plain, _ = build(paths(tmp_path / "tables"), MODELS, first)
    found, _ = build(paths(tmp_path / "tables"), MODELS, second, replace(ALIKE, papers_judge="paid"))
    changed = [(before, after) for before, after in zip(plain, found, strict=True) if before != after]
    assert {after["quantity"] for _, after in changed} == {"harmful refusal", "harmless refusal"}
    assert all((row["measured"], row["low"], row["high"]) == ("0.5", "0.25", "0.75") for _, row in changed)


@cache
def table_of(path: Path) -> Rows:
    """Rows of a table that no test changes."""
    return rows_of(path)


def find(rows: Rows, **what: str) -> dict[str, str]:
    (found,) = [row for row in rows if all(row[name] == value for name, value in what.items())]
    return found


def number(cell: str) -> float | None:
    return float(cell) if cell else None


def slow(row: dict[str, str], folder: Path) -> list[dict[str, str]]:
    """Rows of the tables that a published number is of, for one model or all three, by reading line after line."""
    layers = {line["model"]: line["value"] for line in table_of(folder / "choices.csv") if line["what"] == "layer"}
    table = {
        "unsteered refusal": "refusal",
        "separability": "separability",
        "gates": "gates",
        "out of distribution": "ood",
        "conformal calibration": "calibration" if "miss rate" in row["quantity"] else None,
        "routing": "selectivity" if row["quantity"] == "selectivity" else "refusal",
        "judge against people": "agreement" if row["quantity"] == "correlation" else None,
        "layer sweep": "sweeps",
        "cross-lingual transfer": "transfer",
    }.get(row["experiment"])
    found = []
    extreme = {"lowest miss rate": min, "highest miss rate": max}.get(row["quantity"])
    for line in table_of(folder / f"{table}.csv") if table else []:
        models = [OURS[row["model"]]] if row["model"] in OURS else list(MODELS) if row["model"] else [""]
        here = (line["tier"], line["language"]) == ("high" if table == "sweeps" else row["tier"], row["language"])
        if line["model"] not in models or not (here or (extreme and line["language"] and line["tier"] == row["tier"])):
            continue
        if extreme:
            same = (line["rule"], line["metric"]) == ("parallel", "miss") and line["language"] != ""
        elif table == "calibration":
            same = (line["rule"], line["metric"]) == ("paper", "miss") and line["budget"] == row["budget"]
        elif table == "separability":
            at = float(line["layer"]) if line["layer"] else -1.0
            same = line["scorer"] == "v_hrl" and line["prompts"] == "all" and at == float(layers[line["model"]])
        elif table == "gates":
            same = line["scorer"] == "gate" and line["metric"] == "f1" and line["draw"] == "" and line["rank"] == "10"
            same = same and number(line["budget"]) == number(row["budget"])
        elif table == "ood":
            of = (line["dataset"], line["pairing"], line["category"], line["metric"])
            same = of == (row["dataset"], "polyrefuse", "", "balanced_accuracy") and line["gate"] == row["arm"]
            same = same and number(line["budget"]) == number(row["budget"])
        elif table == "sweeps":
            same = (line["kind"], line["direction"], line["dip"]) == ("layer", "v_hrl", "true")
        elif table == "transfer":
            of = (line["source"], line["metric"], line["rank"])
            same = of == (row["source_language"], "f1", "10") and line["language"] != ""
        elif table == "agreement":
            same = (line["judge"], line["against"], line["measure"]) == ("rules", "people", "correlation")
        else:
            same = line["arm"] == row["arm"] and number(line["budget"]) == number(row["budget"])
            if table == "refusal":
                same = same and (f"{line['subset']} refusal", line["outcome"]) == (row["quantity"], "refused")
        if same:
            found.append(line)
    return [extreme(found, key=lambda line: float(line["estimate"]))] if extreme and found else found


def test_a_slow_reading_of_the_tables_finds_the_same_for_every_number(folder: Path, tmp_path: Path) -> None:
    rows, _ = build(paths(folder), MODELS, tmp_path)
    assert len(rows) == len(published.read())
    for row in rows:
        lines = slow(row, folder)
        if row["arm"] == measured.STRONGEST:
            both = [slow({**row, "arm": arm}, folder) for arm in ("adasteer", "cast")]
            lines = max(both, key=lambda found: sum(float(line["estimate"]) for line in found))
        if not lines:
            assert (row["measured"], row["low"], row["high"], row["inside"]) == ("", "", "", "")
            continue
        if row["model"] == published.BEST:
            lines = [max(lines, key=lambda line: float(line["estimate"]))]
        assert len(lines) == (3 if row["model"] == MEAN else 1)
        if row["experiment"] == "layer sweep":
            assert float(row["measured"]) == float(lines[0]["layer"])
            assert (row["low"], row["high"], row["inside"]) == ("", "", "")
            continue
        estimate, low, high = (
            sum(float(line[name]) for line in lines) / len(lines) for name in ("estimate", "low", "high")
        )
        assert [float(row[name]) for name in ("measured", "low", "high")] == pytest.approx(
            [estimate, low, high], abs=1e-6
        )
        value, precision = float(row["published"]), float(row["precision"])
        above, below = low > value + precision, high < value - precision
        inside = not below and (row["relation"] == "at least" or not above)
        assert row["inside"] == str(inside).lower()
    of_what = {row["experiment"] for row in rows if row["measured"]}
    assert of_what == {mapped.experiment for mapped in MAPPINGS}
    assert {row["inside"] for row in rows} == {"true", "false", ""}


def test_a_mean_over_the_three_models_and_the_best_of_them_need_all_three(folder: Path, tmp_path: Path) -> None:
    two = dict.fromkeys(list(MODELS)[:2], "")
    whole, part = (build(paths(folder), models, tmp_path)[0] for models in (MODELS, two))
    for model in (MEAN, published.BEST):
        assert any(row["measured"] for row in whole if row["model"] == model)
        assert not any(row["measured"] for row in part if row["model"] == model)
    assert any(row["measured"] for row in part)


def test_a_budget_or_a_rank_that_the_run_lacks_is_not_replaced_by_another(tmp_path: Path) -> None:
    made_up.write(tmp_path, made_up.PAPER)
    rows, _ = build(paths(tmp_path), MODELS, tmp_path)
    budgeted = [row for row in rows if row["experiment"] in ("gates", "routing") and row["budget"]]
    assert budgeted
    assert not any(row["measured"] for row in budgeted)


def test_a_table_that_the_run_lacks_leaves_its_numbers_in_place(folder: Path, tmp_path: Path) -> None:
    tables = paths(folder)
    del tables["selectivity"]
    rows, _ = build(tables, MODELS, tmp_path)
    assert find(rows, experiment="routing", quantity="selectivity", arm="routed")["measured"] == ""
    assert any(row["measured"] for row in rows if row["experiment"] == "routing")


def test_other_models_are_compared_with_nothing_and_the_page_says_so(folder: Path, tmp_path: Path) -> None:
    rows, page = build(paths(folder), {"qwen2": "", "llama": ""}, tmp_path)
    assert not any(row["measured"] for row in rows)
    assert "of other models than this run's (qwen2, llama)." in page
    assert "<section>" not in page


def test_an_estimate_without_an_interval_is_measured_but_neither_inside_nor_outside(
    folder: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(folder / "separability.csv", keep_default_na=False).assign(low="", high="")
    table.to_csv(tmp_path / "separability.csv", index=False)
    rows, page = build(paths(folder) | {"separability": str(tmp_path / "separability.csv")}, MODELS, tmp_path)
    row = find(rows, experiment="separability", model="gemma-2-9b-it", language="am")
    assert row["measured"] != ""
    assert (row["low"], row["high"], row["inside"]) == ("", "", "")
    assert "no interval" in page
    assert "nan" not in page


def test_two_rows_of_one_number_are_an_error_and_not_a_choice(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "refusal.csv", keep_default_na=False)
    pd.concat([table, table]).to_csv(tmp_path / "refusal.csv", index=False)
    with pytest.raises(PolygateError, match=r"refusal\.csv has 2 rows of one published number"):
        build(paths(folder) | {"refusal": str(tmp_path / "refusal.csv")}, MODELS, tmp_path)


def test_a_table_without_a_column_that_an_entry_needs_is_one_line(folder: Path, tmp_path: Path) -> None:
    pd.read_csv(folder / "gates.csv").drop(columns="rank").to_csv(tmp_path / "gates.csv", index=False)
    with pytest.raises(PolygateError, match="column 'rank' is missing"):
        build(paths(folder) | {"gates": str(tmp_path / "gates.csv")}, MODELS, tmp_path)


def test_every_entry_gives_numbers_that_are_published_and_none_gives_them_twice() -> None:
    given = [(mapped.experiment, quantity) for mapped in MAPPINGS for quantity in mapped.quantities]
    assert len(given) == len(set(given))
    known = {(n.key.experiment, n.key.quantity) for n in published.read()}
    assert {mapped.experiment for mapped in MAPPINGS} <= {experiment for experiment, _ in known}
    for mapped in MAPPINGS:
        assert known & {(mapped.experiment, quantity) for quantity in mapped.quantities}
        assert set(mapped.columns) <= set(Key.__dataclass_fields__)


def test_a_new_experiment_takes_one_entry() -> None:
    frame = pd.DataFrame(
        {
            "model": ["a", "b", "qwen2.5-7b"],
            "tier": ["", "", "low"],
            "language": ["", "", "am"],
            "source": ["", "", "yo"],
            "budget": [4.0, 4.0, float("nan")],
            "rate": [0.1, 0.3, 0.68],
            "low": [0.0, 0.2, 0.6],
            "high": [0.2, 0.4, 0.7],
        }
    )
    entries = (
        Mapped("conformal calibration", "new", {"miss rate": {}}, columns={"budget": "budget"}, estimate="rate"),
        Mapped("cross-lingual transfer", "new", {"f1": {}}, columns={"source_language": "source"}, estimate="rate"),
    )
    bound = Key("conformal calibration", "miss rate", published.ANY, "", "", "conformal", 4, "", "")
    worst = measured.measure(bound, {"new": frame}, {}, ["a", "b"], entries)
    assert worst == measured.Measured(0.3, 0.2, 0.4)
    assert measured.measure(bound, {"new": frame}, {}, ["a", "b", "c"], entries) is None
    yo = Key("cross-lingual transfer", "f1", "Qwen2.5-7B-Instruct", "low", "am", "gate", None, "", "yo")
    assert measured.measure(yo, {"new": frame}, OURS, MODELS, entries) == measured.Measured(0.68, 0.6, 0.7)
    assert measured.measure(replace(yo, source_language="sw"), {"new": frame}, OURS, MODELS, entries) is None


def test_page_and_table_say_the_same(folder: Path, tmp_path: Path) -> None:
    rows, page = build(paths(folder), MODELS, tmp_path)
    top, below = page.split("Not measured in this run")
    assert top.count("<tr><td>") == sum(bool(row["measured"]) for row in rows)
    assert below.count("<tr><td>") == sum(not row["measured"] for row in rows)
    for verdict, cell in (("inside", "true"), ("outside", "false")):
        assert top.count(f'<td class="{verdict}">') == sum(row["inside"] == cell for row in rows) > 0
    found = sum(bool(row["measured"]) for row in rows)
    held, judged = sum(row["inside"] == "true" for row in rows), sum(bool(row["inside"]) for row in rows)
    assert f"Of {len(rows)} published numbers this run measured {found}, {judged} of them with an interval" in page
    assert f"{held} lie inside it, {judged - held} outside." in page
    estimates = re.findall(r"<td>(\d\.\d{3}) <span>\[(\d\.\d{3}), (\d\.\d{3})\]", top)
    wanted = [tuple(f"{float(row[name]):.3f}" for name in ("measured", "low", "high")) for row in rows if row["low"]]
    assert sorted(estimates) == sorted(wanted)
    layers = [row["measured"] for row in rows if row["experiment"] == "layer sweep"]
    assert [f"<td>{float(layer):.0f}</td>" in top for layer in layers] == [True] * 3


def test_what_is_not_comparable_is_marked_in_its_rows_and_explained_once(folder: Path, tmp_path: Path) -> None:
    run = replace(ALIKE, judge="rules", prompts={"sw": "other translations than the paper's"}, weights={"none": "x"})
    rows, page = build(paths(folder), MODELS, tmp_path, run)
    marked = {(row["experiment"], row["unlike"]) for row in rows if row["measured"] and row["language"] == "am"}
    assert {("unsteered refusal", "judge"), ("separability", "")} <= marked
    assert not any(row["unlike"] for row in rows if not row["measured"])
    top, _ = page.split("Not measured in this run")
    assert top.count('<span class="unlike">') == sum(bool(row["unlike"]) for row in rows) > 0
    assert top.count("<li><b>judge</b>: rules judges completions; in the paper gpt-4o-mini did</li>") == 1
    # Weights touch no number that was measured; where all is alike nothing is said.
    assert "<b>weights</b>" not in page
    assert "not comparable" in page
    assert "not comparable" not in build(paths(folder), MODELS, tmp_path)[1]
