"""The page of samples holds every row, and no prompt can become markup or script."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from polygate.errors import PolygateError
from polygate.report import samples
from polygate.tables import writing as tables
from polygate.tables.rows import read_rows

FORMULAS = ["=1+1", "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''+1", "＝1", "- a list"]
HOSTILE = ["</script><script>alert(1)</script>", "<!-- & &amp; -->", 'quote " and \\ and \u2028', "ቋንቋ, العربية", ""]


def table(folder: Path, prompts: list[str], columns: tuple[str, ...] = samples.COLUMNS) -> Path:
    path = folder / "samples.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, "extra"])
        writer.writeheader()
        writer.writerows({**dict.fromkeys(columns, "x"), "prompt": prompt, "extra": "y"} for prompt in prompts)
    return path


def test_what_the_page_holds_is_what_the_table_holds(tmp_path: Path) -> None:
    assert held_prompts(table(tmp_path, HOSTILE), tmp_path) == HOSTILE


def held_prompts(path: Path, folder: Path) -> list[str]:
    """The prompts that the page made of a table holds."""
    samples.write(path, folder / "samples.html")
    page = (folder / "samples.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="samples">(.*?)</script>', page, flags=re.DOTALL)
    assert "<" not in data
    held = json.loads(data)
    at = held["columns"].index("prompt")
    return [row[at] for row in held["rows"]]


def test_a_prompt_of_many_shots_reaches_the_page(tmp_path: Path) -> None:
    prompt = "one more example, " * 10_000
    assert held_prompts(table(tmp_path, [prompt]), tmp_path) == [prompt]


def test_no_cell_is_a_formula_and_the_page_shows_the_text_as_it_is(tmp_path: Path) -> None:
    texts = [*FORMULAS, *HOSTILE, "a=1", "'quoted'", "1-2"]
    rows = [{**dict.fromkeys(samples.COLUMNS, "x"), "prompt": text, "budget": -1} for text in texts]
    tables.write(tmp_path / "samples.csv", samples.COLUMNS, rows)
    with (tmp_path / "samples.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert not [cell["prompt"] for cell in cells if cell["prompt"][:1] in tuple("=+-@\t\r")]
    assert {cell["budget"] for cell in cells} == {"-1"}
    assert [cell["prompt"] for cell in cells if cell["prompt"] in texts] == [*HOSTILE, "a=1", "'quoted'", "1-2"]
    assert held_prompts(tmp_path / "samples.csv", tmp_path) == texts
    assert [row["prompt"] for row in read_rows(tmp_path / "samples.csv")] == texts


def test_a_number_is_no_formula_whatever_its_sign(tmp_path: Path) -> None:
    """Tables that are made from others pass their numbers on as text."""
    texts = ["-0.159722", "+3", "-1e-05", "-.5", "'-5", "-5 or more", "-5+5"]
    rows = [{**dict.fromkeys(samples.COLUMNS, "x"), "prompt": text} for text in texts]
    tables.write(tmp_path / "samples.csv", samples.COLUMNS, rows)
    with (tmp_path / "samples.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["prompt"] for row in csv.DictReader(file)]
    assert cells == [*texts[:4], "''-5", "'-5 or more", "'-5+5"]
    assert [row["prompt"] for row in read_rows(tmp_path / "samples.csv")] == texts


def test_the_page_has_no_more_elements_than_without_rows(tmp_path: Path) -> None:
    samples.write(table(tmp_path, []), tmp_path / "empty.html")
    samples.write(table(tmp_path, HOSTILE), tmp_path / "full.html")
    empty, full = ((tmp_path / name).read_text(encoding="utf-8") for name in ("empty.html", "full.html"))
    assert full.count("<") == empty.count("<")


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    samples.write(table(tmp_path, []), tmp_path / "samples.html")
    page = (tmp_path / "samples.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?:|src=|url\(|@import", page)


def test_a_table_without_a_column_is_one_line(tmp_path: Path) -> None:
    columns = tuple(name for name in samples.COLUMNS if name != "routed")
    with pytest.raises(PolygateError, match=r"column 'routed' is missing, in .*samples\.csv"):
        samples.write(table(tmp_path, ["a"], columns), tmp_path / "samples.html")
