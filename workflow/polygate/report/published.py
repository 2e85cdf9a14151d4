"""The published numbers that a run is compared with, as data: published.csv beside this module.

Each number stands there once, with its source and its precision (how far the true value may lie from what was printed:
half of the last digit, ± .01 for what was read off a curve). Rates, F1, AUC and selectivity are fractions of 1, as in
the tables. Held are results; the settings of methods (layers of AdaSteer, thresholds of CAST, sizes of data sets) are
settings here too. Most are of Aziz, Hanif, Koto, "Low-Resource Safety Failures Are Action Failures, Not Representation
Failures", 2026, arXiv 2606.01196: its abstract, its figures and the configurations of its public release.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polygate.errors import PolygateError
from polygate.settings.types import TIERS, Languages

FILE = Path(__file__).with_suffix(".csv")

MODELS: Mapping[str, tuple[str, ...]] = {
    "Qwen2.5-7B-Instruct": ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    "gemma-2-9b-it": ("gemma-2-9b", "google/gemma-2-9b-it"),
    "Llama-3.1-8B-Instruct": ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
}
"""The paper's models: how it names them → our names for them, hub ids included."""
MEAN = "mean of the three models"
BEST = "best of the three models"
ANY = "any model"
POOLED = ""
"""A number of no model, or of a sample that doesn't say which: matched by an empty cell."""

UNIT = (0.0, 1.0)
SIGNED = (-1.0, 1.0)
COUNT = (0.0, math.inf)
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("harmful refusal", "harmless refusal", "auc", "f1", "balanced accuracy"), UNIT),
    **dict.fromkeys(("miss rate", "lowest miss rate", "highest miss rate"), UNIT),
    **dict.fromkeys(("selectivity", "correlation"), SIGNED),
    **dict.fromkeys(("completions labelled", "layer of the dip"), COUNT),
    **{f"refused by {whom}": COUNT for whom in ("both", "people only", "the judge only", "neither")},
}
"""What may be published, and between which bounds it lies (inclusive)."""
RELATIONS = ("", "at least", "at most")
OTHER_LANGUAGES = ("vi", "bn", "jv", "id", "id-colloquial", "su", "min")
"""Languages of the test sets that are none of the paper's twenty-three; they are in no tier."""
COLUMNS = (
    *("experiment", "quantity", "model", "tier", "language", "arm", "budget", "relation", "published", "precision"),
    *("dataset", "source_language", "source"),
)


@dataclass(frozen=True)
class Key:
    """What a number is of; no two numbers share it.

    `model` is a key of `MODELS`, `MEAN`, `BEST`, `ANY` or `POOLED`; `language` is empty for a mean over the tier; `arm`
    says what steered or decided; `dataset` is empty for the prompts that directions are fitted on; `source_language` is
    the language whose whole training set was added.
    """

    experiment: str
    quantity: str
    model: str
    tier: str
    language: str
    arm: str
    budget: int | None
    dataset: str
    source_language: str


@dataclass(frozen=True)
class Published:
    """A published number; `relation` is "at least" or "at most" where only a bound is known, else empty."""

    key: Key
    value: float
    precision: float
    relation: str
    source: str

    def within(self, low: float, high: float) -> bool:
        """Whether the interval [low, high] holds the number, or a value that its bound allows, within its precision."""
        reaches_up = self.relation == "at most" or high >= self.value - self.precision
        reaches_down = self.relation == "at least" or low <= self.value + self.precision
        return reaches_up and reaches_down


def read(path: Path = FILE) -> tuple[Published, ...]:
    """Every number of `path`, in its order.

    Raises `PolygateError`, naming the line, for a column too many or too few, an unknown model, language, tier,
    quantity or relation, a number that can't be, or one that stands there twice.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise PolygateError("the columns aren't those of published numbers", where=path, do=", ".join(COLUMNS))
        seen: dict[Key, int] = {}
        numbers = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise PolygateError(f"not {len(COLUMNS)} cells", where=where)
            number = _number(row, where)
            if number.key in seen:
                raise PolygateError(f"the number stands in line {seen[number.key]} already", where=where)
            seen[number.key] = reader.line_num
            numbers.append(number)
    return tuple(numbers)


def _number(row: Mapping[str, str], where: str) -> Published:
    languages = Languages()
    known = {
        "model": (*MODELS, MEAN, BEST, ANY, POOLED),
        "tier": (*TIERS, ""),
        "language": (*languages.all(), *OTHER_LANGUAGES, ""),
        "source_language": (*languages.all(), ""),
        "quantity": tuple(RANGES),
        "relation": RELATIONS,
    }
    for name, values in known.items():
        if row[name] not in values:
            raise PolygateError(f"unknown {name} {row[name]!r}", where=where)
    for name in ("experiment", "source"):
        if not row[name]:
            raise PolygateError(f"no {name}", where=where)
    language = row["language"]
    if language in languages.all() and row["tier"] != languages.tier(language):
        raise PolygateError(f"{language} is {languages.tier(language)}-resource", where=where)
    try:
        budget = int(row["budget"]) if row["budget"] else None
        value, precision = float(row["published"]), float(row["precision"])
    except ValueError as error:
        raise PolygateError(f"not a number ({error})", where=where) from None
    low, high = RANGES[row["quantity"]]
    if not (low <= value <= high and 0 <= precision < math.inf and (budget is None or budget >= 0)):
        raise PolygateError(f"{row['quantity']} {row['published']} ± {row['precision']} can't be", where=where)
    key = Key(
        **{name: row[name] for name in ("experiment", "quantity", "model", "tier", "language", "arm")},
        budget=budget,
        dataset=row["dataset"],
        source_language=row["source_language"],
    )
    return Published(key, value, precision, row["relation"], row["source"])


def names_in_run(models: Mapping[str, str]) -> dict[str, str]:
    """The paper's models → their names in this run, found by name or by hub id (`models`: name → hub id or "")."""
    return {
        paper: name for paper, ours in MODELS.items() for name, hub in models.items() if name in ours or hub in ours
    }
