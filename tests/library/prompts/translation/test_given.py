"""Translations made elsewhere: every format reads alike, and every slip is named with its row."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polygate.errors import PolygateError
from polygate.preflight import load
from polygate.prompts import table
from polygate.prompts.table import Prompt
from polygate.prompts.translation import given as translations
from polygate.prompts.translation.memory import Translated

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
Rows = list[dict[str, Any]]


def prompts(count: int = 3) -> table.PromptTable:
    return table.build("en", [Prompt(table.prompt_id("harmful", "test", i), f"text {i}") for i in range(count)])


def save(path: Path, rows: Rows) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(buffer.getvalue().encode("utf-8"))
    return path


def rows_of(of: table.PromptTable) -> Rows:
    return [{"prompt_id": i, "text": f"sw {i}", "back_translation": f"back {i}"} for i in of.ids]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), order=st.randoms(use_true_random=False))
def test_any_texts_come_back_as_they_were_in_the_tables_order(
    tmp_path: Path, suffix: str, texts: list[tuple[str, str]], order: Any
) -> None:
    of = prompts(len(texts))
    rows = [{"prompt_id": i, "text": a, "back_translation": b} for i, (a, b) in zip(of.ids, texts, strict=True)]
    order.shuffle(rows)
    path = save(tmp_path / f"sw{suffix}", rows)
    assert translations.read(path, "there", of) == ([Translated(a, 0, True) for a, _ in texts], 0)
    assert translations.read(path, "back", of) == ([Translated(b, 0, True) for _, b in texts], 0)


def test_rows_of_other_prompts_are_counted_and_an_empty_back_translation_is_kept(tmp_path: Path) -> None:
    of = prompts()
    rows = rows_of(of)
    rows[1]["back_translation"] = None
    path = save(tmp_path / "sw.parquet", [*rows, {**rows[0], "prompt_id": "harmless-test-0000"}])
    found, others = translations.read(path, "back", of)
    assert others == 1
    assert [each.text for each in found] == ["back harmful-test-0000", "", "back harmful-test-0002"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], "1 of 3 prompts are not in it, the first is harmful-test-0002"),
        (lambda rows: [*rows, rows[0]], "row 3: prompt 'harmful-test-0000' stands in it twice"),
        (lambda rows: [{**rows[0], "text": " "}, *rows[1:]], "row 0 has no text in column 'text'"),
        (lambda rows: [{**row, "text": 3} for row in rows], "row 0 has no text in column 'text'"),
        (lambda rows: [{"id": row["prompt_id"], "text": "a"} for row in rows], "column 'prompt_id' is missing"),
        (lambda rows: [{**row, "prompt_id": 5} for row in rows], "row 0 has no text in column 'prompt_id'"),
    ],
)
def test_a_slip_is_named_with_its_row(tmp_path: Path, change: Any, told: str) -> None:
    path = save(tmp_path / "sw.parquet", change(rows_of(prompts())))
    with pytest.raises(PolygateError, match=told) as caught:
        translations.read(path, "there", prompts())
    assert "\n" not in str(caught.value)
    assert "sw.parquet" in str(caught.value)


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Settings of a run with a folder of translations into sw, and into de, which comes from elsewhere."""
    mine, model = tmp_path / "mine", tmp_path / "model"
    mine.mkdir()
    model.mkdir()
    save(mine / "sw.csv", rows_of(prompts()))
    save(mine / "de.csv", [{"prompt_id": row["prompt_id"], "back_translation": "x"} for row in rows_of(prompts())])
    save(mine / "yo.csv", [{"prompt_id": row["prompt_id"], "text": "x"} for row in rows_of(prompts())])
    return {
        "languages": {"high": ["en", "de"], "mid": [], "low": ["sw", "yo"]},
        "gate": {"rank": 1, "ranks": [1]},
        "translation": {"languages": {"sw": None}, "checked": {"de": None}, "files": str(mine)},
    }


def test_files_come_before_the_model_which_makes_what_they_lack(run: dict[str, Any], tmp_path: Path) -> None:
    found = translations.by_files(load(run))
    assert {key: path.name for key, path in found.items()} == {
        ("there", "sw"): "sw.csv",
        ("back", "sw"): "sw.csv",
        ("back", "de"): "de.csv",
    }
    run["translation"] |= {"languages": {"yo": "yor_Latn"}, "folder": str(tmp_path / "model")}
    assert list(translations.by_files(load(run))) == [("there", "yo"), ("back", "de")]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"files": None}, "there is no translation model: give hub and revision, or folder, or files"),
        ({"languages": {"yo": None}}, r"translation\.languages\.yo: nothing to translate back it with|no column back_"),
        ({"languages": {"sw": None, "en": "x"}}, "'en' is the pivot"),
        ({"languages": {"fr": "fra_Latn"}}, "'fr' is not among languages"),
        ({"checked": {"sw": None}}, "'sw' stands under languages and under checked"),
        ({"hub": "a/b"}, "a hub model needs a pinned revision"),
        ({"hub": "a/b", "revision": "0" * 40, "folder": "."}, "give one of hub, folder"),
        ({"folder": "nowhere"}, "no such folder"),
        ({"thresholds": {"bleu": 120}}, "must be at most 100"),
    ],
)
def test_what_can_not_be_translated_is_told_before_any_job(run: dict[str, Any], change: Any, told: str) -> None:
    run["translation"] |= change
    with pytest.raises(PolygateError, match=told) as caught:
        load(run)
    assert "\n" not in str(caught.value)


def test_a_language_has_its_prompts_from_one_place(run: dict[str, Any], tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "sw.csv").write_text("prompt_id,split,subset,text\n")
    with pytest.raises(PolygateError, match=r"sw has a file in .*\(prompts\.extra\) too: keep one"):
        load({**run, "prompts": {"extra": str(extra)}})


def test_another_language_or_threshold_changes_nothing_that_a_translation_reads(run: dict[str, Any]) -> None:
    one = load(run).translation
    run["translation"] |= {"languages": {"sw": None, "yo": "y"}, "hub": "a/b", "revision": "0" * 40}
    more = load(run).translation
    run["translation"] |= {"thresholds": {"bleu": 1}, "checked": {}, "parameters": 1e9}
    assert load(run).translation.only("sw") == more.only("sw") != one.only("sw")
