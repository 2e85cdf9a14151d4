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
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.normalise import visible
from polygate.prompts.sources import extra, polyrefuse
from polygate.settings.types import Gate, Languages, Limit, Prompts, Settings, dump
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
@given(st.lists(texts.filter(lambda text: bool(visible(text).strip())), min_size=1, max_size=5))
def test_any_text_survives_every_format(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, given_: list[str]
) -> None:
    rows = [
        {"prompt_id": f"harmful-val-{n:04d}", "split": "val", "subset": "harmful", "text": text}
        for n, text in enumerate(given_)
    ]
    path = save(tmp_path_factory.mktemp("extra") / f"xx{suffix}", rows)
    assert extra.read(path, "xx", Prompts()).texts == tuple(given_)


@pytest.mark.parametrize("suffix", extra.SUFFIXES)
def test_optional_columns_are_kept_in_every_format(tmp_path: Path, suffix: str) -> None:
    row = {"prompt_id": "harmful-test-0000", "split": "test", "subset": "harmful", "text": "Ndiyo?"}
    more = {"category": "theft", "reference": "Nairobi", "note": "ignored"}
    found = extra.read(save(tmp_path / f"sw{suffix}", [row | more]), "sw", Prompts())
    assert (found.categories, found.references) == (("theft",), ("Nairobi",))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(("cell", "text"), [(None, ""), (float("nan"), ""), (0, "0"), (3, "3")])
def test_a_cell_that_a_data_frame_left_empty_is_empty(tmp_path: Path, suffix: str, cell: Any, text: str) -> None:
    row = {"prompt_id": "harmful-test-0000", "split": "test", "subset": "harmful", "text": "Ndiyo?"}
    found = extra.read(save(tmp_path / f"sw{suffix}", [row | {"category": cell, "reference": cell}]), "sw", Prompts())
    assert (found.categories[0], found.references[0]) == (text, text)


def test_a_prompt_of_many_shots_is_read_from_csv(tmp_path: Path) -> None:
    text = "mfano mmoja zaidi, " * 10_000
    row = {"prompt_id": "harmful-test-0000", "split": "test", "subset": "harmful", "text": text}
    assert extra.read(save(tmp_path / "sw.csv", [row]), "sw", Prompts()).texts == (text,)


def test_the_pivots_own_file_sets_prompts_aside_and_other_languages_follow(tmp_path: Path) -> None:
    settings = Prompts(align=3, limit=Limit(train=4, test=2))
    cells = [(subset, split) for subset in ("harmful", "harmless") for split in ("train", "val", "test")]
    ids = [f"{subset}-{split}-{number:04d}" for subset, split in cells for number in range(9)]

    def rows(language: str) -> Rows:
        parts = [(identity, *identity.split("-")[:2]) for identity in ids]
        return [
            {"prompt_id": identity, "split": split, "subset": subset, "text": f"{language} {identity}"}
            for identity, subset, split in parts
        ]

    own = extra.read(save(tmp_path / "en.csv", rows("en")), "en", settings)
    other = extra.read(save(tmp_path / "sw.jsonl", rows("sw")), "sw", settings, own)
    assert other.ids == own.ids
    assert own.cells()["align", "harmful"] == 3
    assert own.cells()["train", "harmless"] == 4
    assert [identity for identity in own.ids if "-align-" in identity][:3] == [
        f"harmful-align-000{number}" for number in (6, 7, 8)
    ]


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
        (_with(3, text="\u200b \u2060"), "empty prompts"),
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


def both(pivot: table.PromptTable, edit: Any) -> Rows:
    """The translated rows, each with the text that `edit` makes of its id."""
    return [row | {"text": edit(row["prompt_id"])} for row in translated(pivot)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda name: f"sw {name.replace('-train-', '-test-')}", "10 of 10 harmful test prompts also stand in train"),
        (lambda name: f"sw {name.replace('-val-', '-test-')}", "4 of 10 harmful test prompts also stand in val"),
        (lambda name: f"sw {name.replace('harmful', 'harmless')}", "26 texts are both harmful and harmless"),
        (
            lambda name: ("cafe\u0301 " if name.startswith("harmful") else "caf\xe9\u200b ") + name.split("-", 1)[1],
            "26 texts are both harmful and harmless",
        ),
    ],
)
def test_texts_that_stand_where_they_must_not_are_refused(
    tmp_path: Path, pivot: table.PromptTable, edit: Any, message: str
) -> None:
    with pytest.raises(PolygateError, match=message):
        extra.read(save(tmp_path / "sw.csv", both(pivot, edit)), "sw", Prompts(), pivot)


def test_swapped_classes_are_seen_by_the_texts_that_are_the_pivots(tmp_path: Path, pivot: table.PromptTable) -> None:
    rows = translated(pivot)
    names = dict(zip(pivot.ids, pivot.texts, strict=True))
    rows[0]["text"] = names["harmless-train-0000"].upper()
    with pytest.raises(PolygateError, match=r"harmful prompts, and harmless ones in en .*classes seem to be swapped"):
        extra.read(save(tmp_path / "sw.csv", rows), "sw", Prompts(), pivot)


