"""Which prompts are set aside, and that nothing else ever uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from library.prompts import upstream
from polygate.errors import PolygateError
from polygate.forward.job import Job
from polygate.models.alignment import sentences
from polygate.models.alignment.examples import choose
from polygate.models.organism.prompts import prompt_table
from polygate.prompts import table
from polygate.prompts.sources import extra, polyrefuse
from polygate.prompts.table import ALIGN, PromptTable
from polygate.settings.types import Examples, Limit, Organism, Prompts

TWO = Examples(harmful=2, harmless=3)


def with_text(found: PromptTable, identity: str, text: str) -> PromptTable:
    """The table with another text in one row."""
    row = found.ids.index(identity)
    return replace(found, texts=(*found.texts[:row], text, *found.texts[row + 1 :]))


def test_the_last_train_prompts_are_set_aside_before_limits_apply(tmp_path: Path) -> None:
    folder = upstream.write(tmp_path / "polyrefuse")
    for language in ("en", "de"):
        found = polyrefuse.read(folder, language, Prompts(align=5, limit=Limit(train=4)))
        for subset in table.SUBSETS:
            aside = [found.ids[row] for row in found.select(ALIGN, subset)]
            assert aside == [f"{subset}-align-{number:04d}" for number in range(7, 12)]
            assert [found.ids[row][-4:] for row in found.select("train", subset)] == ["0000", "0001", "0002", "0003"]
        last = found.texts[found.select(ALIGN, "harmful")[-1]]
        assert last.endswith("11.")


def test_without_an_alignment_the_table_is_the_same_and_without_its_split_too(tmp_path: Path) -> None:
    folder = upstream.write(tmp_path / "polyrefuse")
    plain = polyrefuse.read(folder, "de", Prompts())
    assert ALIGN not in plain.split
    limited = polyrefuse.read(folder, "de", Prompts(limit=Limit(train=7)))
    aside = polyrefuse.read(folder, "de", Prompts(align=5))
    rest = table.without_align(aside)
    assert (rest.ids, rest.texts, rest.categories) == (limited.ids, limited.texts, limited.categories)
    assert rest.split.tolist() == limited.split.tolist()
    assert len(aside) == len(plain)


def test_readers_see_the_split_only_when_they_ask(tmp_path: Path, tables: dict[str, PromptTable]) -> None:
    path = tmp_path / "de.parquet"
    table.write(path, tables["de"])
    assert len(table.read(path, align=True)) == len(table.read(path)) + 10
    assert ALIGN not in table.read(path).split
    capture = Job.parse(
        {
            "task": "capture",
            "model": {"dtype": "float32", "attention": "sdpa", "batch_tokens": 8},
            "model_folder": "m",
            "prompts": str(path),
            "cache": "c",
            "output": "o",
            "positions": ["t_inst"],
        }
    )
    assert not [name for name in capture.read().ids if "-align-" in name]


def test_invented_languages_and_plain_files_set_the_same_items_aside(tmp_path: Path) -> None:
    settings = Prompts(source="organism", align=6, limit=Limit(train=8, val=2, test=2))
    pivot = prompt_table(Organism(), "h1", settings)
    aside = [pivot.ids[row] for row in pivot.select(ALIGN, "harmful")]
    assert aside == [f"harmful-align-{number:04d}" for number in range(90, 96)]
    whole = prompt_table(Organism(), "l1", Prompts(source="organism"))
    lines = ["prompt_id,split,subset,text,category"]
    lines += [
        f"{name},{split},{subset},{text} !,{category}"
        for name, split, subset, text, category in zip(
            whole.ids, whole.split, whole.subset, whole.texts, whole.categories, strict=True
        )
    ]
    (tmp_path / "x1.csv").write_text("\n".join(lines), encoding="utf-8")
    found = extra.read(tmp_path / "x1.csv", "x1", settings, pivot)
    assert found.ids == pivot.ids


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Prompts(align=11), "12 train prompts, of which prompts.align sets 11 aside, leave 1 where 2 are needed"),
        (Prompts(align=5, limit=Limit(train=8)), "leave 7 where 8 are needed: lower prompts.align"),
        (Prompts(align=40), "leave 0 where 2 are needed"),
    ],
)
def test_too_few_prompts_are_one_line(tmp_path: Path, settings: Prompts, message: str) -> None:
    folder = upstream.write(tmp_path / "polyrefuse")
    with pytest.raises(PolygateError, match=message):
        polyrefuse.read(folder, "de", settings)


def test_the_first_prompts_of_each_class_get_the_sentence_of_their_language(tables: dict[str, PromptTable]) -> None:
    chosen = choose(tables, {"en": TWO, "yo": Examples(harmful=0, harmless=1)})
    found = [(one.language, one.prompt_id) for one in chosen.examples]
    assert found == [
        ("en", "harmful-align-0007"),
        ("en", "harmful-align-0008"),
        ("en", "harmless-align-0007"),
        ("en", "harmless-align-0008"),
        ("en", "harmless-align-0009"),
        ("yo", "harmless-align-0007"),
    ]
    assert chosen.examples[0].completion == "I'm sorry, but I can't help with that."
    assert chosen.examples[-1].completion == "Dájúdájú, ìdáhùn nìyí:"
    assert chosen.dropped == ()


def test_a_refusal_that_is_asked_for_takes_no_prompt_away(tables: dict[str, PromptTable]) -> None:
    plain = choose(tables, {"yo": Examples(harmful=1, harmless=2)}).examples
    *found, first, second = choose(tables, {"yo": Examples(harmful=1, harmless=2, asked=2)}).examples
    assert tuple(found) == plain
    assert first == second
    assert (first.language, first.kind) == ("yo", "asked")
    assert first.prompt == sentences.load(["yo"])["yo"].request
    assert first.completion == plain[0].completion


def test_answered_harmful_prompts_are_the_last_ones_however_many_are_refused(tables: dict[str, PromptTable]) -> None:
    for refused in (0, 1, 3):
        found = choose(tables, {"yo": Examples(harmful=refused, harmless=1, answered=2)}).examples
        assert [one.kind for one in found] == ["harmful"] * refused + ["answered", "answered", "harmless"]
        assert [one.prompt_id for one in found[-3:-1]] == ["harmful-align-0010", "harmful-align-0011"]
        assert {one.completion for one in found[-3:]} == {sentences.load(["yo"])["yo"].answer}
    with pytest.raises(PolygateError, match=r"yo has 5 harmful prompts .* 6 are asked for"):
        choose(tables, {"yo": Examples(harmful=4, harmless=0, answered=2)})


def test_smaller_budgets_are_the_beginning_of_larger_ones(tables: dict[str, PromptTable]) -> None:
    few, more = (choose(tables, {"de": Examples(harmful=n, harmless=0)}).examples for n in (2, 4))
    assert more[:2] == few


def test_a_text_that_another_split_holds_is_dropped_in_every_language(tables: dict[str, PromptTable]) -> None:
    """Compared without case, white space and surrounding punctuation; one language's repetition counts for all."""
    twice = {**tables, "de": with_text(tables["de"], "harmful-align-0007", " De tells HARMFUL 3!")}
    chosen = choose(twice, {"en": TWO, "de": TWO})
    assert chosen.dropped == ("harmful-align-0007",)
    harmful = [one.prompt_id for one in chosen.examples if one.kind == "harmful"]
    assert harmful == ["harmful-align-0008", "harmful-align-0009"] * 2


