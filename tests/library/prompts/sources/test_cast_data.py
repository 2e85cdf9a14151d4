"""CAST's own data: what is published is read as it is, in pairs, and every slip is named with its place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from library.stages.test_stages import call
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.sources import cast_data
from polygate.stages import prompts_cast

MADE_UP: dict[str, dict[str, Any]] = {
    cast_data.PAIRS: {
        "train": [{"harmful": f"w{i} w1 w2", "harmless": f"w{i} w3"} for i in range(10, 22)],
        "test": [{"harmful": f"w{i} w1", "harmless": f"w{i} w3 w4 w5"} for i in range(30, 36)],
    },
    cast_data.QUESTIONS: {"train": [{"question": f"w{i} w6 w7"} for i in range(5)], "test": [{"question": "w0"}]},
    cast_data.OPENINGS: {
        "non_compliant_responses": ["w40 w41", "w40", "w42 w43 w44"],
        "compliant_responses": ["w45", "w46 w47 w48 w49", "w45 w46"],
    },
}


def save(folder: Path, **changes: Any) -> Path:
    """A folder with made-up files in upstream's format; `changes`: file's stem → its content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in MADE_UP.items():
        (folder / name).write_text(json.dumps(changes.get(name.partition(".")[0], content)))
    return folder


def test_the_published_files_are_what_is_pinned_and_become_the_releases_pairs(shared_data: Path) -> None:
    folder = shared_data / "cast"
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in cast_data.files(folder)}
    assert found == {PurePosixPath(path).name: digest for path, digest in cast_data.PUBLISHED.files.items()}
    theirs = json.loads((folder / "condition_harmful.json").read_text())
    pairs = {prompt.prompt_id: prompt.text for prompt in cast_data.conditions(folder)}
    assert len(pairs) == 2 * (4050 + 450)
    for split, part in (("train", "train"), ("val", "test")):
        for number, row in enumerate(theirs[part]):
            for subset in ("harmful", "harmless"):
                assert pairs[f"{subset}-{split}-{number:04d}"] == row[subset]
    questions = [row["question"] for row in json.loads((folder / "alpaca.json").read_text())["train"]][:100]
    openings = json.loads((folder / "behavior_refusal.json").read_text())
    asked = cast_data.behaviours(folder, 100, 100)
    expected = {
        (question, kind, opening)
        for question in questions
        for kind, key in (("refusing", "non_compliant_responses"), ("compliant", "compliant_responses"))
        for opening in openings[key]
    }
    assert len(asked) == 2 * 100 * 100
    assert {(prompt.text, prompt.category, prompt.opening) for prompt in asked} == expected
    known = list(zip(openings["non_compliant_responses"], openings["compliant_responses"], strict=True))
    for refusing, compliant in zip(asked[::2], asked[1::2], strict=True):
        assert refusing.text == compliant.text
        assert (refusing.opening, compliant.opening) in known
        assert (refusing.category, compliant.category) == ("refusing", "compliant")


def tables(folder: Path, output: Path, **more: Any) -> list[table.PromptTable]:
    paths = [output / f"{part}.parquet" for part in cast_data.POSITIONS]
    given = {"questions": 2, "openings": 3, "conditions": paths[0], "behaviours": paths[1], **more}
    call(prompts_cast, folder=folder, **given)
    return [table.read_to_fit(path) for path in paths]


def test_tables_keep_pairs_together_and_openings_beside_their_questions(tmp_path: Path) -> None:
    conditions, behaviours = tables(save(tmp_path / "cast"), tmp_path, pairs=4)
    assert (conditions.dataset, conditions.language, conditions.openings) == ("cast-released", "en", ())
    harmful, harmless = (conditions.select("train", subset) for subset in table.SUBSETS)
    given = MADE_UP[cast_data.PAIRS]["train"][:4]
    assert [(conditions.texts[a], conditions.texts[b]) for a, b in zip(harmful, harmless, strict=True)] == [
        (row["harmful"], row["harmless"]) for row in given
    ]
    assert len(conditions.select("val")) == 2 * 4
    assert len(behaviours) == len(behaviours.openings) == 2 * 2 * 3
    assert list(behaviours.categories) == ["refusing", "compliant"] * 6
    assert behaviours.texts[::2] == behaviours.texts[1::2]
    assert not behaviours.harmful.any()
    said = files.read_provenance(tmp_path / "behaviours.parquet")
    assert set(said["sha256"]) == set(MADE_UP)
    # A clone of upstream's repository serves as well.
    clone = tmp_path / "clone"
    save(clone / "docs/demo-data")
    assert tables(clone, tmp_path, pairs=4)[1].fingerprint() == behaviours.fingerprint()


