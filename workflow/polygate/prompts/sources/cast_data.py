"""CAST's own data: pairs of harmful and harmless prompts, and questions with refusing and compliant openings.

Lee et al. 2024 (arXiv 2409.05907), Apache 2.0, in English: `condition_harmful.json` (4,050 pairs to fit on, 450 to tune
on), `alpaca.json` (questions) and `behavior_refusal.json` (100 openings of each kind). About one in a hundred of
PolyRefuse's English prompts stand among the pairs.

They become two tables of one data set, whose rows come in pairs of consecutive numbers or equal ones:

- *conditions*: harmful and harmless prompts of a pair have the same number; what is tuned on is split val.
- *behaviours*: every opening after every question, as the release combines them; of a pair's two numbers the even one
  has the refusing opening, the odd one the compliant (`category` says which).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.prompts.sources.published import Published
from polygate.prompts.table import OPENING, SUBSETS, Prompt, Split, prompt_id
from polygate.settings.types import CAST_RELEASED

DATASET = CAST_RELEASED
"""What the data set is called in prompt tables and stores."""
LANGUAGE = "en"
POSITIONS = {"conditions": "mean", "behaviours": OPENING}
"""The two tables, and where each is read: over a whole prompt's tokens, and over those of an opening alone."""
REFUSING, COMPLIANT = "refusing", "compliant"

PAIRS, QUESTIONS, OPENINGS = "condition_harmful.json", "alpaca.json", "behavior_refusal.json"
PUBLISHED = Published(
    title="CAST's data",
    base="https://raw.githubusercontent.com/IBM/activation-steering",
    # Each at a commit that holds it: upstream has moved its folder.
    files={
        f"d5f4412948f837ad5ae9e95902a15469edce9102/demo-data-package/{PAIRS}": (
            "3f39bfd7132b51ee74236e14575e1152832e70e7a0dc18a962e75260940a5aca"
        ),
        f"0cd68a2fc36dfb24b84b930f73697efc458af34b/demo-data/{QUESTIONS}": (
            "0b95afc295155328095c980d33058e1a9f83e95567f2dd0dff190358fa69801d"
        ),
        f"8a4a68f34e4208554178e54a329332e909921bb7/docs/demo-data/{OPENINGS}": (
            "10924d1653a97f398ca4f94725f55a7287758ee33a45861bb30289f427056ced"
        ),
    },
)
SETTING = "baselines.cast.released.folder"
_WITHIN = ("", "docs/demo-data")
"""Where the files lie in a flat folder, or in a clone of upstream's repository."""
_SPLITS: Mapping[Split, str] = {"train": "train", "val": "test"}
"""Our splits, and what upstream calls them: nothing is tuned on what we call test."""
_KEYS = {REFUSING: "non_compliant_responses", COMPLIANT: "compliant_responses"}


def files(folder: Path) -> list[Path]:
    """The three files in a folder; `PolygateError` naming the first that isn't there."""
    found = []
    for name in (PAIRS, QUESTIONS, OPENINGS):
        path = next((folder / part / name for part in _WITHIN if (folder / part / name).is_file()), None)
        if path is None:
            do = f"point {SETTING} to a folder with CAST's files, or leave it empty to download them"
            raise PolygateError(f"there is no {name} in it", where=folder, do=do)
        found.append(path)
    return found


def conditions(folder: Path, limit: int | None = None) -> list[Prompt]:
    """Prompts of the first `limit` pairs of either part, all when None. Raises `PolygateError` for another format."""
    path = files(folder)[0]
    content = _content(path)
    found = []
    for split, theirs in _SPLITS.items():
        for number, row in enumerate(_list(content, theirs, path)[:limit]):
            place = f"{theirs} row {number}"
            for subset in SUBSETS:
                text = _text(row, subset, place, path)
                found.append(Prompt(prompt_id(subset, split, number), text, source=f"{path.name} {place}"))
    return found


def behaviours(folder: Path, questions: int, openings: int) -> list[Prompt]:
    """The first `openings` of each kind after the first `questions`. Raises `PolygateError` for another format."""
    _, asked, answered = files(folder)
    rows = _list(_content(asked), "train", asked)[:questions]
    texts = [_text(row, "question", f"train row {number}", asked) for number, row in enumerate(rows)]
    begun = {kind: _openings(answered, key, openings) for kind, key in _KEYS.items()}
    counts = {kind: len(found) for kind, found in begun.items()}
    if counts[REFUSING] != counts[COMPLIANT]:
        what = f"it has {counts[REFUSING]} refusing openings and {counts[COMPLIANT]} compliant ones"
        raise PolygateError(what, where=answered, do="openings are pairs: give as many of each")
    found: list[Prompt] = []
    for number in range(counts[REFUSING]):
        for row, text in enumerate(texts):
            place = f"{asked.name} train row {row}, {answered.name} row {number}"
            for kind in (REFUSING, COMPLIANT):
                name = prompt_id("harmless", "train", len(found))
                found.append(Prompt(name, text, category=kind, source=place, opening=begun[kind][number]))
    return found


def _openings(path: Path, key: str, limit: int) -> list[str]:
    rows = _list(_content(path), key, path)[:limit]
    return [_text({key: row}, key, f"{key} row {number}", path) for number, row in enumerate(rows)]


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolygateError(f"truncated or not JSON ({error})", where=path, do="download it again") from None
    if not isinstance(content, dict):
        raise PolygateError("not a file of CAST's: no object", where=path, do="download it again")
    return content


def _list(content: Mapping[str, Any], key: str, path: Path) -> Sequence[Any]:
    rows = content.get(key)
    if not isinstance(rows, list) or not rows:
        raise PolygateError(f"not a file of CAST's: no list under {key!r}", where=path, do="download it again")
    return rows


def _text(row: Any, key: str, place: str, path: Path) -> str:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise PolygateError(f"{place} has no text in {key!r}", where=path, do="complete the file")
    return value
