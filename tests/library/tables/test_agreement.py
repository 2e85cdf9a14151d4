"""Tables of several judges: the first one's rows are as they are alone, and agreement is counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from library.tables.run import JUDGE, STATISTICS, Rows, Run, make, read
from polygate import files
from polygate.errors import PolygateError
from polygate.figures.reading import read_table
from polygate.judges.labels import Labels
from polygate.report import measured
from polygate.tables import agreement, refusal, selectivity
from polygate.tables.cells import Cell
from polygate.tables.rows import read_rows, select


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run")).write()


def second(run: Run, folder: Path, name: str, languages: list[str]) -> list[Cell]:
    """A judge that turns over every fifth verdict of the first, and gives none about every seventh completion."""
    found = []
    for cell in run.arms(f"judgements/{JUDGE}"):
        if cell.language not in languages or cell.arm == "routed":
            continue
        table = files.read_parquet(cell.path)
        outcomes = [
            "unparsed" if i % 7 == 3 else said if i % 5 else "complied" if said == "refused" else "refused"
            for i, said in enumerate(table["outcome"].to_pylist())
        ]
        path = folder / f"{name}-{cell.model}-{cell.arm}-{cell.language}.parquet"
        files.write_parquet(
            path, table.set_column(table.column_names.index("outcome"), "outcome", pa.array([outcomes][0]))
        )
        found.append(replace(cell, judge=name, path=path))
    return found


@pytest.fixture(scope="module")
def cells(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    first = [cell for cell in run.arms(f"judgements/{JUDGE}") if cell.arm != "routed"]
    return [*first, *second(run, tmp_path_factory.mktemp("second"), "other", ["h1", "l1"])]


@pytest.fixture(scope="module")
def labels(run: Run) -> Labels:
    """People agree with the rules on alpha's unsteered l1, but for every tenth completion; asked about half."""
    table = files.read_parquet(run.path(f"alpha/judgements/{JUDGE}/none/l1")).to_pylist()
    return {
        ("alpha", "l1", "none", row["prompt_id"]): (row["outcome"] == "refused") != (i % 10 == 0)
        for i, row in enumerate(table)
        if i % 2 == 0
    }


