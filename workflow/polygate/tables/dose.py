"""dose.csv: what an aligned model does and knows in a language, against the refused examples it was given there.

Each dose has a row per alignment and, over those that differ in their seed alone, one of their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate.measurement.repeats import over_trainings
from polygate.measurement.statistics import Interval
from polygate.tables.cells import ROUTED, SEMANTIC
from polygate.tables.rows import Row, read_rows, select
from polygate.tables.writing import interval, write

COLUMNS = (
    *("model", "seed", "tier", "language", "dose", "alignments", "metric", "scorer", "budget"),
    *("estimate", "low", "high", "n", "method"),
)
_KEPT = ("tier", "estimate", "low", "high", "n", "method")
_SERIES = ("metric", "scorer", "budget")


@dataclass(frozen=True)
class _Tables:
    refusal: Sequence[Row]
    separability: Sequence[Row]
    choices: Sequence[Row]
    gates: Sequence[Row]


def build(
    doses: Sequence[Mapping[str, Any]],
    output: Path,
    *,
    refusal: Path,
    separability: Path,
    choices: Path,
    gates: Path,
    rank: int,
    budgets: Sequence[int],
    confidence: float,
) -> None:
    """Write the table from finished ones.

    `doses` are pairs of model and language with their dose (harmful examples in the alignment), its seed and `alike`,
    the same for models that differ in their seed alone; means over these, with intervals at `confidence`
    (`over_trainings`), have an empty `model` and `seed`, and `alignments` says over how many. Metrics: "refused", the
    share of harmful prompts refused without steering; "auc" of v_HRL at the chosen layer, of the surface and, where
    there is one, of a small encoder; "f1" of the gate of `rank` at the first and the last of `budgets`, and "routed",
    the share of harmful prompts refused when it routes them. Rows by language, then dose, alignments before their mean.
    """
    tables = _Tables(*(read_rows(path) for path in (refusal, separability, choices, gates)))
    setups = list(dict.fromkeys((budgets[0], budgets[-1])))
    ordered = sorted(doses, key=lambda dose: int(dose["dose"]))
    groups = dict.fromkeys((dose["language"], dose["dose"], dose["alike"]) for dose in ordered)
    languages = list(dict.fromkeys(dose["language"] for dose in doses))
    rows: list[dict[str, Any]] = []
    for group in sorted(groups, key=lambda group: languages.index(group[0])):
        place = dict(zip(("language", "dose"), group, strict=False))
        alike = [dose for dose in ordered if (dose["language"], dose["dose"], dose["alike"]) == group]
        each = [
            {"model": dose["model"], "seed": dose["seed"], **place, "alignments": 1, **row}
            for dose in alike
            for row in _rows(tables, dose["model"], dose["language"], rank, setups)
        ]
        rows += each + [{**place, **row} for row in _means(each, confidence)]
    write(output, COLUMNS, rows)


def _means(rows: Sequence[Mapping[str, Any]], confidence: float) -> Iterator[dict[str, Any]]:
    """Means over alignments that have the number, each seed once; of all that is measured, in its order."""
    series: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["estimate"]:
            series.setdefault(tuple(row.get(name) for name in _SERIES), {})[row["seed"]] = row
    for names, seeds in series.items():
        found = list(seeds.values())
        ends = [Interval(float(row["estimate"]), float(row["low"]), float(row["high"]), row["method"]) for row in found]
        fewest = min(found, key=lambda row: int(row["n"]))
        yield {
            **dict(zip(_SERIES, names, strict=True)),
            **{name: fewest[name] for name in ("tier", "n")},
            "alignments": len(found),
            **interval(over_trainings(ends, confidence)),
        }


def _rows(tables: _Tables, model: str, language: str, rank: int, budgets: Sequence[int]) -> list[dict[str, Any]]:
    place = {"model": model, "language": language}
    layer = select(tables.choices, model=model, what="layer")[0]["value"]
    auc = select(tables.separability, **place, metric="auc", prompts="all")
    refused = select(tables.refusal, **place, subset="harmful", outcome="refused")
    found: list[tuple[dict[str, Any], list[Row]]] = [
        ({"metric": "refused"}, select(refused, arm="none")),
        ({"metric": "auc", "scorer": "v_hrl"}, select(auc, scorer="v_hrl", layer=layer)),
        *(({"metric": "auc", "scorer": name}, select(auc, scorer=name)) for name in ("surface", SEMANTIC)),
    ]
    for budget in budgets:
        of_gate = select(tables.gates, **place, metric="f1", scorer="gate", rank=rank, budget=budget, draw=None)
        found.append(({"metric": "f1", "scorer": "gate", "budget": budget}, of_gate))
        found.append(({"metric": "routed", "budget": budget}, select(refused, arm=ROUTED, budget=budget)))
    return [{**what, **{name: row[name] for name in _KEPT}} for what, rows in found for row in rows]
