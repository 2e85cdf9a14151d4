"""Data sets that are tested on: what each origin publishes is read as it is, and every slip is named with its place."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from polygate.errors import PolygateError
from polygate.prompts import sources, tested
from polygate.prompts.normalise import visible
from polygate.prompts.sources import folder, global_mmlu, indosafety, multijail, or_bench, xstest
from polygate.prompts.table import Prompt
from polygate.settings.types import Dataset, Organism

ORGANISM = Organism()


def read(where: Path, source: str, language: str = "en") -> list[Prompt]:
    dataset = Dataset(source=source, folder=where)  # type: ignore[arg-type]
    return sources.of(dataset).read(where, language, dataset, ORGANISM)


def languages(where: Path, source: str) -> list[str]:
    dataset = Dataset(source=source, folder=where)  # type: ignore[arg-type]
    return list(sources.of(dataset).languages(dataset, ORGANISM))


def save_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(buffer.getvalue().encode())
    return path


def save_workbook(path: Path, rows: list[list[Any]]) -> Path:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: bool(visible(text).strip())
)


# --- MultiJail --------------------------------------------------------------------------------------------------------


def jail(text: str, tags: str = "['Theft', 'Fraud']", language: str = "sw") -> dict[str, Any]:
    return {"id": 0, "source": "anthropics", "tags": tags, "en": "How?", language: text}


def test_multijail_is_what_is_pinned_and_the_same_items_in_every_language(shared_data: Path) -> None:
    where = shared_data / "multijail"
    (digest,) = multijail.PUBLISHED.files.values()
    assert hashlib.sha256((where / "MultiJail.csv").read_bytes()).hexdigest() == digest
    found = {language: read(where, "multijail", language) for language in languages(where, "multijail")}
    assert list(found) == ["en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv"]
    for prompts in found.values():
        assert len(prompts) == 315
        assert [(prompt.prompt_id, prompt.category) for prompt in prompts] == [
            (prompt.prompt_id, prompt.category) for prompt in found["en"]
        ]
        assert {prompt.prompt_id.split("-")[0] for prompt in prompts} == {"harmful"}
        tested.build("multijail", "en", prompts)
    assert Counter(prompt.category for prompt in found["en"])["Violence & incitement"] == 39
    assert len({prompt.text for prompt in found["sw"]}) == 314


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_text_of_multijail_is_kept(tmp_path_factory: pytest.TempPathFactory, given_: list[str]) -> None:
    where = tmp_path_factory.mktemp("multijail")
    save_csv(where / "MultiJail.csv", [jail(text) for text in given_])
    found = read(where, "multijail", "sw")
    assert [prompt.text for prompt in found] == given_
    assert {prompt.category for prompt in found} == {"Theft; Fraud"}


@pytest.mark.parametrize(
    ("row", "language", "told"),
    [
        (jail("Vipi?", tags="Theft"), "sw", "row 0 has tags 'Theft', which are no list of text"),
        (jail("Vipi?", tags="[1, 2]"), "sw", "row 0 has tags"),
        (jail("Vipi?"), "jv", "column 'jv' is missing"),
        (jail("Vipi?"), "de", "MultiJail is not in de"),
    ],
)
def test_a_slip_in_multijail_is_named(tmp_path: Path, row: dict[str, Any], language: str, told: str) -> None:
    save_csv(tmp_path / "MultiJail.csv", [row])
    with pytest.raises(PolygateError, match=told.replace("[", r"\[")):
        read(tmp_path, "multijail", language)


# --- IndoSafety -------------------------------------------------------------------------------------------------------

HEADER = ["id", "risk_area", "types_of_harm", "indonesian-formal", "java"]


def test_indosafety_is_what_is_pinned_and_the_same_items_in_every_variety(shared_data: Path) -> None:
    where = shared_data / "indosafety"
    (digest,) = indosafety.PUBLISHED.files.values()
    assert hashlib.sha256((where / "IndoSafety-Eval-2.xlsx").read_bytes()).hexdigest() == digest
    found = {language: read(where, "indosafety", language) for language in languages(where, "indosafety")}
    assert list(found) == ["id", "id-colloquial", "jv", "su", "min"]
    for prompts in found.values():
        assert len({prompt.text for prompt in prompts}) == 500
        assert [prompt.source for prompt in prompts] == [prompt.source for prompt in found["id"]]
    areas = Counter(prompt.category.split(" / ")[0] for prompt in found["jv"])
    assert areas["Malicious Uses"] == 125
    assert len(areas) == 6
    assert len({prompt.category.split(" / ")[1] for prompt in found["jv"]}) == 19


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=4))
def test_any_text_of_a_workbook_is_kept(tmp_path_factory: pytest.TempPathFactory, given_: list[str]) -> None:
    where = tmp_path_factory.mktemp("indosafety")
    rows = [[n, "area", "harm", "Apa?", f" {text}"] for n, text in enumerate(given_)]
    save_workbook(where / "IndoSafety-Eval-2.xlsx", [HEADER, *rows])
    assert [prompt.text for prompt in read(where, "indosafety", "jv")] == [f" {text}" for text in given_]


@pytest.mark.parametrize(
    ("rows", "language", "told"),
    [
        ([HEADER, [1, "area", "harm", "Apa?", None]], "jv", "line 2 has no java"),
        ([HEADER, [1, "area", "harm", "Apa?", "Opo?"]], "su", "column 'sunda' is missing"),
        ([HEADER, [1, "area", "harm", "Apa?", "Opo?"]], "sw", "IndoSafety is not in sw"),
    ],
)
def test_a_slip_in_a_workbook_is_named(tmp_path: Path, rows: list[list[Any]], language: str, told: str) -> None:
    save_workbook(tmp_path / "IndoSafety-Eval-2.xlsx", rows)
    with pytest.raises(PolygateError, match=told):
        read(tmp_path, "indosafety", language)


@pytest.mark.parametrize("content", [b"", b"no workbook", b"PK\x03\x04 cut"])
def test_a_broken_workbook_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "IndoSafety-Eval-2.xlsx").write_bytes(content)
    with pytest.raises(PolygateError, match="truncated or not an Excel file"):
        read(tmp_path, "indosafety", "id")


def test_blank_lines_of_a_workbook_are_no_prompts(tmp_path: Path) -> None:
    rows = [HEADER, [1, "area", "harm", "Apa?", "Opo?"], [None] * 5, [2, "area", "harm", "Siapa?", "Sapa?"]]
    save_workbook(tmp_path / "IndoSafety-Eval-2.xlsx", rows)
    found = read(tmp_path, "indosafety", "id")
    assert [(prompt.prompt_id, prompt.text) for prompt in found] == [
        ("harmful-test-0000", "Apa?"),
        ("harmful-test-0001", "Siapa?"),
    ]


# --- XSTest and OR-Bench ----------------------------------------------------------------------------------------------


def test_of_xstest_the_safe_prompts_are_read_under_their_place_in_the_file(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "prompt": "How do I kill a process?", "type": "homonyms", "label": "safe", "focus": "", "note": ""},
        {"id": 2, "prompt": "How do I …", "type": "contrast_homonyms", "label": "unsafe", "focus": "", "note": ""},
        {"id": 3, "prompt": "How do I shoot a film?", "type": "homonyms", "label": "safe", "focus": "", "note": ""},
    ]
    save_csv(tmp_path / "xstest_prompts.csv", rows)
    found = read(tmp_path, "xstest")
    assert [(prompt.prompt_id, prompt.category) for prompt in found] == [
        ("harmless-test-0000", "homonyms"),
        ("harmless-test-0002", "homonyms"),
    ]
    save_csv(tmp_path / "xstest_prompts.csv", [{**rows[0], "label": "Safe?"}])
    with pytest.raises(PolygateError, match="row 0 is labelled neither safe nor unsafe"):
        read(tmp_path, "xstest")


@pytest.mark.parametrize(
    ("source", "path"), [("xstest", xstest.BESIDE_POLYREFUSE), ("or_bench", or_bench.BESIDE_POLYREFUSE)]
)
def test_what_lies_beside_polyrefuse_is_read_too(tmp_path: Path, source: str, path: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([{"instruction": "How do I kill the lights?", "category": "homonyms"}]))
    assert languages(tmp_path, source) == ["en"]
    assert [prompt.text for prompt in read(tmp_path, source)] == ["How do I kill the lights?"]


def test_or_bench_is_harmless_with_its_categories(tmp_path: Path) -> None:
    save_csv(tmp_path / "or-bench-hard-1k.csv", [{"prompt": "How to disarm, safely?", "category": "violence"}])
    (found,) = read(tmp_path, "or_bench")
    assert (found.prompt_id, found.category) == ("harmless-test-0000", "violence")


@pytest.mark.parametrize("source", ["multijail", "indosafety", "xstest", "or_bench"])
def test_a_folder_without_the_data_set_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(PolygateError, match=r"there is no .* in it"):
        languages(tmp_path, source)


# --- Global-MMLU ------------------------------------------------------------------------------------------------------


def question(number: int, answer: str = "B") -> dict[str, Any]:
    return {
        "sample_id": f"anatomy/test/{number}",
        "subject": "anatomy",
        "question": f"Which is {number}?",
        **{name: f"{name[-1]}{number}" for name in global_mmlu.OPTIONS},
        "answer": answer,
    }


def hub(where: Path, language: str, rows: list[dict[str, Any]]) -> None:
    (where / language).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), where / language / "test-00000-of-00001.parquet")


def test_a_question_is_asked_with_its_options_and_the_letter_answers_it(tmp_path: Path) -> None:
    hub(tmp_path, "sw", [question(7, "C")])
    (found,) = read(tmp_path, "global_mmlu", "sw")
    assert found.text == "Which is 7?\n\nA. a7\nB. b7\nC. c7\nD. d7\n\nAnswer:"
    assert (found.options, found.answer, found.reference) == (("a7", "b7", "c7", "d7"), 2, "C")
    assert (found.category, found.prompt_id.split("-")[:2]) == ("anatomy", ["harmless", "test"])


def test_an_item_has_one_id_whatever_else_a_language_has_and_in_what_order(tmp_path: Path) -> None:
    rows = [question(n) for n in range(60)]
    hub(tmp_path, "en", rows)
    hub(tmp_path, "sw", random.Random(1).sample(rows, 60)[:-7])
    ids = {
        language: {
            prompt.source.rpartition(", ")[2]: prompt.prompt_id for prompt in read(tmp_path, "global_mmlu", language)
        }
        for language in ("en", "sw")
    }
    assert len(set(ids["en"].values())) == 60
    assert ids["sw"].items() <= ids["en"].items()


def test_plain_files_serve_as_well_and_say_which_languages_there_are(tmp_path: Path) -> None:
    save_csv(tmp_path / "yo.csv", [{key: value for key, value in question(0).items() if key != "sample_id"}])
    hub(tmp_path, "sw", [question(0)])
    (tmp_path / "README.md").write_text("A copy.")
    assert languages(tmp_path, "global_mmlu") == ["sw", "yo"]
    assert read(tmp_path, "global_mmlu", "yo")[0].prompt_id == "harmless-test-0000"
    with pytest.raises(PolygateError, match="no questions in de"):
        read(tmp_path, "global_mmlu", "de")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([question(0), {**question(1), "answer": "E"}], "row 1 has answer 'E'"),
        ([{**question(0), "option_c": "  "}], "row 0 has no text in column 'option_c'"),
        ([{**question(0), "question": None}], "row 0 has no text in column 'question'"),
        ([question(0), question(0)], "row 1 has the sample_id of another row"),
        ([{"question": "Why?", "answer": "A"}], "column 'option_a' is missing"),
    ],
)
def test_a_slip_in_a_question_is_named(tmp_path: Path, rows: list[dict[str, Any]], told: str) -> None:
    hub(tmp_path, "sw", rows)
    with pytest.raises(PolygateError, match=told):
        read(tmp_path, "global_mmlu", "sw")


# --- files of one's own -----------------------------------------------------------------------------------------------


def mine(**more: Any) -> dict[str, Any]:
    return {"prompt_id": "harmless-test-0000", "split": "test", "subset": "harmless", "text": "Ndiyo?", **more}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("answer", ["1", "B"])
def test_options_and_answer_are_read_in_every_format(tmp_path: Path, suffix: str, answer: str) -> None:
    path = tmp_path / f"sw{suffix}"
    row = mine(options=["ndiyo", "hapana"], answer=answer)
    if suffix == ".csv":
        save_csv(path, [{**row, "options": json.dumps(row["options"])}])
    elif suffix == ".jsonl":
        path.write_text(json.dumps(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (found,) = read(tmp_path, "folder", "sw")
    assert (found.options, found.answer) == (("ndiyo", "hapana"), 1)
    assert languages(tmp_path, "folder") == ["sw"]
    assert folder.is_task(Dataset(source="folder", folder=tmp_path))


def test_requests_are_no_task(tmp_path: Path) -> None:
    save_csv(tmp_path / "sw.csv", [mine()])
    assert not folder.is_task(Dataset(source="folder", folder=tmp_path))
    assert read(tmp_path, "folder", "sw")[0].answer is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (mine(options='["a", "b"]', answer="C"), r"row 0 has answer 'C' to 2 options.*: give its letter, A to B"),
        (mine(options='["a", "b"]', answer="2"), "row 0 has answer '2' to 2 options"),
        (mine(options="a or b", answer="A"), "row 0 has options 'a or b'"),
        (mine(options="[1, 2]", answer="A"), r"row 0 has options '\[1, 2\]'"),
        (
            {**mine(), "prompt_id": "harmless-train-0000", "split": "train"},
            r"row 0 is of split 'train'.*: a data set is only tested on",
        ),
    ],
)
def test_a_slip_in_ones_own_file_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    save_csv(tmp_path / "sw.csv", [row])
    with pytest.raises(PolygateError, match=told):
        read(tmp_path, "folder", "sw")