def test_within_a_split_and_class_a_text_may_stand_twice(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": f"harmful-test-{number:04d}", "split": "test", "subset": "harmful", "text": f"sw {number // 2}"}
        for number in range(6)
    ]
    assert len(extra.read(save(tmp_path / "sw.csv", rows), "sw", Prompts())) == 6


def test_a_few_prompts_in_two_splits_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt_id": f"harmful-{split}-{number:04d}", "split": split, "subset": "harmful", "text": f"{split} {number}"}
        for split in ("train", "test")
        for number in range(60)
    ]
    rows[-1]["text"] = "TRAIN  7"
    parser = argparse.ArgumentParser()
    prompts_extra.configure(parser)
    given_ = [
        "--settings",
        dump({"prompts": Prompts()}),
        "--language",
        "en",
        "--file",
        str(save(tmp_path / "en.csv", rows)),
    ]
    prompts_extra.run(parser.parse_args([*given_, "--pivot-table", "--output", str(tmp_path / "en.parquet")]))
    said = "1 of 60 harmful test prompts also stand in train (the first: harmful-test-0059 is harmful-train-0007)"
    assert said in capsys.readouterr().err
    assert said in files.read_provenance(tmp_path / "en.parquet")["shared"]


def run_of(folder: Path) -> Settings:
    """A run in four languages with one's own files in `folder`."""
    return Settings(
        pivot="en",
        languages=Languages(high=["en", "de"], mid=[], low=["sw", "zh.hant"]),
        prompts=Prompts(extra=folder),
        gate=Gate(rank=1, ranks=[1]),
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["SW.csv"], r"SW\.csv is not read: a file of prompts in sw is called sw\.csv, \.jsonl or \.parquet"),
        (["sw.json"], r"sw\.json is not read"),
        (["sw.csv.gz"], r"sw\.csv\.gz is not read"),
        (["sw.tsv"], r"sw\.tsv is not read"),
        (["sw.csv", "sw.jsonl"], r"sw\.csv and sw\.jsonl are both there for sw"),
        (["en.csv", "sw.csv"], r"en\.csv holds prompts of the pivot, but none of your files is in de, zh\.hant"),
    ],
)
def test_a_file_that_would_be_passed_over_is_named_before_any_job(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(PolygateError, match=message):
        extra.check_folder(run_of(tmp_path))


def test_files_of_other_languages_are_told_and_every_language_finds_its_own(tmp_path: Path) -> None:
    for name in ("sw.csv", "zh.hant.parquet", "am.csv", "README.md", ".hidden"):
        (tmp_path / name).touch()
    assert extra.check_folder(run_of(tmp_path)) == ["README.md", "am.csv"]
    found = {name: extra.find(tmp_path, name) for name in ("sw", "zh.hant", "zh", "en", "SW")}
    assert found == {
        "sw": tmp_path / "sw.csv",
        "zh.hant": tmp_path / "zh.hant.parquet",
        "zh": None,
        "en": None,
        "SW": None,
    }


HEADER = b"prompt_id,split,subset,text\n"
ROW = b"harmful-val-0001,val,harmful,"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sw.csv", HEADER + ROW + b"Moja\n" + ROW + b'"Mbili\ntatu"\n' + ROW + b"Moja, mbili\n", "line 5 has 5 fields"),
        ("sw.csv", HEADER + ROW.replace(b"harmful,", b"harmful") + b"\n", "line 2 has 3 fields, the header 4"),
        ("sw.csv", HEADER.replace(b",", b";") + b"a;b;c;d\n", "separated by semicolons.*save it with commas"),
        ("sw.csv", b"\xef\xbb\xbf" + HEADER.replace(b",", b"\t"), "separated by tabs"),
        ("sw.csv", HEADER.replace(b"text", b"text,text") + ROW + b"a,b\n", "column 'text' stands in it twice"),
        (
            "sw.csv",
            HEADER.replace(b"text", b"text,Category") + ROW + b"a,b\n",
            "column .Category. is not read, in .*: call it category",
        ),
        ("sw.jsonl", b'{"text": "a", "text": "b"}', "line 1 is not JSON .a key stands in it twice"),
        ("sw.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        (
            "sw.jsonl",
            b'{"prompt_id": "harmful-val-0001", "split": "val", "subset": "harmful", "text": "half \\ud83d"}',
            r"harmful-val-0001 .sw.jsonl row 0. holds half of a surrogate pair at character 5",
        ),
        (
            "sw.jsonl",
            b'{"prompt_id": "harmful-val-0001", "split": "val", "subset": "harmful", "text": NaN}',
            "row 0 has no text in column 'text'",
        ),
        ("sw.csv", b"\xff\xfe", "not UTF-8"),
        ("sw.csv", b"", "column 'prompt_id' is missing"),
        ("sw.csv", b"prompt_id,split,subset,text\n", "no prompts"),
        ("sw.csv", b'prompt_id,split,subset,text\na,b,c,"d"e\n', "not valid CSV"),
        ("sw.csv", b"prompt_id,split,subset,text\nharmful-val-0001,val\n", "line 2 has 2 fields, the header 4"),
        ("sw.jsonl", b"{", "line 1 is not JSON.*: write one JSON object per line"),
        ("sw.jsonl", b"\n[1]\n", "line 2 is not a JSON object.*: write one JSON object per line"),
        ("sw.parquet", b"PAR1", "truncated or not a parquet file.*: save it again, or as CSV"),
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
