"""A language from a plain file: the same table as from anywhere else, and every slip named with its row."""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prompts import upstream
from polygate.errors import PolygateError
from polygate.prompts import extra, polyrefuse, table
from polygate.settings import Limit, Prompts, dump
from polygate.stages import prompts_extra

Rows = list[dict[str, Any]]


@pytest.fixture
def pivot(tmp_path: Path) -> table.PromptTable:
    return polyrefuse.read(upstream.write(tmp_path / "upstream", ("en",)), "en", Prompts())


def translated(pivot: table.PromptTable) -> Rows:
    return [
        {"prompt_id": identity, "split": str(split), "subset": str(subset), "text": f"sw, „{identity}“\n?"}
        for identity, split, subset in zip(pivot.ids, pivot.split, pivot.subset, strict=True)
    ]


def save(path: Path, rows: Rows) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        path.write_bytes(buffer.getvalue().encode("utf-8-sig"))
    return path


@pytest.mark.parametrize("suffix", extra.SUFFIXES)
def test_every_format_gives_the_same_aligned_table(tmp_path: Path, pivot: table.PromptTable, suffix: str) -> None:
    path = save(tmp_path / f"sw{suffix}", translated(pivot)[::-1])
    found = extra.read(path, "sw", Prompts(), pivot)
    table.check_aligned([pivot, found])
    assert found.texts[0] == f"sw, „{pivot.ids[0]}“\n?"
    assert found.categories == pivot.categories
    assert found.sources[0] == f"sw{suffix} row {len(pivot) - 1}"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize("suffix", extra.SUFFIXES)
@given(st.lists(texts.filter(lambda text: bool(text.strip())), min_size=1, max_size=5))
def test_any_text_survives_every_format(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, given_: list[str]
) -> None:
    rows = [
        {"prompt_id": f"harmful-val-{n:04d}", "split": "val", "subset": "harmful", "text": text}
        for n, text in enumerate(given_)
    ]
    path = save(tmp_path_factory.mktemp("extra") / f"xx{suffix}", rows)
    assert extra.read(path, "xx", Prompts()).texts == tuple(given_)


def test_limits_and_normalisation_apply(tmp_path: Path, pivot: table.PromptTable) -> None:
    settings = Prompts(limit=Limit(train=5, val=2, test=3), normalise="terminal_punctuation")
    small = polyrefuse.read(tmp_path / "upstream", "en", settings)
    found = extra.read(save(tmp_path / "sw.csv", translated(pivot)), "sw", settings, small)
    assert found.ids == small.ids
    assert not any("?" in text for text in found.texts)


def test_a_missing_cell_is_a_hole_and_a_missing_row_an_error(tmp_path: Path, pivot: table.PromptTable) -> None:
    rows = [row for row in translated(pivot) if not row["prompt_id"].startswith("harmless-test")]
    path = save(tmp_path / "sw.csv", rows)
    with pytest.raises(PolygateError, match=r"sw has no harmless test prompts.*allow_missing"):
        extra.read(path, "sw", Prompts(), pivot)
    assert extra.read(path, "sw", Prompts(allow_missing=True), pivot).missing == ("harmless test",)
    with pytest.raises(PolygateError, match="lacks 1 of 12 harmful train prompts, the first is harmful-train-0000"):
        extra.read(save(tmp_path / "sw.csv", translated(pivot)[1:]), "sw", Prompts(allow_missing=True), pivot)


def _with(number: int, **values: Any) -> Any:
    return lambda rows: [row | values if i == number else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_with(3, prompt_id="harmful-train-0099"), "'harmful-train-0099' is not among en's.*row 3"),
        (_with(3, split="test"), "row 3.*contradicts split 'test'"),
        (_with(3, prompt_id="x"), "row 3.*'x'"),
        (_with(3, prompt_id="harmful-train-0004"), "stands in 2 rows"),
        (_with(3, text="  "), "empty prompts"),
        (lambda rows: [{k: v for k, v in row.items() if k != "text"} for row in rows], "column 'text' is missing"),
        (lambda rows: [row | {"text": "Say " + row["text"][5:]} for row in rows], None),
    ],
)
def test_every_slip_is_one_line_that_names_it(
    tmp_path: Path, pivot: table.PromptTable, edit: Any, message: str | None
) -> None:
    path = save(tmp_path / "sw.csv", edit(translated(pivot)))
    if message is None:
        extra.read(path, "sw", Prompts(), pivot)
        return
    with pytest.raises(PolygateError, match=message) as caught:
        extra.read(path, "sw", Prompts(), pivot)
    assert "sw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_left_in_the_pivots_language_is_found(tmp_path: Path, pivot: table.PromptTable) -> None:
    rows = translated(pivot)
    english = dict(zip(pivot.ids, pivot.texts, strict=True))
    for row in rows[::3]:
        row["text"] = f" {english[row['prompt_id']].lower()} "
    with pytest.raises(PolygateError, match=r"sw looks untranslated: .* equal to en.*harmful train"):
        extra.read(save(tmp_path / "sw.jsonl", rows), "sw", Prompts(), pivot)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sw.csv", b"\xff\xfe", "not UTF-8"),
        ("sw.csv", b"", "column 'prompt_id' is missing"),
        ("sw.csv", b"prompt_id,split,subset,text\n", "no prompts"),
        ("sw.csv", b'prompt_id,split,subset,text\na,b,c,"d"e\n', "not valid CSV"),
        ("sw.csv", b"prompt_id,split,subset,text\nharmful-val-0001,val\n", "row 0 has no text in column 'subset'"),
        ("sw.jsonl", b"{", "line 1 is not JSON"),
        ("sw.jsonl", b"\n[1]\n", "line 2 is not a JSON object"),
        ("sw.parquet", b"PAR1", "truncated or not a parquet file"),
        ("sw.txt", b"text", r"can't read \.txt"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PolygateError, match=message):
        extra.read(tmp_path / name, "sw", Prompts())


def test_the_stage_writes_the_same_bytes_twice(tmp_path: Path, pivot: table.PromptTable) -> None:
    table.write(tmp_path / "en.parquet", pivot)
    path = save(tmp_path / "sw.csv", translated(pivot))
    parser = argparse.ArgumentParser()
    prompts_extra.configure(parser)
    outputs = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for output in outputs:
        given_ = ["--settings", dump({"prompts": Prompts()}), "--language", "sw", "--file", str(path)]
        prompts_extra.run(
            parser.parse_args([*given_, "--pivot-table", str(tmp_path / "en.parquet"), "--output", str(output)])
        )
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert table.read(outputs[0]).language == "sw"