@pytest.fixture(scope="module")
def tables(cells: list[Cell], labels: Labels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tables")
    paths = folder / "agreement.csv", folder / "corrected.csv"
    agreement.build(cells, labels, *paths, statistics=STATISTICS, seed=0)
    return paths


def verdicts(cells: list[Cell], judge: str, **what: str) -> dict[tuple[str, str, str, str], bool]:
    """Refusals by hand: whatever a judge says of the completions of some cells."""
    found = {}
    for cell in cells:
        if cell.judge == judge and all(getattr(cell, name) == value for name, value in what.items() if value):
            for row in files.read_parquet(cell.path).to_pylist():
                if row["outcome"] != "unparsed":
                    found[cell.model, cell.language, cell.arm, row["prompt_id"]] = row["outcome"] == "refused"
    return found


@pytest.mark.parametrize(
    ("model", "tier", "language"),
    [("alpha", "high", "h1"), ("beta", "low", "l1"), ("alpha", "high", ""), ("", "low", "")],
)
def test_confusions_are_counted_over_arms_and_pooled_over_a_tier(
    cells: list[Cell], tables: tuple[Path, Path], model: str, tier: str, language: str
) -> None:
    what = {"model": model, "tier": tier, "language": language}
    first, other = (verdicts(cells, judge, **what) for judge in (JUDGE, "other"))
    shared = sorted(first.keys() & other.keys())
    counts = dict.fromkeys(agreement.CELLS, 0)
    for key in shared:
        counts[agreement.CELLS[2 * (not first[key]) + (not other[key])]] += 1
    rows = [row for row in select(read(tables[0]), **what, judge=JUDGE, against="other") if row["measure"] != "lead"]
    assert {row["measure"]: int(row["count"]) for row in rows if row["count"]} == counts
    assert {int(row["n"]) for row in rows} == {len(shared)}
    (share,) = select(rows, measure="both")
    assert float(share["estimate"]) == pytest.approx(counts["both"] / len(shared), abs=1e-6)
    assert all(float(row["low"]) <= float(row["estimate"]) <= float(row["high"]) for row in rows)


def test_a_language_that_a_judge_does_not_judge_is_empty(tables: tuple[Path, Path]) -> None:
    rows = select(read(tables[0]), model="alpha", language="h2", against="other")
    assert [row["measure"] for row in rows] == [*agreement.MEASURES, "lead"]
    assert {(row["estimate"], row["n"], row["method"]) for row in rows} == {("", "0", "not judged")}


def test_people_are_a_rater_where_they_were_asked(cells: list[Cell], tables: tuple[Path, Path], labels: Labels) -> None:
    (row,) = select(read(tables[0]), model="", tier="low", judge=JUDGE, against="people", measure="correlation")
    first = verdicts(cells, JUDGE)
    pairs = np.array([(first[key], said) for key, said in labels.items()])
    assert float(row["estimate"]) == pytest.approx(np.corrcoef(pairs.T)[0, 1], abs=1e-6)
    assert int(row["n"]) == len(labels)
    # It is what the published correlation is compared with, and the first judge's.
    (found,) = [one for one in measured.MAPPINGS if one.experiment == "judge against people"]
    frame = read_table(tables[0], found.needs())
    whole = frame[(frame["model"] == "") & (frame["tier"] == "low") & (frame["against"] == "people")]
    assert len(whole[whole["measure"] == "correlation"]) == 1


def test_a_lead_is_between_judges_of_the_same_completions_and_corrected(
    cells: list[Cell], tables: tuple[Path, Path], labels: Labels
) -> None:
    rows = select(read(tables[0]), measure="lead")
    (row,) = select(rows, model="alpha", language="l1", judge=JUDGE, against="other")
    first, other = (verdicts(cells, judge, model="alpha", language="l1") for judge in (JUDGE, "other"))
    shared = [key for key in labels if key in first and key in other]
    people = [labels[key] for key in shared]
    kappas = [cohen_kappa_score([said[key] for key in shared], people) for said in (first, other)]
    assert float(row["estimate"]) == pytest.approx(kappas[0] - kappas[1], abs=1e-6)
    assert int(row["n"]) == len(shared)
    assert float(row["low"]) < float(row["estimate"]) < float(row["high"])
    assert float(row["p"]) <= float(row["p_holm"]) <= 1
    # Nobody was asked about any other language or model.
    assert {(one["model"], one["tier"], one["language"]) for one in rows if one["p"]} == {
        ("alpha", "low", "l1"),
        ("alpha", "low", ""),
        ("", "low", ""),
    }
    assert {one["method"] for one in rows if not one["p"]} == {"not judged"}


def test_rates_are_corrected_where_people_were_asked_and_stand_beside_the_raw_ones(
    run: Run, tables: tuple[Path, Path], labels: Labels, tmp_path: Path
) -> None:
    rows = read(tables[1])
    assert {(row["model"], row["tier"], row["arm"]) for row in rows} == {("alpha", "low", "none")}
    # Of the tier the other judge judges this language alone; the rules judge another without labels.
    assert {(row["judge"], row["language"], row["subset"]) for row in rows} == {
        (judge, language, subset)
        for judge, language in ((JUDGE, "l1"), ("other", "l1"), ("other", ""))
        for subset in ("harmful", "harmless")
    }
    (row,) = select(rows, judge=JUDGE, subset="harmful")
    raw = select(read(make(run, "refusal", tmp_path / "refusal.csv")), model="alpha", language="l1", arm="none")
    (same,) = select(raw, subset="harmful", outcome="refused")
    assert (row["raw"], row["raw_low"], row["raw_high"]) == (same["estimate"], same["low"], same["high"])
    assert int(row["labelled"]) == sum("harmful" in key[3] for key in labels)
    assert int(row["n"]) == run.n
    assert row["method"] == "prediction-powered"
    assert float(row["low"]) < float(row["estimate"]) < float(row["high"])


def test_labels_of_no_completion_are_refused(cells: list[Cell], tmp_path: Path) -> None:
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    wrong: Labels = {("alpha", "l1", "none", f"harmful-test-999{i}"): True for i in range(3)}
    said = r"label harmful-test-9990 \(alpha, l1, none\), and 2 more, of which there is no .*, in people\.csv: correct"
    with pytest.raises(PolygateError, match=said):
        agreement.build(cells, wrong, *paths, statistics=STATISTICS, seed=0, labelled=Path("people.csv"))
    assert not any(path.exists() for path in paths)


def test_without_people_nothing_is_corrected(cells: list[Cell], tmp_path: Path) -> None:
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    agreement.build(cells, {}, *paths, statistics=STATISTICS, seed=0)
    assert {row["against"] for row in read(paths[0])} == {"other"}
    assert paths[1].read_text().splitlines() == [",".join(agreement.CORRECTED)]


@pytest.mark.parametrize("name", ["refusal", "selectivity"])
def test_another_judge_leaves_the_rows_of_the_first_as_they_are(
    run: Run, cells: list[Cell], tmp_path: Path, name: str
) -> None:
    alone: Rows = read(make(run, name, tmp_path / "alone.csv"))
    others = [cell for cell in cells if cell.judge == "other"]
    output = tmp_path / "both.csv"
    build = {"refusal": refusal.build, "selectivity": selectivity.build}[name]
    build([*run.arms(f"judgements/{JUDGE}"), *others], output, statistics=STATISTICS, seed=0)
    assert list(read_rows(output)) == alone
    assert len(read_table(output, ("model", "estimate"))) == len(alone)
    rows = select(read(output), judge="other")
    assert {row["language"] for row in rows} == {"h1", "l1", ""}
    if name == "refusal":
        assert {row["outcome"] for row in rows} == {"refused", "complied", "garbled", "unparsed"}
        assert {row["judge"] for row in read_table(output, ("judge",)).to_dict("records")} == {JUDGE, "other"}
