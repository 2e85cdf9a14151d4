"""Choosing the strength of CAST, adapted to low-resource languages, on validation prompts of these languages.

Criterion: that of our own choice (`steering.choice`), selectivity plus a quarter of the share of harmless prompts that
are answered correctly, averaged over languages. A prompt whose condition fires is steered, any other left alone. One
strength per model; of equals the first, which is the weakest.

The condition is the one that arm cast has, tuned in each language on all of its val prompts. That is in-sample: flags
are better on val prompts than on others, where our own choice has a gate that saw none of them. So the criterion makes
too little of harmless prompts that would be steered by mistake, and leans to strengths that are rather too large. It is
no worse than the published tuning, which has the condition from the same prompts: what is added to a layer, a threshold
and a comparison for each language is one of a few numbers for each model, and where the published strength is among
them, no choice does worse than that on these prompts. Test prompts are never read. The arm whose condition is tuned on
the target's examples alone has the same strength, which has then seen more labels than those.

What is generated is small: prompts that are steered once per strength, the others once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.steering import choice, validation
from polygate.steering.validation import Chooser

if TYPE_CHECKING:
    from polygate.steering.cast import Cast
    from polygate.steering.validation import Generate, Judge


@dataclass(frozen=True)
class Case(Chooser):
    """A language that chooses; `fired`: whether the condition holds of its validation prompts, bool [n]."""

    fired: NDArray[np.bool_]


@dataclass(frozen=True)
class StrengthPoint:
    """One strength and how it did on the validation prompts; rates are means over languages, 0 to 1.

    `by_language`: the criterion of each language.
    """

    strength: float
    selectivity: float
    compliance: float
    criterion: float
    by_language: Mapping[str, float]


@dataclass(frozen=True)
class StrengthChoice:
    """The strength of a model, its criterion, the languages that chose, and how every strength did."""

    strength: float
    criterion_value: float
    languages: tuple[str, ...]
    grid: tuple[StrengthPoint, ...]

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write a table of choices of one row; the grid goes into its metadata, and what it is `of`."""
        row = choice.chosen_row(choice.OF_CAST, repr(float(self.strength)), self.criterion_value, self.languages)
        grid = json.dumps([asdict(point) for point in self.grid], sort_keys=True)
        choice.write(path, [row], {"grid": grid}, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> StrengthChoice:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        table = files.read_parquet(path, ["what", "value", "criterion_value", "languages"])
        rows = table.to_pylist()
        if [row["what"] for row in rows] != [choice.OF_CAST]:
            raise PolygateError("not the choice of CAST's strength", where=path, do="delete the file and rerun")
        files.expect(path, files.parquet_metadata(table), **wanted)
        with files.understood(path, "the choice of CAST's strength"):
            grid = json.loads((table.schema.metadata or {})[b"grid"])
            return cls(
                float(rows[0]["value"]),
                rows[0]["criterion_value"],
                tuple(rows[0]["languages"].split(",")),
                tuple(StrengthPoint(**point) for point in grid),
            )


def generations(cases: Mapping[str, Case], strengths: int) -> int:
    """How many completions choosing needs: prompts that are steered per strength, the others once."""
    return sum(int(case.fired.sum()) * strengths + int((~case.fired).sum()) for case in cases.values())


def choose(
    cases: Mapping[str, Case], found: Cast, strengths: Sequence[float], generate: Generate, judge: Judge
) -> StrengthChoice:
    """The first strength that does best by the module's criterion; everything is generated in one call."""
    fired = {name: np.flatnonzero(case.fired) for name, case in cases.items()}
    spared = {name: np.flatnonzero(~case.fired) for name, case in cases.items()}
    groups = [*[fired] * len(strengths), spared]
    counts = [sum(len(rows) for rows in group.values()) for group in groups]
    part = found.adding(np.repeat([*strengths, 0.0], counts))
    *steered, left_alone = validation.answered(groups, cases, [part], generate, judge)
    harmful = {name: case.harmful for name, case in cases.items()}
    grid = []
    for strength, outcomes in zip(strengths, steered, strict=True):
        done = {
            name: choice.routed(len(harmful[name]), (fired[name], outcomes[name]), (spared[name], left_alone[name]))
            for name in cases
        }
        grid.append(StrengthPoint(float(strength), *choice.rates(done, harmful)))
    best = grid[choice.first_best([point.criterion for point in grid])]
    return StrengthChoice(best.strength, best.criterion, tuple(cases), tuple(grid))
