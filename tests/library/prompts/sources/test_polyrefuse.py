"""PolyRefuse's files become aligned tables, or one line that says which file and row is wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prompts import upstream
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import checks, table
from polygate.prompts.sources import polyrefuse
from polygate.settings.types import Limit, Prompts, dump
from polygate.stages import prompts_polyrefuse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return upstream.write(tmp_path / "polyrefuse")


def test_a_flat_folder_and_a_clone_of_the_repository_give_the_same_table(folder: Path, tmp_path: Path) -> None:
    clone = upstream.write(tmp_path / "clone", flat=False)
    for language in ("en", "de"):
        flat, cloned = (polyrefuse.read(where, language, Prompts()) for where in (folder, clone))
        assert flat.ids == cloned.ids
        assert flat.texts == cloned.texts


def test_test_files_keep_the_translation_elsewhere_than_train_files(folder: Path) -> None:
    german = polyrefuse.read(folder, "de", Prompts())
    assert all(text.startswith("de tells") for text in german.texts)
    english = polyrefuse.read(folder, "en", Prompts())
    assert all(text.startswith("Say") for text in english.texts)
    table.check_aligned([english, german])


def test_a_row_says_which_file_and_row_it_came_from(folder: Path) -> None:
    german = polyrefuse.read(folder, "de", Prompts())
    row = german.ids.index("harmful-test-0003")
    assert german.sources[row] == "harmful_test_translated_de.json row 3"
    assert german.categories[row] == "kind 3"


def test_limits_keep_the_first_rows_of_every_class(folder: Path) -> None:
    limited = polyrefuse.read(folder, "de", Prompts(limit=Limit(train=5, val=2, test=3)))
    assert set(limited.cells().values()) == {5, 2, 3}
    assert "harmless-test-0002" in limited.ids
    assert "harmless-test-0003" not in limited.ids


def test_normalising_changes_only_the_end_of_each_prompt(folder: Path) -> None:
    plain, changed = (polyrefuse.read(folder, "yo", Prompts(normalise=how)) for how in ("none", "terminal_punctuation"))
    assert [text.removesuffix(".") for text in plain.texts] == list(changed.texts)
    assert changed.normalise == "terminal_punctuation"


def test_a_hole_stops_unless_it_is_allowed_and_then_is_recorded(folder: Path) -> None:
    (folder / "harmless_test_translated_de.json").unlink()
    with pytest.raises(
        PolygateError, match=r"de has no harmless test prompts.*harmless_test_translated_de.json"
    ) as caught:
        polyrefuse.read(folder, "de", Prompts())
    assert "prompts.allow_missing" in str(caught.value)
    allowed = polyrefuse.read(folder, "de", Prompts(allow_missing=True))
    assert allowed.missing == ("harmless test",)
    table.check_aligned([polyrefuse.read(folder, "en", Prompts()), allowed])


def test_a_language_without_any_file_stops_even_when_holes_are_allowed(folder: Path) -> None:
    with pytest.raises(PolygateError, match=r"no prompts in language sw.*it holds de en yo.*prompts\.extra"):
        polyrefuse.read(folder, "sw", Prompts(allow_missing=True))


def _set(number: int, key: str, value: Any) -> Any:
    def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[number][key] = value
        return rows

    return edit


def _untranslated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**row, "instruction_translated": row["instruction"].upper()} if i < 5 else row for i, row in enumerate(rows)
    ]


def _one_text(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "instruction_translated": "ERROR"} if i > 5 else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows[:-1], "9 rows, not 10"),
        (lambda rows: rows[1:] + rows[:1], "category of row 0 is 'kind 1', not 'kind 0'"),
        (_set(4, "instruction", "Say something else."), "English original of row 4"),
        (_set(4, "instruction_translated", "  "), r"1 of 10 rows \(4\) without text"),
        (_set(4, "instruction_translated", None), "row 4 has no text in 'instruction_translated'"),
        (lambda rows: [{"category": "kind 0"}, *rows[1:]], "row 0 has no text in 'instruction'"),
        (lambda rows: [rows[0], "text", *rows[2:]], "row 1 has no text"),
        (
            lambda rows: [*rows[:7], *({"instruction": r["instruction_translated"]} for r in rows[7:])],
            "3 of 10 rows lack",
        ),
        (lambda rows: {"rows": rows}, "not a list of prompts"),
        (lambda _: [], "not a list of prompts"),
        (_untranslated, r"de looks untranslated: 5 of 10 rows \(0, 1, 2, 3, 4\) equal to en"),
        (_one_text, "4 of 10 rows .* with one and the same text 'error'"),
    ],
)
def test_a_damaged_file_is_named_with_the_row(folder: Path, edit: Any, message: str) -> None:
    path = folder / "harmful_test_translated_de.json"
    upstream.change(path, edit)
    with pytest.raises(PolygateError, match=message) as caught:
        polyrefuse.read(folder, "de", Prompts(allow_missing=True))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_swapped_rows_of_a_class_without_categories_are_found_by_the_english_that_was_kept(folder: Path) -> None:
    upstream.change(folder / "harmless_test_translated_yo.json", lambda rows: [rows[1], rows[0], *rows[2:]])
    with pytest.raises(PolygateError, match="language yo is not aligned with en: English original of row 0"):
        polyrefuse.read(folder, "yo", Prompts())


def test_a_pivot_other_than_english_is_compared_too(folder: Path) -> None:
    upstream.change(folder / "harmful_train_translated_de.json", lambda rows: rows[:-2])
    with pytest.raises(PolygateError, match="language yo is not aligned with de: 12 rows, not 10"):
        polyrefuse.read(folder, "yo", Prompts(), pivot="de")


@given(cut=st.integers(min_value=0, max_value=400))
def test_a_truncated_file_is_one_line_whatever_its_length(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "cell.json"
    content = json.dumps(upstream.rows("test", "harmful", "de")).encode()
    path.write_bytes(content[:cut])
    with pytest.raises(PolygateError) as caught:
        polyrefuse.read_cell(path)
    assert str(path) in str(caught.value)


def test_the_stage_writes_the_table_with_its_provenance_and_names_the_hole(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "harmless_test_translated_yo.json").unlink()
    parser = argparse.ArgumentParser()
    prompts_polyrefuse.configure(parser)
    output = tmp_path / "yo.parquet"
    settings = dump({"prompts": Prompts(allow_missing=True)})
    given_ = ["--settings", settings, "--language", "yo", "--folder", str(folder), "--output", str(output)]
    prompts_polyrefuse.run(parser.parse_args(given_))
    assert "yo goes on without harmless test prompts" in capsys.readouterr().err
    assert table.read(output).missing == ("harmless test",)
    facts = files.read_provenance(output)
    assert set(facts["sha256"]) == {path.name for path in folder.glob("*_yo.json")}
    first = output.read_bytes()
    prompts_polyrefuse.run(parser.parse_args(given_))
    assert output.read_bytes() == first


# --- the real files ---------------------------------------------------------------------------------------------------

REAL_COUNTS = {"harmful": {"train": 260, "val": 39, "test": 572}, "harmless": {"train": 200, "val": 200, "test": 500}}


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, table.PromptTable]:
    """All of upstream's languages, English first."""
    settings = Prompts(allow_missing=True)
    languages = sorted(polyrefuse.LANGUAGES, key=lambda language: language != polyrefuse.ORIGINAL)
    return {language: polyrefuse.read(shared_data / "polyrefuse", language, settings) for language in languages}


