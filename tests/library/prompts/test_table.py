"""A prompt table holds the same items in the same order in every language, or says where it doesn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import MULTIPLE_CHOICE, SPLITS, SUBSETS, Prompt, prompt_id

ITEMS = [(split, subset, number) for split in SPLITS for subset in SUBSETS for number in range(3)]


def prompts(language: str = "en") -> list[Prompt]:
    """Three prompts for every split and subset."""
    return [
        Prompt(prompt_id(subset, split, number), f"{language} {subset} {split} {number}", category=f"kind {number}")
        for split, subset, number in ITEMS
    ]


choices = [
    Prompt(prompt_id("harmless", "train", n, multiple_choice=True), f"Which? {n}", MULTIPLE_CHOICE) for n in (0, 1)
]


@given(st.permutations(prompts() + choices))
def test_rows_come_in_one_order_whatever_order_they_were_found_in(shuffled: list[Prompt]) -> None:
    built = table.build("en", shuffled)
    assert built.ids == table.build("en", prompts() + choices).ids
    ranks = [(SPLITS.index(a), SUBSETS.index(b)) for a, b in zip(built.split, built.subset, strict=True)]  # type: ignore[arg-type]
    assert ranks == sorted(ranks)
    assert [i for i in built.ids if "train" in i and "harmless" in i][-2:] == [c.prompt_id for c in choices]


@settings(deadline=None)  # The first call imports libraries.
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text("ab é ,\"'\n")), min_size=1
    )
)
def test_a_written_table_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    rows = [
        Prompt(prompt_id("harmful", "test", number), "x" + text, category, f"row {number}", category[::-1])
        for number, (text, category) in enumerate(texts)
    ]
    built = table.build("xx", rows, normalise="terminal_punctuation", missing=["harmless test"])
    path = tmp_path_factory.mktemp("table") / "xx.parquet"
    table.write(path, built, {"settings": 1})
    again = table.read(path)
    for name in ("language", "ids", "texts", "categories", "sources", "references", "normalise", "missing"):
        assert getattr(again, name) == getattr(built, name)
    assert np.array_equal(again.split, built.split)
    assert files.read_provenance(path) == {"settings": 1}


def test_the_same_prompts_are_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name, rows in (("a", prompts()), ("b", prompts()[::-1])):
        table.write(tmp_path / name, table.build("en", rows), {"settings": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_multiple_choice_prompts_are_selected_only_on_request() -> None:
    built = table.build("en", prompts() + choices)
    assert len(built.select("train", "harmless")) == 3
    assert len(built.select("train", "harmless", multiple_choice=True)) == 5
    assert len(built.select()) == len(ITEMS)
    assert built.cells()["train", "harmless"] == 3
    assert not built.harmful[built.multiple_choice].any()
    assert built.rows_of(built.ids[::-1]).tolist() == list(range(len(built)))[::-1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Prompt("harmful-train-1", "x"), "malformed"),
        (Prompt("harmful-dev-0001", "x"), "malformed"),
        (Prompt("harmful-train-0000", "x"), "2 rows"),
        (Prompt("harmful-train-0009", " \n"), "empty"),
        (Prompt("harmless-train-0009", "x", MULTIPLE_CHOICE), "belong together"),
        (Prompt("harmful-train-mcq-0009", "x", MULTIPLE_CHOICE), "belong together"),
        (Prompt("harmless-train-mcq-0009", "x"), "belong together"),
    ],
)
def test_a_wrong_row_is_named(row: Prompt, message: str) -> None:
    with pytest.raises(PolygateError, match=message) as caught:
        table.build("yo", [*prompts(), row])
    assert "language yo" in str(caught.value)
    assert row.prompt_id in str(caught.value)


def test_translations_are_aligned_even_where_one_side_has_multiple_choice_prompts() -> None:
    table.check_aligned([table.build("en", prompts() + choices), table.build("yo", prompts("yo"))])


def test_a_hole_is_aligned_only_where_it_is_declared() -> None:
    pivot = table.build("en", prompts())
    rows = [row for row in prompts("zh") if not row.prompt_id.startswith("harmless-test")]
    table.check_aligned([pivot, table.build("zh", rows, missing=["harmless test"])])
    with pytest.raises(PolygateError, match="zh has no harmless test rows"):
        table.check_aligned([pivot, table.build("zh", rows)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "harmful train has 2 rows, not 3"),
        (lambda rows: [replace(rows[0], prompt_id="harmful-train-0007"), *rows[1:]], "row 0: prompt id is"),
        (lambda rows: [*rows[:-1], replace(rows[-1], category="other")], "harmless test row 2.*category is 'other'"),
    ],
)
def test_what_is_not_aligned_is_named(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PolygateError, match=message) as caught:
        table.check_aligned([table.build("en", prompts()), table.build("yo", change(prompts("yo")))])
    assert "language yo is not aligned with en" in str(caught.value)


def test_tables_normalised_differently_are_not_aligned() -> None:
    with pytest.raises(PolygateError, match="normalise"):
        table.check_aligned(
            [table.build("en", prompts()), table.build("yo", prompts(), normalise="terminal_punctuation")]
        )


def test_foreign_and_reordered_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "en.parquet"
    table.write(path, table.build("en", prompts()))
    good = files.read_parquet(path)
    cases = {
        "not a prompt table": good.replace_schema_metadata({}),
        "not in the order": good.take(list(range(good.num_rows))[::-1]),
        "'reference' is missing": good.drop_columns(["reference"]),
        "contradict": good.set_column(2, "subset", pa.array(["harmful"] * good.num_rows)),
    }
    for message, wrong in cases.items():
        files.write_parquet(path, wrong)
        with pytest.raises(PolygateError, match=message):
            table.read(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PolygateError, match="truncated"):
        table.read(path)
