"""What is only tested on: test prompts alone, apart from what is fitted, and refused by whatever fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polygate.errors import PolygateError
from polygate.prompts import datasets, table, tested
from polygate.prompts.table import Prompt
from polygate.settings.types import Dataset, Languages, Settings


def requests(*numbers: int, subset: str = "harmless", split: str = "test") -> list[Prompt]:
    return [Prompt(f"{subset}-{split}-{n:04d}", f"{subset} {split} {n}.") for n in numbers]


def question(number: int, **more: Any) -> Prompt:
    options = ("yes", "no")
    return replace(Prompt(f"harmless-test-{number:04d}", f"{number}?", options=options, answer=number % 2), **more)


def test_a_limit_keeps_the_first_of_each_class_by_number() -> None:
    prompts = [*requests(12345, 7, 0), *requests(3, 1, 2, subset="harmful")]
    found = tested.build("mine", "sw", prompts, limit=2)
    assert found.ids == ("harmful-test-0001", "harmful-test-0002", "harmless-test-0000", "harmless-test-0007")
    assert (found.dataset, found.tested) == ("mine", True)


def test_a_class_may_be_absent() -> None:
    assert tested.build("mine", "sw", requests(0, 1)).cells() == {("test", "harmless"): 2}


def test_other_splits_than_test_are_refused() -> None:
    with pytest.raises(PolygateError, match=r"harmless-train-0000 .* is of split train: data set mine is only tested"):
        tested.build("mine", "sw", requests(0, split="train"))


def test_requests_are_normalised_and_questions_are_asked_as_they_are() -> None:
    assert tested.build("mine", "sw", requests(0), how="terminal_punctuation").texts == ("harmless test 0",)
    found = tested.build("mine", "sw", [question(0)], how="terminal_punctuation")
    assert (found.texts, found.normalise) == (("0?",), "none")


def test_prompts_that_are_fitted_on_are_not_tested_on() -> None:
    fitted = table.build("sw", requests(*range(4), split="train"))
    mine = tested.build(
        "mine", "sw", [replace(p, text=f" HARMLESS train  {n}. ") for n, p in enumerate(requests(0, 1))]
    )
    with pytest.raises(PolygateError, match="2 of 2 prompts of data set mine are train or validation prompts"):
        tested.check_apart(mine, fitted)
    many = [*requests(*range(1, 60)), replace(requests(0)[0], text="harmless train 3.")]
    assert tested.check_apart(tested.build("mine", "sw", many), fitted) == ["harmless-test-0000"]


# --- tables of tasks --------------------------------------------------------------------------------------------------

option = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)
@given(st.lists(st.lists(option, min_size=2, max_size=6, unique=True), min_size=1, max_size=5), st.data())
def test_options_and_answers_survive_a_table(
    tmp_path_factory: pytest.TempPathFactory, given_: list[list[str]], data: st.DataObject
) -> None:
    prompts = [
        question(n, options=tuple(options), answer=data.draw(st.integers(0, len(options) - 1)))
        for n, options in enumerate(given_)
    ]
    path = tmp_path_factory.mktemp("task") / "sw.parquet"
    wrote = tested.build("mine", "sw", prompts)
    table.write(path, wrote, {})
    found = table.read(path, dataset="mine", language="sw")
    assert found.options == tuple(map(tuple, given_))
    assert found.answers == wrote.answers
    assert found.tested


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ([question(0), *requests(1)], r"harmless-test-0001 .* has options \[\]"),
        ([question(0, options=("one",), answer=0)], "has options"),
        ([question(0, options=("one", "one"), answer=0)], "has options"),
        ([question(0, answer=2)], "has answer 2, which is none of its 2 options"),
        ([question(0, answer=None)], "has answer None"),
    ],
)
def test_a_task_has_options_and_an_answer_in_every_row(prompts: list[Prompt], told: str) -> None:
    with pytest.raises(PolygateError, match=told):
        table.build("sw", prompts)


# --- what fits --------------------------------------------------------------------------------------------------------


def test_a_table_says_its_data_set_and_what_fits_refuses_one_that_is_tested(tmp_path: Path) -> None:
    path = tmp_path / "sw.parquet"
    table.write(path, tested.build("mine", "sw", requests(0)), {})
    with pytest.raises(PolygateError, match="holds dataset mine, expected polyrefuse"):
        table.read(path, dataset="polyrefuse")
    with pytest.raises(PolygateError, match="holds data set mine, which is only ever tested on"):
        table.read_to_fit(path)
    fitted = replace(table.build("sw", requests(0, split="train")), dataset="polyrefuse")
    table.write(path, fitted, {})
    assert table.read_to_fit(path, language="sw") == fitted


# --- which is in which language ---------------------------------------------------------------------------------------


def run_in(languages: Languages, **named: Dataset) -> Settings:
    return Settings(languages=languages, pivot=languages.high[0], datasets=named, gate={"rank": 1, "ranks": [1]})  # type: ignore[arg-type]


def test_a_data_set_is_in_those_languages_of_the_run_that_it_has() -> None:
    run = run_in(
        Languages(high=["en", "de"], mid=["th"], low=["sw", "jv"]),
        jail=Dataset(source="multijail"),
        safe=Dataset(source="xstest"),
    )
    assert datasets.languages(run) == {"jail": ["en", "th", "sw", "jv"], "safe": ["en"]}
    assert datasets.lacking(run) == [
        "data set jail is not in de: nothing is computed there",
        "data set safe is in en alone: nothing is computed in other languages",
    ]
    assert datasets.tasks(run) == []


def test_a_data_set_in_no_language_of_the_run_is_refused() -> None:
    run = run_in(Languages(high=["en", "de"], mid=[], low=["sw"]), indo=Dataset(source="indosafety"))
    with pytest.raises(
        PolygateError, match=r"datasets\.indo is in no language of this run: it is in id, id-colloquial"
    ):
        datasets.languages(run)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    run = run_in(Languages(high=["en", "de"], mid=[], low=["sw"]), own=Dataset(source="folder", folder=tmp_path))
    with pytest.raises(PolygateError, match="there is no file of any language in it"):
        datasets.languages(run)


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"source": "organism"}, "part belongs to source organism"),
        ({"source": "xstest", "part": "ood"}, "part belongs to source organism"),
        ({"source": "folder"}, "source folder needs a folder"),
        ({"source": "organism", "part": "ood", "folder": "x"}, "are made, not read"),
        ({"source": "wikipedia"}, "source"),
    ],
)
def test_a_data_set_that_contradicts_itself_is_refused(given_: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Dataset(**given_)


def test_no_data_set_has_the_name_of_the_fitted_one() -> None:
    with pytest.raises(ValueError, match="'polyrefuse' is the name of the data set under prompts"):
        Settings(datasets={"PolyRefuse": Dataset(source="xstest")})