def test_another_opening_makes_other_prompts(tmp_path: Path) -> None:
    _, behaviours = tables(save(tmp_path / "cast"), tmp_path)
    openings = {key: [text + " w9" for text in texts] for key, texts in MADE_UP[cast_data.OPENINGS].items()}
    _, others = tables(save(tmp_path / "cast", behavior_refusal=openings), tmp_path)
    assert others.texts == behaviours.texts
    assert others.fingerprint() != behaviours.fingerprint()
    # Prompts without openings are called what they always were.
    alone = [(name, text) for name, text in zip(behaviours.ids, behaviours.texts, strict=True)]
    assert table.fingerprint("en", alone) not in (others.fingerprint(), behaviours.fingerprint())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpaca": []}, r"not a file of CAST's: no object, in .*alpaca\.json"),
        (
            {"alpaca": {"test": [{"question": "How?"}]}},
            r"not a file of CAST's: no list under 'train', in .*alpaca\.json",
        ),
        ({"alpaca": {"train": [{"question": "How?"}, {"text": "How?"}]}}, r"train row 1 has no text in 'question'"),
        (
            {"condition_harmful": {"train": [{"harmful": "How?", "harmless": " "}], "test": []}},
            r"train row 0 has no text in 'harmless', in .*condition_harmful\.json",
        ),
        (
            {"condition_harmful": {"train": MADE_UP[cast_data.PAIRS]["train"]}},
            r"not a file of CAST's: no list under 'test', in .*condition_harmful\.json",
        ),
        (
            {"behavior_refusal": {"non_compliant_responses": ["No", "Never"], "compliant_responses": ["Yes"]}},
            r"it has 2 refusing openings and 1 compliant ones, in .*behavior_refusal\.json",
        ),
        (
            {"behavior_refusal": {"non_compliant_responses": ["No", 3], "compliant_responses": ["Yes", "Sure"]}},
            r"non_compliant_responses row 1 has no text",
        ),
    ],
)
def test_files_of_another_format_are_named_with_the_place(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PolygateError, match=message):
        tables(save(tmp_path / "cast", **changes), tmp_path)
    assert not (tmp_path / "behaviours.parquet").exists()


def test_a_missing_or_cut_file_is_one_line(tmp_path: Path) -> None:
    folder = save(tmp_path / "cast")
    whole = (folder / "alpaca.json").read_text()
    (folder / "alpaca.json").write_text(whole[:-10])
    with pytest.raises(PolygateError, match=r"truncated or not JSON .*alpaca\.json: download it again"):
        tables(folder, tmp_path)
    (folder / "alpaca.json").unlink()
    with pytest.raises(
        PolygateError, match=r"there is no alpaca\.json in it, in .*: point baselines\.cast\.released\.folder"
    ):
        tables(folder, tmp_path)


def test_openings_survive_the_file_and_none_is_left_out(tmp_path: Path) -> None:
    rows = [table.Prompt(table.prompt_id("harmless", "train", i), "How?", opening=f"Sure {i}") for i in range(12)]
    found = table.build("en", rows)
    table.write(tmp_path / "t.parquet", found, {})
    assert table.read(tmp_path / "t.parquet").openings == found.openings == tuple(f"Sure {i}" for i in range(12))
    np.testing.assert_array_equal(table.read(tmp_path / "t.parquet").split, found.split)
    with pytest.raises(PolygateError, match=r"harmless-train-0012 \(\) has no opening, others have"):
        table.build("en", [*rows, table.Prompt("harmless-train-0012", "How?")])
