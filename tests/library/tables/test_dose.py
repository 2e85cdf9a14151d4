"""dose.csv repeats the numbers of the finished tables, in order of dose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from library.tables.run import Run, make, read
from polygate.measurement.repeats import METHOD, over_trainings
from polygate.measurement.statistics import Interval
from polygate.tables import dose
from polygate.tables.rows import Row

INPUTS = ("refusal", "separability", "choices", "gates")


def test_its_numbers_are_those_of_the_tables_by_language_and_dose(tmp_path: Path) -> None:
    run = Run(tmp_path / "run").write()
    paths = {name: make(run, name, tmp_path / f"{name}.csv") for name in INPUTS}
    first, second = dict.fromkeys(row["model"] for row in read(paths["refusal"]))
    language = next(row["language"] for row in read(paths["refusal"]) if row["tier"] == "low" and row["language"])
    gates = [row for row in read(paths["gates"]) if row["scorer"] == "gate" and row["metric"] == "f1"]
    budgets = sorted({int(row["budget"]) for row in gates})
    rank = max(int(row["rank"]) for row in gates if row["language"] == language)
    doses = [
        {"model": first, "language": language, "dose": 16, "seed": 0, "alike": first},
        {"model": second, "language": language, "dose": 2, "seed": 5, "alike": second},
    ]
    dose.build(doses, tmp_path / "dose.csv", **paths, rank=rank, budgets=budgets, confidence=0.95)
    every = read(tmp_path / "dose.csv")
    rows = [row for row in every if row["model"]]
    assert {(row["model"], row["seed"]) for row in rows} == {(first, "0"), (second, "5")}
    # One alignment is its own mean.
    means = [{**row, "model": row["model"] or one["model"], "seed": one["seed"]} for row, one in _beside(every)]
    assert means == rows
    assert [(row["model"], row["dose"]) for row in rows] == [(second, "2")] * 7 + [(first, "16")] * 7
    refused = {
        (row["model"], row["arm"], row["budget"]): row["estimate"]
        for row in read(paths["refusal"])
        if (row["language"], row["subset"], row["outcome"]) == (language, "harmful", "refused")
    }
    told = {row["model"]: row["estimate"] for row in rows if row["metric"] == "refused"}
    assert told == {model: refused[model, "none", ""] for model in (first, second)}
    told = {(row["model"], "routed", row["budget"]): row["estimate"] for row in rows if row["metric"] == "routed"}
    assert set(told) == {(m, "routed", str(b)) for m in (first, second) for b in (budgets[0], budgets[-1])}
    assert told.items() <= refused.items()
    f1 = {
        (row["model"], row["budget"]): row["estimate"]
        for row in gates
        if row["language"] == language and row["rank"] == str(rank) and not row["draw"]
    }
    told = {(row["model"], row["budget"]): row["estimate"] for row in rows if row["metric"] == "f1"}
    assert told == {(model, str(b)): f1[model, str(b)] for model in (first, second) for b in (budgets[0], budgets[-1])}


def test_a_small_encoder_stands_beside_the_surface(tmp_path: Path) -> None:
    languages = {"high": ["h1", "h2"], "low": ["l1"]}
    run = Run(tmp_path / "run", models=("alpha",), languages=languages, encoder=True).write()
    paths = {name: make(run, name, tmp_path / f"{name}.csv") for name in INPUTS}
    doses = [{"model": "alpha", "language": "l1", "dose": 4, "seed": 0, "alike": "alpha"}]
    dose.build(doses, tmp_path / "dose.csv", **paths, rank=1, budgets=[0], confidence=0.95)
    told = {row["scorer"]: row["estimate"] for row in read(tmp_path / "dose.csv") if row["metric"] == "auc"}
    known = {
        row["scorer"]: row["estimate"]
        for row in read(paths["separability"])
        if (row["language"], row["prompts"], row["metric"]) == ("l1", "all", "auc")
    }
    assert {name: told[name] for name in ("surface", "semantic")} == {
        name: known[name] for name in ("surface", "semantic")
    }


def _beside(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Every mean with the alignment that it is of, where each dose has one."""
    for mean in rows:
        if not mean["model"]:
            names = ("language", "dose", "metric", "scorer", "budget")
            (one,) = [row for row in rows if row["model"] and all(row[name] == mean[name] for name in names)]
            yield mean, one


def test_alignments_that_differ_in_their_seed_alone_have_a_mean_and_others_do_not(tmp_path: Path) -> None:
    run = Run(tmp_path / "run").write()
    paths = {name: make(run, name, tmp_path / f"{name}.csv") for name in INPUTS}
    first, second = dict.fromkeys(row["model"] for row in read(paths["refusal"]))
    language = next(row["language"] for row in read(paths["refusal"]) if row["tier"] == "low" and row["language"])
    for alike, seeds, groups in [
        ((first, first), (0, 1), 1),
        ((first, second), (0, 1), 2),
        ((first, first), (3, 3), 1),
    ]:
        doses = [
            {"model": model, "language": language, "dose": 4, "seed": seed, "alike": of}
            for model, seed, of in zip((first, second), seeds, alike, strict=True)
        ]
        dose.build(doses, tmp_path / "dose.csv", **paths, rank=1, budgets=[0], confidence=0.95)
        rows = read(tmp_path / "dose.csv")
        means = [row for row in rows if not row["model"]]
        assert len(means) == groups * 5
        # The same seed twice is one alignment.
        together = len({*zip(seeds, alike, strict=True)}) if groups == 1 else 1
        assert {row["alignments"] for row in means} == {str(together)}
        if together == 1:
            continue
        for mean in means:
            names = ("metric", "scorer", "budget")
            each = [row for row in rows if row["model"] and all(row[name] == mean[name] for name in names)]
            assert [row["model"] for row in each] == [first, second]
            ends = [Interval(*(float(row[end]) for end in ("estimate", "low", "high")), row["method"]) for row in each]
            expected = over_trainings(ends, 0.95)
            assert float(mean["estimate"]) == round(expected.estimate, 6)
            assert (float(mean["low"]), float(mean["high"])) == (round(expected.low, 6), round(expected.high, 6))
            assert mean["method"] == METHOD
            assert mean["n"] == each[0]["n"]
