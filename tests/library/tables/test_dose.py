"""dose.csv repeats the numbers of the finished tables, in order of dose."""

from __future__ import annotations

from pathlib import Path

from library.tables.run import Run, make, read
from polygate.tables import dose

INPUTS = ("refusal", "separability", "choices", "gates")


def test_its_numbers_are_those_of_the_tables_by_language_and_dose(tmp_path: Path) -> None:
    run = Run(tmp_path / "run").write()
    paths = {name: make(run, name, tmp_path / f"{name}.csv") for name in INPUTS}
    first, second = dict.fromkeys(row["model"] for row in read(paths["refusal"]))
    language = next(row["language"] for row in read(paths["refusal"]) if row["tier"] == "low" and row["language"])
    gates = [row for row in read(paths["gates"]) if row["scorer"] == "gate" and row["metric"] == "f1"]
    budgets = sorted({int(row["budget"]) for row in gates})
    rank = max(int(row["rank"]) for row in gates if row["language"] == language)
    doses = [{"model": first, "language": language, "dose": 16}, {"model": second, "language": language, "dose": 2}]
    dose.build(doses, tmp_path / "dose.csv", **paths, rank=rank, budgets=budgets)
    rows = read(tmp_path / "dose.csv")
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