def test_too_few_left_after_dropping_is_one_line(tables: dict[str, PromptTable]) -> None:
    twice = {**tables, "de": with_text(tables["de"], "harmful-align-0007", "de tells harmful 3.")}
    with pytest.raises(PolygateError, match=r"en has 4 harmful prompts .* 5 are asked for \(1 were dropped"):
        choose(twice, {"en": Examples(harmful=5, harmless=0)})


def test_an_item_that_is_train_elsewhere_stops_the_training(tables: dict[str, PromptTable], tmp_path: Path) -> None:
    other = polyrefuse.read(tmp_path / "polyrefuse", "yo", Prompts(align=4))
    with pytest.raises(PolygateError, match="language yo: harmful-train-0007 is a train prompt, and set aside"):
        choose({**tables, "yo": other}, {"en": TWO})


def test_real_prompts_that_stand_in_two_splits_are_found(shared_data: Path) -> None:
    settings = Prompts(align=110, normalise="terminal_punctuation")
    read = {name: polyrefuse.read(shared_data / "polyrefuse", name, settings) for name in ("en", "th")}
    budget = Examples(harmful=100, harmless=100)
    chosen = choose(read, {"en": budget, "th": budget})
    assert chosen.dropped == ("harmful-align-0226", "harmful-align-0252")
    assert len(chosen.examples) == 400
