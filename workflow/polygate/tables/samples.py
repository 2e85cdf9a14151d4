"""samples.csv: test prompts with what the model says to them, unsteered beside routed, to be read by people.

The same prompts in every language and model: ids are ranked by a keyed hash and the first of each class taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from polygate.prompts import table as prompt_table
from polygate.prompts.table import SUBSETS
from polygate.tables.cells import ROUTED, Cell, by_tier, only, read
from polygate.tables.writing import write

COLUMNS = (
    "model",
    "tier",
    "language",
    "subset",
    "prompt_id",
    "prompt",
    "unsteered",
    "unsteered_outcome",
    "unsteered_refusal_language",
    "routed",
    "routed_outcome",
    "routed_refusal_language",
    "budget",
    "draw",
    "gate_score",
    "flagged",
    "judge",
)
HANDFUL = 16
"""The largest budget that still is a handful of examples."""


def handful(budgets: Sequence[int]) -> int:
    """The budget that answers "can a handful of examples repair it?": the largest of at most 16 per class."""
    return max((budget for budget in budgets if budget <= HANDFUL), default=min(budgets))


def build(
    prompts: Sequence[Cell],
    completions: Sequence[Cell],
    judgements: Sequence[Cell],
    output: Path,
    *,
    samples: int,
    seed: int,
) -> None:
    """Write the table: `samples` prompts per class, model and language, routed by the first draw of the handful.

    `prompts`: one cell per language; `completions` and `judgements`: cells per model, language and arm, of which the
    unsteered and the routed ones are read.
    """
    budget = handful([cell.budget for cell in completions if cell.arm == ROUTED and cell.budget is not None])
    rows: list[dict[str, Any]] = []
    for (model, tier), cells in by_tier(completions):
        for language in dict.fromkeys(cell.language for cell in cells):
            what = {"model": model, "language": language}
            rows += [
                {**what, "tier": tier, "budget": budget, **row}
                for row in _rows(
                    only(prompts, language=language),
                    [only(cells, arm="none", **what), only(cells, arm=ROUTED, budget=budget, **what)],
                    [only(judgements, arm="none", **what), only(judgements, arm=ROUTED, budget=budget, **what)],
                    samples,
                    seed,
                )
            ]
    write(output, COLUMNS, rows)


def chosen(ids: Sequence[str], samples: int, seed: int) -> list[str]:
    """The first `samples` of `ids` in the order of a hash keyed by `seed`, sorted: whatever else `ids` holds."""
    return sorted(sorted(ids, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:samples])


def _rows(
    prompts: Cell, completions: Sequence[Cell], judgements: Sequence[Cell], samples: int, seed: int
) -> list[dict[str, Any]]:
    table = prompt_table.read(prompts.path)
    texts = dict(zip(table.ids, table.texts, strict=True))
    unsteered, routed = (_by_id(cell, ["completion"]) for cell in completions)
    before, after = (_by_id(cell, ["outcome", "refusal_language"]) for cell in judgements)
    gate = _by_id(completions[1], ["draw", "gate_score", "flagged"])
    rows = []
    for subset in SUBSETS:
        ids = [table.ids[row] for row in table.select("test", subset)]
        for name in chosen([name for name in ids if name in unsteered], samples, seed):
            rows.append(
                {
                    "subset": subset,
                    "prompt_id": name,
                    "prompt": texts[name],
                    "unsteered": unsteered[name]["completion"],
                    "unsteered_outcome": before[name]["outcome"],
                    "unsteered_refusal_language": before[name]["refusal_language"],
                    "routed": routed[name]["completion"],
                    "routed_outcome": after[name]["outcome"],
                    "routed_refusal_language": after[name]["refusal_language"],
                    "judge": judgements[0].judge,
                    **gate[name],
                }
            )
    return rows


def _by_id(cell: Cell, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rows of the first draw (of all, where there are no draws) by prompt id."""
    routed = cell.arm == ROUTED
    table: pa.Table = read(cell, list(dict.fromkeys(["prompt_id", *columns, *(["draw"] if routed else [])])))
    if routed:
        table = table.filter(pc.equal(table["draw"], 0))
    return {row["prompt_id"]: {name: row[name] for name in columns} for row in table.to_pylist()}
