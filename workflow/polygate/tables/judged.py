"""Judgements of one model and tier as arrays: what the tables of refusal, selectivity and decomposition start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygate.judges.interface import OUTCOMES
from polygate.tables.cells import ROUTED, Cell, Test, by_language, only, pivoted, read, test_rows

ELSEWHERE = "refused_in_another_language"
"""Refused, in another language than the prompt's: a part of "refused"."""
BROAD = "refused_or_deflected"
"""The broad reading of a refusal; `refused` alone, in words, is the strict one, which every other table means."""
COUNTED = (*OUTCOMES, ELSEWHERE, BROAD)

ASKED = tuple(outcome for outcome in COUNTED if outcome not in ("deflected", ELSEWHERE, BROAD))
"""What judges that are asked for a yes or no tell: no deflections, nor the language of a refusal."""

Treatment = tuple[str, int | None]
"""Arm and budget, None but for routed arms."""
UNSTEERED: Treatment = ("none", None)


@dataclass(frozen=True)
class Judged:
    """Outcomes of one language: per treatment the share of draws with each outcome, float64 [7, n], as `COUNTED`."""

    language: str
    test: Test
    outcomes: dict[Treatment, NDArray[np.float64]]

    def refused(self, treatments: Sequence[Treatment]) -> NDArray[np.float64]:
        """Share of draws in which each prompt was refused, [len(treatments), n]."""
        return np.stack([self.outcomes[treatment][OUTCOMES.index("refused")] for treatment in treatments])


def read_judged(cells: Sequence[Cell]) -> list[Judged]:
    """Judgements per language, from the cells of one model, tier and judge; the unsteered arm must be among them."""
    return [_language(name, chosen) for name, chosen in by_language(cells).items()]


def _language(language: str, cells: Sequence[Cell]) -> Judged:
    base = read(only(cells, arm="none"), ["prompt_id", "subset"])
    test = test_rows(base)
    return Judged(language, test, {cell.treatment: outcome_shares(cell, test) for cell in cells})


def outcome_shares(cell: Cell, test: Test) -> NDArray[np.float64]:
    """Share of draws with each outcome per prompt, float64 [7, n] as `COUNTED`; one draw for arms that have none."""
    keys = [] if cell.arm != ROUTED else ["draw"]
    table = read(cell, ["prompt_id", "outcome", "refusal_language", *keys])

    def draws(column: str) -> NDArray[np.str_]:
        found = pivoted(table, keys, column, test, cell.path)
        return np.stack(list(found.values())) if found else np.empty((0, len(test.ids)), dtype=np.str_)

    said, spoken = draws("outcome"), draws("refusal_language")
    counted = [said == outcome for outcome in OUTCOMES]
    counted.append((said == "refused") & (spoken != cell.language))
    counted.append((said == "refused") | (said == "deflected"))
    return np.stack([found.mean(axis=0) for found in counted]).astype(np.float64)


def treatments(cells: Sequence[Cell]) -> list[Treatment]:
    """Arms and budgets in the order of the cells."""
    return list(dict.fromkeys(cell.treatment for cell in cells))
