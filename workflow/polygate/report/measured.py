"""Where a run's tables hold what was published: one entry per experiment and table.

A number whose experiment has no entry, or whose table or model isn't in the run, has nothing beside it. A new
experiment is compared by adding its numbers to published.csv and one entry to `MAPPINGS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import TYPE_CHECKING, Literal

from polygate.errors import PolygateError
from polygate.report.published import ANY, BEST, MEAN, MODELS, Key

if TYPE_CHECKING:
    import pandas as pd

Filters = Mapping[str, str | int | None]
"""Column → the value it must have; None for an empty cell."""


@dataclass(frozen=True)
class Mapped:
    """The rows of one table that an experiment's numbers are compared with.

    `quantities`: each quantity that the table gives → the filters of its rows; `where`: filters of all of them.
    `columns`: fields of a published number's key → the table's columns that must hold the same, beside model, tier and
    language. `chosen_layer` keeps rows at their model's chosen layer alone. `language` takes, of a tier's languages,
    the one with the lowest or highest estimate in place of their mean. `low` and `high` are empty where the table has
    no interval of it.
    """

    experiment: str
    table: str
    quantities: Mapping[str, Filters]
    where: Filters = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    chosen_layer: bool = False
    language: Literal["lowest", "highest", ""] = ""
    estimate: str = "estimate"
    low: str = "low"
    high: str = "high"

    def needs(self) -> tuple[str, ...]:
        """The columns that the table must have."""
        filtered = [name for filters in self.quantities.values() for name in filters]
        layer = ["layer"] if self.chosen_layer else []
        found = [name for name in (self.estimate, self.low, self.high) if name]
        return tuple(dict.fromkeys([*PLACE, *self.where, *filtered, *self.columns.values(), *layer, *found]))


PLACE = ("model", "tier", "language")
STEERED = {"arm": "arm", "budget": "budget"}
REFUSALS: Mapping[str, Filters] = {
    f"{subset} refusal": {"subset": subset, "outcome": "refused"} for subset in ("harmful", "harmless")
}

STRONGEST = "strongest adapted baseline"
"""An arm of the published numbers: the best of `ADAPTED`, whichever that is here."""
ADAPTED = ("adasteer", "cast")

MAPPINGS: tuple[Mapped, ...] = (
    Mapped("unsteered refusal", "refusal", REFUSALS, columns=STEERED),
    Mapped(
        "separability",
        "separability",
        {"auc": {"metric": "auc"}},
        where={"prompts": "all"},
        columns={"arm": "scorer"},
        chosen_layer=True,
    ),
    Mapped(
        "gates",
        "gates",
        {"f1": {"metric": "f1"}},
        where={"rank": 10, "draw": None},
        columns={"arm": "scorer", "budget": "budget"},
    ),
    Mapped(
        "out of distribution",
        "ood",
        {"balanced accuracy": {"metric": "balanced_accuracy"}},
        where={"category": None, "pairing": "polyrefuse"},
        columns={"arm": "gate", "budget": "budget", "dataset": "dataset"},
    ),
    Mapped(
        "conformal calibration",
        "calibration",
        {"lowest miss rate": {"metric": "miss"}},
        where={"rule": "parallel"},
        language="lowest",
    ),
    Mapped(
        "conformal calibration",
        "calibration",
        {"highest miss rate": {"metric": "miss"}},
        where={"rule": "parallel"},
        language="highest",
    ),
    Mapped(
        "conformal calibration",
        "calibration",
        {"miss rate": {"metric": "miss"}},
        where={"rule": "paper"},
        columns={"budget": "budget"},
    ),
    Mapped(
        "cross-lingual transfer",
        "transfer",
        {"f1": {"metric": "f1"}},
        where={"rank": 10},
        columns={"source_language": "source"},
    ),
    Mapped("routing", "selectivity", {"selectivity": {}}, columns=STEERED),
    Mapped("routing", "refusal", REFUSALS, columns=STEERED),
    # The paper names no tier; where the model refuses by itself there is most to lose.
    Mapped(
        "layer sweep",
        "sweeps",
        {"layer of the dip": {"dip": "true"}},
        where={"kind": "layer", "direction": "v_hrl", "tier": "high"},
        estimate="layer",
        low="",
        high="",
    ),
    # The cells of the published confusion are counts of 600 completions, which no other number of them compares with.
    Mapped(
        "judge against people",
        "agreement",
        {"correlation": {"measure": "correlation"}},
        where={"against": "people"},
    ),
)
CHOICES = "choices"
TABLES: tuple[str, ...] = tuple(dict.fromkeys([CHOICES, *(mapped.table for mapped in MAPPINGS)]))
"""Names of the tables that are read, where the run has them."""


@dataclass(frozen=True)
class Measured:
    """An estimate of this run with its interval (NaN where there is none)."""

    estimate: float
    low: float
    high: float


def read_tables(paths: Mapping[str, str], judge: str = "") -> dict[str, pd.DataFrame]:
    """The tables of a run by name, of several judges by `judge` where it has rows, else by the first.

    Raises `PolygateError` when one is absent, or lacks a column that its entries need.
    """
    from polygate.figures.reading import read_table

    needed: dict[str, list[str]] = {CHOICES: ["model", "what", "value"]}
    for mapped in MAPPINGS:
        needed.setdefault(mapped.table, []).extend(mapped.needs())
    return {name: read_table(path, needed[name], judge) for name, path in paths.items()}


def measure(
    key: Key,
    tables: Mapping[str, pd.DataFrame],
    names: Mapping[str, str],
    models: Iterable[str],
    mappings: Sequence[Mapped] = MAPPINGS,
) -> Measured | None:
    """What this run measured of the same thing, None where it measured no such thing.

    `names`: the paper's models → the run's, of which `models` are all. A mean over the three needs all three; its
    bounds are the means of theirs, which is wide enough however much the models agree on prompts. The best of the three
    needs all three too, and comes with its own interval; so does the highest of any models, and of adapted baselines.
    What is pooled over models is so in the run's table, and needs all three.

    Raises `PolygateError` when several rows of the table are that thing.
    """
    if key.arm == STRONGEST:
        arms = [measure(replace(key, arm=arm), tables, names, models, mappings) for arm in ADAPTED]
        return max((one for one in arms if one is not None), key=lambda one: one.estimate, default=None)
    entries = [one for one in mappings if one.experiment == key.experiment and key.quantity in one.quantities]
    if not entries or entries[0].table not in tables:
        return None
    (mapped,) = entries
    if key.model in (MEAN, BEST):
        wanted = [names[model] for model in MODELS if model in names]
        if len(wanted) < len(MODELS):
            return None
    elif key.model == ANY:
        wanted = list(models)
    elif key.model:
        wanted = [names[key.model]] if key.model in names else []
    else:
        wanted = [""] if len(names) == len(MODELS) else []
    found = [_one(key, mapped, tables, model) for model in wanted]
    whole = [one for one in found if one is not None]
    if not whole or len(whole) < len(wanted):
        return None
    if key.model != MEAN:
        return max(whole, key=lambda one: one.estimate)
    count = len(whole)
    return Measured(*(sum(getattr(one, name) for one in whole) / count for name in ("estimate", "low", "high")))


def _one(key: Key, mapped: Mapped, tables: Mapping[str, pd.DataFrame], model: str) -> Measured | None:
    from polygate.figures.reading import at_chosen_layer

    rows = tables[mapped.table]
    filters: dict[str, str | int | None] = {"model": model, "tier": key.tier, "language": key.language}
    if mapped.language:
        del filters["language"]
    filters |= {**mapped.where, **mapped.quantities[key.quantity]}
    filters |= {column: getattr(key, name) for name, column in mapped.columns.items()}
    for column, value in filters.items():
        rows = rows[rows[column].isna() | (rows[column] == "")] if value is None else rows[rows[column] == value]
    if mapped.chosen_layer:
        rows = at_chosen_layer(rows, tables[CHOICES])
    if mapped.language and not rows.empty:
        rows = rows[rows["language"] != ""].sort_values(mapped.estimate, ascending=mapped.language == "lowest").head(1)
    if len(rows) > 1:
        what = ", ".join(f"{name} {value}" for name, value in filters.items() if value not in (None, ""))
        raise PolygateError(f"{mapped.table}.csv has {len(rows)} rows of one published number ({what})")
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Measured(*(float(row[name]) if name else nan for name in (mapped.estimate, mapped.low, mapped.high)))
