"""People's labels: what their file may say, and what is said of one that doesn't."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from polygate.errors import PolygateError
from polygate.judges import labels

HEAD = "prompt_id,language,arm,label\n"
KNOWN = (["alpha"], ["sw", "yo"], ["none", "addition"])


def read(path: Path, text: str, models: list[str] = KNOWN[0]) -> labels.Labels:
    path.write_text(text, encoding="utf-8")
    return labels.read(path, models, *KNOWN[1:])


def test_labels_are_words_or_digits_in_any_case_and_the_majority_counts(tmp_path: Path) -> None:
    words = ["Refused", "not  refused", "1.0", "0", "garbled", "complied"]
    lines = [f"p{i},sw,none,{word}" for i, word in enumerate(words)]
    votes = ["q,sw,none,yes", "q,sw,none,no", "q,sw,none,yes", "r,sw,none,yes", "r,sw,none,no"]
    found = read(tmp_path / "a.csv", f"\ufeff{HEAD}" + "\n".join([*lines, *votes]))
    assert [found["alpha", "sw", "none", f"p{i}"] for i in range(6)] == [True, False, True, False, False, False]
    assert found["alpha", "sw", "none", "q"]
    assert ("alpha", "sw", "none", "r") not in found


def test_a_field_without_end_is_no_csv(tmp_path: Path) -> None:
    before = csv.field_size_limit(1000)
    try:
        with pytest.raises(PolygateError, match=r"line \d+: no CSV .*field larger.*in .*a\.csv: correct the file"):
            read(tmp_path / "a.csv", HEAD + 'p,sw,none,"' + "1\n" * 2000)
    finally:
        csv.field_size_limit(before)


def test_completions_that_people_are_divided_about_are_told_of(tmp_path: Path) -> None:
    path, said = tmp_path / "a.csv", list[str]()
    path.write_text(f"{HEAD}p,sw,none,1\np,sw,none,0\nq,sw,none,1\nr,yo,none,yes\nr,yo,none,no\n")
    assert list(labels.read(path, *KNOWN, log=said.append)) == [("alpha", "sw", "none", "q")]
    assert said == [
        f"{path}: people are divided about 2 completions, which are left out; the first: alpha, sw, none, p"
    ]


def test_several_models_are_told_apart_by_a_column(tmp_path: Path) -> None:
    text = "note,model,prompt_id,language,arm,label\nx,beta,p,yo,addition,1\n,alpha,p,yo,addition,0\n"
    found = read(tmp_path / "a.csv", text, ["alpha", "beta"])
    assert found == {("beta", "yo", "addition", "p"): True, ("alpha", "yo", "addition", "p"): False}
    with pytest.raises(PolygateError, match=r"line 2: model '' is not among alpha, beta"):
        read(tmp_path / "a.csv", f"{HEAD}p,sw,none,1\n", ["alpha", "beta"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt_id,language,label\n", "column 'arm' is missing"),
        (f"{HEAD}p,am,none,1\n", "line 2: language 'am' is not among sw, yo"),
        (f"{HEAD}p,sw,routed-4,1\n", "line 2: arm 'routed-4' is not among none, addition"),
        (f"{HEAD}p,sw,none,1\nq,sw,none,maybe\n", "line 3: label 'maybe'.*write refused or not refused"),
        (f"{HEAD}p,sw,none,unparsed\n", "line 2: label 'unparsed'"),
        (f"{HEAD}p,sw,none\n", "line 2 has another number of fields"),
        (f"{HEAD}p,sw,none,1,2\n", "line 2 has another number of fields"),
        (f"{HEAD}p,sw,none,\n", "line 2: label ''"),
        ("prompt_id,language,arm,label,label\np,sw,none,1,0\n", "column 'label' stands in it twice"),
        ("prompt_id;language;arm;label\np;sw;none;1\n", "column 'prompt_id' is missing"),
        (f'{HEAD}p,sw,none,"{"x" * 2000}\n', f"line 2: label '{'x' * 40}', in"),
        ("", "column 'prompt_id' is missing"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolygateError, match=message):
        read(tmp_path / "a.csv", text)


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolygateError, match="not UTF-8"):
        labels.read(tmp_path / "a.csv", *KNOWN)
    with pytest.raises(PolygateError, match="file not found"):
        labels.read(tmp_path / "b.csv", *KNOWN)
