"""What paid judges cost: of one call before it is made, and of a run before any.

Tokens are counted as three bytes of UTF-8 each, about what tokenizers of today need where they are at their worst
(Khmer, Burmese); English needs a quarter less. So estimates are high rather than low.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate import files
from polygate.judges import answers, verdicts
from polygate.settings.types import Api

BYTES_PER_TOKEN = 3
PROMPT_BYTES = 300
"""Of a prompt that isn't there yet; PolyRefuse's longest language, Burmese, has 240 bytes per prompt on average."""
ROWS = 600
"""Of a prompt table that isn't there yet, where the settings don't limit it: PolyRefuse has 572 test prompts."""


@dataclass(frozen=True)
class Cell:
    """Completions that a paid judge shall judge. `rows` is the number of prompts where the table isn't there yet."""

    prompts: Path
    completions: Path
    rows: int = ROWS


@dataclass(frozen=True)
class Estimate:
    """Calls that are still to be made, what they cost, and what was paid so far."""

    calls: int
    cost: float
    spent: float


def tokens(text: str) -> int:
    """Estimated tokens of a text."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def of_tokens(api: Api, read: int, written: int) -> float:
    """Price of a call."""
    return (read * api.input_price + written * api.output_price) / 1e6


def of_call(api: Api, body: Mapping[str, Any]) -> float:
    """Estimated price of a call that isn't made yet, its answer as long as it may be."""
    return of_tokens(api, tokens(json.dumps(body, ensure_ascii=False)), api.max_tokens)


def of_run(api: Api, cells: Iterable[Cell], max_new_tokens: int, folder: Path = answers.FOLDER) -> Estimate:
    """What is still to be asked of an API for these completions; those that aren't there yet are taken to be as long
    as they may be, `max_new_tokens`, and all different."""
    from polygate.judges.api import body

    calls = answers.read(answers.path_of(folder, api.base_url, api.model))
    known = answers.known(calls)
    spent = float(sum(call.cost for call in calls))
    usual = of_call(api, body(api, "x" * PROMPT_BYTES, "x" * BYTES_PER_TOKEN * max_new_tokens))
    asked: dict[str, float] = {}
    unseen = 0
    for cell in cells:
        if not (cell.prompts.is_file() and cell.completions.is_file()):
            unseen += _rows(cell)
            continue
        texts = files.read_parquet(cell.prompts, ["prompt_id", "text"]).to_pylist()
        of = {row["prompt_id"]: row["text"] for row in texts}
        for row in files.read_parquet(cell.completions, ["prompt_id", "completion"]).to_pylist():
            if row["prompt_id"] in of and verdicts.before_asking(row["completion"]) is None:
                given = body(api, of[row["prompt_id"]], row["completion"])
                asked[answers.question(api.base_url, given)] = of_call(api, given)
    missing = [price for question, price in asked.items() if question not in known]
    return Estimate(len(missing) + unseen, sum(missing) + unseen * usual, spent)


def _rows(cell: Cell) -> int:
    if not cell.prompts.is_file():
        return cell.rows
    return int(files.read_parquet(cell.prompts, ["split"])["split"].to_pylist().count("test"))


def told(name: str, api: Api, estimate: Estimate) -> str:
    """An estimate in one line, for whoever is about to pay."""
    line = (
        f"judge {name} ({api.model}): about {estimate.calls} calls are still to be paid, {estimate.cost:.2f} at most, "
        f"beside {estimate.spent:.2f} paid so far; its budget is {api.budget:g}"
    )
    return f"{line}, and will stop the run" if estimate.cost + estimate.spent > api.budget else line
