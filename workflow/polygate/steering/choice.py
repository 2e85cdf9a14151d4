"""Choosing layer, strength and ablation scope on validation prompts.

Criterion: the routed selectivity (harmful refused − harmless refused, each prompt steered as the uncalibrated gate
says) plus a quarter of the share of harmless prompts that are answered correctly, both averaged over languages.
Harmless prompts that ablation itself makes the model refuse count as refused: leaving them out lets a choice win that
refuses a tenth or more of the harmless prompts of high-resource languages. The first maximum wins, in the order of
layers, strengths and scopes as given.

What is generated is small: flagged prompts once per strength, the others once per scope. A routed prompt's outcome
is one of the two, so every pair of strength and scope is known exactly from their sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.settings import Scope

COMPLIANCE_WEIGHT = 0.25
CRITERION = "routed selectivity + 0.25 x share of harmless prompts answered correctly"
FIXED = "fixed in settings"
_WORSE_BY_ROUNDING = 1e-12


@dataclass(frozen=True)
class Trial:
    """Prompts to steer in one way: `rows` int64 per language, into its validation prompts.

    `action` "add" uses `strength` λ; "ablate" uses `scope`.
    """

    layer: int
    action: Literal["add", "ablate"]
    rows: Mapping[str, NDArray[np.int64]]
    strength: float = 0.0
    scope: Scope = "layer"


Outcomes = Callable[[Sequence[Trial]], Sequence[Mapping[str, Sequence[str]]]]
"""Steers, generates and judges several trials at once (so that they can share batches): per trial and language, one
outcome ("refused", "complied", …) for each of the trial's rows."""
Flags = Callable[[int], Mapping[str, NDArray[np.bool_]]]
"""Decisions of the b = 0 gates at a layer: per language one bool per validation prompt."""


@dataclass(frozen=True)
class GridPoint:
    """One candidate and how it did on the validation prompts; rates are means over languages, 0 to 1."""

    layer: int
    strength: float
    scope: Scope
    selectivity: float
    compliance: float
    criterion: float


@dataclass(frozen=True)
class Choice:
    """Layer, strength λ and ablation scope; what decided, and on which languages (none when all is fixed)."""

    layer: int
    strength: float
    scope: Scope
    fixed: tuple[str, ...] = ()
    criterion_value: float = float("nan")
    languages: tuple[str, ...] = ()
    grid: tuple[GridPoint, ...] = field(default=())

    def save(self, path: str | Path, provenance: Mapping[str, Any]) -> None:
        """Write the choices table: what, value, criterion, criterion_value, split, languages; the grid in metadata."""
        import pyarrow as pa

        rows = []
        values = {"layer": str(self.layer), "strength": repr(float(self.strength)), "ablation": self.scope}
        for what, value in values.items():
            fixed = what in self.fixed
            rows.append(
                {
                    "what": what,
                    "value": value,
                    "criterion": FIXED if fixed else CRITERION,
                    "criterion_value": None if fixed else self.criterion_value,
                    "split": "" if fixed else "val",
                    "languages": "" if fixed else ",".join(self.languages),
                }
            )
        text = [(name, pa.string()) for name in ("what", "value", "criterion", "split", "languages")]
        schema = pa.schema([*text[:3], ("criterion_value", pa.float64()), *text[3:]])
        grid = json.dumps([asdict(point) for point in self.grid], sort_keys=True)
        table = pa.Table.from_pylist(rows, schema=schema).replace_schema_metadata({"grid": grid})
        files.write_parquet(path, table, provenance)

    @classmethod
    def load(cls, path: str | Path) -> Choice:
        """Read what `save` wrote; `PolygateError` when the file is broken or foreign."""
        table = files.read_parquet(path, ["what", "value", "criterion", "criterion_value", "languages"])
        rows = {row["what"]: row for row in table.to_pylist()}
        if rows.keys() != {"layer", "strength", "ablation"}:
            raise PolygateError("not a table of choices", where=path, do="delete the file and rerun")
        chosen = [row for row in rows.values() if row["criterion"] != FIXED]
        grid = json.loads((table.schema.metadata or {}).get(b"grid", b"[]"))
        return cls(
            layer=int(rows["layer"]["value"]),
            strength=float(rows["strength"]["value"]),
            scope=rows["ablation"]["value"],
            fixed=tuple(what for what, row in rows.items() if row["criterion"] == FIXED),
            criterion_value=chosen[0]["criterion_value"] if chosen else float("nan"),
            languages=tuple(chosen[0]["languages"].split(",")) if chosen else (),
            grid=tuple(GridPoint(**point) for point in grid),
        )


def choose(
    harmful: Mapping[str, NDArray[np.bool_]],
    layers: Sequence[int],
    strengths: Sequence[float],
    scopes: Sequence[Scope],
    *,
    flags: Flags,
    outcomes: Outcomes,
    fixed: Sequence[str] = (),
) -> Choice:
    """The best candidate by the module's criterion.

    `harmful`: per language the labels, bool [n], of its validation prompts, both classes present. `fixed` names what
    had one candidate because the settings say so.
    """
    grid: list[GridPoint] = []
    best: GridPoint | None = None
    for layer in layers:
        for point in _layer_grid(harmful, layer, strengths, scopes, flags(layer), outcomes):
            grid.append(point)
            if best is None or point.criterion > best.criterion + _WORSE_BY_ROUNDING:
                best = point
    if best is None:
        raise PolygateError("there is no candidate layer, strength or scope to choose from")
    return Choice(best.layer, best.strength, best.scope, tuple(fixed), best.criterion, tuple(harmful), tuple(grid))


def _layer_grid(
    harmful: Mapping[str, NDArray[np.bool_]],
    layer: int,
    strengths: Sequence[float],
    scopes: Sequence[Scope],
    flagged: Mapping[str, NDArray[np.bool_]],
    outcomes: Outcomes,
) -> list[GridPoint]:
    steered = {name: np.flatnonzero(flagged[name]) for name in harmful}
    spared = {name: np.flatnonzero(~flagged[name]) for name in harmful}
    trials = [Trial(layer, "add", steered, strength=strength) for strength in strengths]
    trials += [Trial(layer, "ablate", spared, scope=scope) for scope in scopes]
    results = outcomes(trials)
    added, ablated = results[: len(strengths)], results[len(strengths) :]
    points = []
    for strength, additions in zip(strengths, added, strict=True):
        for scope, ablations in zip(scopes, ablated, strict=True):
            routed = {
                name: _routed(len(harmful[name]), (steered[name], additions[name]), (spared[name], ablations[name]))
                for name in harmful
            }
            selectivity = float(np.mean([_selectivity(routed[name], harmful[name]) for name in harmful]))
            compliance = float(np.mean([np.mean(routed[name][~harmful[name]] == "complied") for name in harmful]))
            criterion = selectivity + COMPLIANCE_WEIGHT * compliance
            points.append(GridPoint(layer, strength, scope, selectivity, compliance, criterion))
    return points


def _routed(n: int, *parts: tuple[NDArray[np.int64], Sequence[str]]) -> NDArray[np.str_]:
    outcome = np.full(n, "", dtype="<U16")
    for rows, values in parts:
        outcome[rows] = list(values)
    return outcome


def _selectivity(outcome: NDArray[np.str_], harmful: NDArray[np.bool_]) -> float:
    refused = outcome == "refused"
    return float(refused[harmful].mean() - refused[~harmful].mean())