def test_the_real_files_are_aligned_and_have_the_published_counts(real: dict[str, table.PromptTable]) -> None:
    table.check_aligned(list(real.values()))
    for language, prompts in real.items():
        wanted = {(split, subset): n for subset, by in REAL_COUNTS.items() for split, n in by.items()}
        if language == "zh":
            del wanted["test", "harmless"]
        assert dict(prompts.cells()) == wanted


def test_the_real_prompts_that_stand_in_two_splits_are_few_and_none_is_in_both_classes(
    real: dict[str, table.PromptTable],
) -> None:
    found = {language: checks.shared(zip(one.ids, one.texts, strict=True)) for language, one in real.items()}
    counts = {
        language: {(one.subset, one.split, one.other): len(one.rows) for one in each}
        for language, each in found.items()
        if each
    }
    both = [("harmful", "test", "train"), ("harmful", "train", "test")]
    assert counts == {"en": dict.fromkeys(both, 1), "th": dict.fromkeys(both, 3)}
    for language, prompts in real.items():
        checks.check_shared(language, "", list(zip(prompts.ids, prompts.texts, strict=True)))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("harmful_test_translated_de.json", "8 of 10 harmful test prompts also stand in train"),
        ("harmless_test_translated_de.json", "8 texts are both harmful and harmless"),
    ],
)
def test_prompts_that_were_learnt_or_of_the_other_class_are_refused(folder: Path, file: str, message: str) -> None:
    train = upstream.rows("train", "harmful", "de")
    upstream.change(
        folder / file,
        lambda rows: [
            row | {"instruction_translated": train[number]["instruction"]} if number < 8 else row
            for number, row in enumerate(rows)
        ],
    )
    with pytest.raises(PolygateError, match=f"language de: {message}"):
        polyrefuse.read(folder, "de", Prompts())


