"""The published numbers are data: each stands there once, and what can't be is told with its line."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from polygate.errors import PolygateError
from polygate.report import published
from polygate.report.published import FILE, Published


def test_every_published_number_is_there_once() -> None:
    numbers = published.read()
    assert max(Counter(number.key for number in numbers).values()) == 1
    assert Counter(number.key.experiment for number in numbers) == {
        "unsteered refusal": 6 + 17,
        "separability": 3 * 23,
        "gates": 9,
        "routing": 2 + 3,
        "out of distribution": 24,
        "cross-lingual transfer": 5,
        "judge against people": 6,
        "layer sweep": 3,
        "conformal calibration": 4 + 4,
    }


def test_the_completions_that_people_labelled_add_up_and_give_the_published_correlation() -> None:
    said = {n.key.quantity: n.value for n in published.read() if n.key.experiment == "judge against people"}
    both, people, judge, neither = (
        said[f"refused by {whom}"] for whom in ("both", "people only", "the judge only", "neither")
    )
    assert both + people + judge + neither == said["completions labelled"]
    margins = (both + people) * (judge + neither) * (both + judge) * (people + neither)
    assert (both * neither - people * judge) / margins**0.5 == pytest.approx(said["correlation"], abs=0.0005)


def test_conformal_bounds_are_one_in_the_examples_and_one_more() -> None:
    bounds = [number for number in published.read() if number.relation == "at most"]
    assert len(bounds) == 4
    for bound in bounds:
        assert bound.key.budget is not None
        assert bound.value == pytest.approx(1 / (bound.key.budget + 1), abs=max(bound.precision, 1e-9))


def test_precision_is_no_finer_than_the_digits_that_were_published() -> None:
    with FILE.open(newline="") as file:
        for row in csv.DictReader(file):
            exact = row["relation"] == "at most" or float(row["published"]).is_integer()
            digits = len(row["published"].partition(".")[2])
            assert exact or float(row["precision"]) >= 0.5 * 10**-digits, row


@pytest.mark.parametrize(
    ("relation", "low", "high", "held"),
    [
        ("", 0.80, 0.90, True),
        ("", 0.60, 0.696, True),
        ("", 0.60, 0.694, False),
        ("", 0.704, 0.80, True),
        ("", 0.706, 0.80, False),
        ("at least", 0.90, 0.95, True),
        ("at least", 0.60, 0.694, False),
        ("at most", 0.10, 0.20, True),
        ("at most", 0.706, 0.80, False),
    ],
)
def test_the_interval_holds_the_number_or_what_its_bound_allows(
    relation: str, low: float, high: float, held: bool
) -> None:
    value = 0.85 if (low, high) == (0.80, 0.90) else 0.7
    key = published.read()[0].key
    assert Published(key, value, 0.005, relation, "made up").within(low, high) is held


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("model", "gpt-2", "unknown model 'gpt-2'"),
        ("language", "tlh", "unknown language 'tlh'"),
        ("tier", "lowest", "unknown tier 'lowest'"),
        ("tier", "high", "am is low-resource"),
        ("quantity", "luck", "unknown quantity 'luck'"),
        ("relation", "about", "unknown relation 'about'"),
        ("published", "93", "can't be"),
        ("published", "nan", "can't be"),
        ("published", ".9?", "not a number"),
        ("precision", "-1", "can't be"),
        ("budget", "-1", "can't be"),
        ("budget", "few", "not a number"),
        ("source", "", "no source"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(tmp_path: Path, column: str, value: str, said: str) -> None:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    at = next(i for i, row in enumerate(rows) if row["language"] == "am" and row["quantity"] == "auc")
    rows[at] |= {column: value}
    with pytest.raises(PolygateError, match=rf"{said}.*line {at + 2}"):
        published.read(write(tmp_path, rows))


def test_a_number_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    again = [*rows, rows[3] | {"published": "0.5"}]
    with pytest.raises(PolygateError, match=rf"stands in line 5 already, in .*line {len(rows) + 2}"):
        published.read(write(tmp_path, again))


def test_other_columns_or_cells_are_refused(tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8")
    path = tmp_path / "published.csv"
    path.write_text(text.replace("precision", "accuracy", 1), encoding="utf-8")
    with pytest.raises(PolygateError, match="columns"):
        published.read(path)
    path.write_text(text + "gates,f1\n", encoding="utf-8")
    with pytest.raises(PolygateError, match="not 13 cells"):
        published.read(path)


def write(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "published.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, published.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_models_are_found_by_hub_id_or_by_name() -> None:
    hubs = {"q": "Qwen/Qwen2.5-7B-Instruct", "g": "google/gemma-2-9b-it", "l": "meta-llama/Llama-3.1-8B-Instruct"}
    assert published.names_in_run(hubs) == dict(zip(published.MODELS, hubs, strict=True))
    assert published.names_in_run({"gemma-2-9b": "", "other": "some/other"}) == {"gemma-2-9b-it": "gemma-2-9b"}
