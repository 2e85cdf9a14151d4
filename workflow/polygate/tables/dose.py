"""dose.csv: what an aligned model does and knows in a language, against the refused examples it was given there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate.tables.cells import ROUTED
from polygate.tables.rows import Row, read_rows, select
from polygate.tables.writing import write

COLUMNS = ("model", "tier", "language", "dose", "metric", "scorer", "budget", "estimate", "low", "high", "n")
_KEPT = ("tier", "estimate", "low", "high", "n")


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
) -> None:
    """Write the table from finished ones.

    `doses` are pairs of model and language with their dose: harmful examples in the alignment. Metrics: "refused", the
    share of harmful prompts refused without steering; "auc" of v_HRL at the chosen layer and of the surface; "f1" of
    the gate of `rank` at the first and the last of `budgets`, and "routed", the share of harmful prompts refused when
    it routes them. Rows by language, then dose.
    """
    tables = _Tables(*(read_rows(path) for path in (refusal, separability, choices, gates)))
    setups = list(dict.fromkeys((budgets[0], budgets[-1])))
    ordered = sorted(doses, key=lambda dose: int(dose["dose"]))
    languages = dict.fromkeys(dose["language"] for dose in doses)
    rows = [
        {"model": dose["model"], "language": language, "dose": dose["dose"], **row}
        for language in languages
        for dose in ordered
        if dose["language"] == language
        for row in _rows(tables, dose["model"], language, rank, setups)
    ]
    write(output, COLUMNS, rows)


def _rows(tables: _Tables, model: str, language: str, rank: int, budgets: Sequence[int]) -> list[dict[str, Any]]:
    place = {"model": model, "language": language}
    layer = select(tables.choices, model=model, what="layer")[0]["value"]
    auc = select(tables.separability, **place, metric="auc", prompts="all")
    refused = select(tables.refusal, **place, subset="harmful", outcome="refused")
    found: list[tuple[dict[str, Any], list[Row]]] = [
        ({"metric": "refused"}, select(refused, arm="none")),
        ({"metric": "auc", "scorer": "v_hrl"}, select(auc, scorer="v_hrl", layer=layer)),
        ({"metric": "auc", "scorer": "surface"}, select(auc, scorer="surface")),
    ]
    for budget in budgets:
        of_gate = select(tables.gates, **place, metric="f1", scorer="gate", rank=rank, budget=budget, draw=None)
        found.append(({"metric": "f1", "scorer": "gate", "budget": budget}, of_gate))
        found.append(({"metric": "routed", "budget": budget}, select(refused, arm=ROUTED, budget=budget)))
    return [{**what, **{name: row[name] for name in _KEPT}} for what, rows in found for row in rows]