def test_the_only_real_hole_is_the_chinese_harmless_test(shared_data: Path, real: dict[str, table.PromptTable]) -> None:
    assert {language for language, prompts in real.items() if prompts.missing} == {"zh"}
    with pytest.raises(PolygateError, match=r"zh has no harmless test prompts: harmless_test_translated_zh\.json"):
        polyrefuse.read(shared_data / "polyrefuse", "zh", Prompts())


def _ending_share(prompts: table.PromptTable, split: table.Split, subset: table.Subset) -> int:
    """Percent of prompts that end in a stop, or in a quotation mark, as the published shares count."""
    rows = prompts.select(split, subset)
    ending = sum(prompts.texts[row].rstrip()[-1] in ".!?。！？\"'”’»」“" for row in rows)
    return round(100 * ending / len(rows))


@pytest.mark.parametrize(
    ("language", "test", "train"),
    [("en", (50, 83), (34, 80)), ("fr", (85, 83), (34, 80)), ("ar", (23, 70), (0, 64)), ("nl", (54, 83), (34, 80))],
)
def test_the_classes_end_differently_as_measured_before(
    real: dict[str, table.PromptTable], language: str, test: tuple[int, int], train: tuple[int, int]
) -> None:
    shares = {
        split: tuple(_ending_share(real[language], split, subset) for subset in table.SUBSETS)
        for split in ("test", "train")
    }
    wanted = {"test": test, "train": train}
    for split, pair in shares.items():
        # Which closing marks count as an ending is a matter of definition, worth a few harmless prompts.
        assert pair[0] == wanted[split][0]
        assert abs(pair[1] - wanted[split][1]) <= 4


def test_normalising_removes_what_the_last_character_gave_away(shared_data: Path) -> None:
    for language in ("en", "ar", "ja", "yo"):
        changed = polyrefuse.read(shared_data / "polyrefuse", language, Prompts(normalise="terminal_punctuation"))
        assert not any(text[-1] in ".!?。！？؟" for text in changed.texts)


def test_the_checksums_of_the_pinned_commit_are_those_of_the_local_copy(shared_data: Path) -> None:
    from polygate.prompts.sources.download import checksums

    found: dict[str, str] = {}
    for language in polyrefuse.LANGUAGES:
        found |= polyrefuse.checksums(shared_data / "polyrefuse", language)
    assert {polyrefuse.flat_name(path): digest for path, digest in checksums().items()} == found
