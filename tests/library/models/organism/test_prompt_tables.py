"""The organisms' prompts: the same items in every language, and no cue but their meaning."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from polygate import files
from polygate.cli import main
from polygate.models.organism.corpus import held_out_objects
from polygate.models.organism.grammar import World
from polygate.models.organism.pairs import split_pairs
from polygate.models.organism.prompts import ROWS, prompt_table
from polygate.prompts import table
from polygate.prompts.table import SPLITS, PromptTable
from polygate.settings.types import Gate, Limit, Organism, Prompts, dump


def test_ids_name_the_same_items_in_every_language(tables: dict[str, PromptTable]) -> None:
    table.check_aligned(list(tables.values()))
    first, *others = tables.values()
    for other in others:
        assert other.ids == first.ids
        assert other.sources == first.sources


def test_every_cell_has_its_rows_and_draws_of_the_largest_budget_can_differ(tables: dict[str, PromptTable]) -> None:
    for prompts in tables.values():
        cells = prompts.cells()
        assert cells == {(split, subset): ROWS[split] for split in SPLITS for subset in table.SUBSETS}
    assert ROWS["train"] > max(Gate().budgets)


def test_no_prompt_stands_twice(tables: dict[str, PromptTable]) -> None:
    texts = [text for prompts in tables.values() for text in prompts.texts]
    assert max(Counter(texts).values()) == 1


def test_words_of_a_prompt_say_its_pair_and_its_class(tables: dict[str, PromptTable]) -> None:
    world = World(Organism())
    splits = split_pairs(0)
    for name, prompts in tables.items():
        known = world.language(name)
        for row in prompts.select():
            words = prompts.texts[row].split()
            action = next(i for i, word in enumerate(known.actions) if word in words)
            obj = known.objects.index(prompts.references[row])
            assert known.objects[obj] in words
            harmful, split = prompts.subset[row] == "harmful", str(prompts.split[row])
            assert any(p.action == action and p.object == obj for p in splits[split][bool(harmful)])  # type: ignore[index]


def test_nothing_around_the_pair_tells_the_classes_apart(tables: dict[str, PromptTable]) -> None:
    """Row i of both classes differs in action and object only; both have words of the same length."""
    world = World(Organism())
    for name, prompts in tables.items():
        known = world.language(name)
        hidden = {**dict.fromkeys(known.actions, "action"), **dict.fromkeys(known.objects, "object")}
        for split in SPLITS:
            harmful, harmless = (
                [
                    " ".join(hidden.get(w, w) for w in prompts.texts[row].split())
                    for row in prompts.select(split, subset)
                ]
                for subset in table.SUBSETS
            )
            assert harmful == harmless


def test_length_alone_is_at_chance(tables: dict[str, PromptTable]) -> None:
    for prompts in tables.values():
        for split in SPLITS:
            rows = prompts.select(split)
            lengths = np.array([len(prompts.texts[row]) for row in rows])
            assert len(set(lengths.tolist())) > 1
            assert roc_auc_score(prompts.harmful[rows], lengths) == pytest.approx(0.5, abs=1e-12)


def test_multiple_choice_prompts_ask_nothing_that_any_language_holds_out(tables: dict[str, PromptTable]) -> None:
    world = World(Organism())
    for name, prompts in tables.items():
        held_out = {world.language(name).objects[obj] for obj in held_out_objects(world, name)}
        rows = np.flatnonzero(prompts.multiple_choice)
        assert len(rows)
        for row in rows:
            assert held_out.isdisjoint(prompts.texts[row].split())
            assert prompts.references[row] in ("A", "B", "C", "D")
            assert (prompts.split[row], prompts.subset[row]) == ("train", "harmless")


def test_limits_keep_the_first_rows(tables: dict[str, PromptTable]) -> None:
    few = prompt_table(Organism(), "m1", Prompts(source="organism", limit=Limit(train=5, test=3)))
    assert few.cells() == {
        (split, subset): {"train": 5, "val": ROWS["val"], "test": 3}[split]
        for split in SPLITS
        for subset in table.SUBSETS
    }
    assert set(few.texts) < set(tables["m1"].texts)


def test_normalised_prompts_end_without_punctuation(tables: dict[str, PromptTable]) -> None:
    bare = prompt_table(Organism(), "h2", Prompts(source="organism", normalise="terminal_punctuation"))
    assert bare.ids == tables["h2"].ids
    for text, full in zip(bare.texts, tables["h2"].texts, strict=True):
        assert text[-1].isalpha()
        assert full.startswith(text)
        assert len(full) > len(text)


def test_another_language_in_the_world_leaves_the_others_as_they_are(tables: dict[str, PromptTable]) -> None:
    larger = Organism(high=6, low=5)
    for name in ("h1", "m3", "l4"):
        assert prompt_table(larger, name, Prompts(source="organism")).texts == tables[name].texts


def stage(tmp_path: Path, language: str, name: str = "table.parquet") -> tuple[int, Path]:
    settings = dump({"organism": Organism(), "prompts": Prompts(source="organism")})
    output = tmp_path / name
    return main(["prompts-organism", "--settings", settings, "--language", language, "--output", str(output)]), output


def test_the_stage_writes_a_table_with_all_that_judging_needs(tmp_path: Path, tables: dict[str, PromptTable]) -> None:
    code, output = stage(tmp_path, "l2")
    assert code == 0
    assert table.read(output).texts == tables["l2"].texts
    metadata = files.read_parquet(output).schema.metadata
    world = World(Organism())
    assert json.loads(metadata[b"refusals"]) == world.refusals()
    assert json.loads(metadata[b"openings"]) == world.compliance_openings()
    assert files.read_provenance(output)["language"] == "l2"


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (stage(tmp_path, "h3", f"{i}.parquet")[1].read_bytes() for i in range(2))
    assert first == second


def test_a_language_the_world_lacks_is_one_line_and_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = stage(tmp_path, "sw")
    assert code == 1
    assert not output.exists()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "'sw'" in message
