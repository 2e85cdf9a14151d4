"""Choosing layer, strength and ablation scope on validation prompts.

Criterion: the routed selectivity (harmful refused − harmless refused, each prompt steered as the uncalibrated gate
says) plus a quarter of the share of harmless prompts that are answered correctly, both averaged over languages.
Harmless prompts that ablation itself makes the model refuse count as refused: leaving them out lets a choice win that
refuses a tenth or more of the harmless prompts of high-resource languages. Scope "none" leaves prompts that are not
flagged alone; where it is a candidate, ablation has to be worth the answers that it breaks.

Every language that chooses takes the strength at which it does best, for what repairs one language breaks the text of
another; layer and scope are the model's, those at which languages do best on average, each at its own strength. The
strength that is best on average at that layer and scope is for the languages that take no part, and for one that does
no better at another. The first maximum wins, in the order of layers, strengths and scopes as given.

What is generated is small: flagged prompts once per strength, the others once per scope. A routed prompt's outcome
is one of the two, so every pair of strength and scope is known exactly from their sum.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError

if TYPE_CHECKING:
    from polygate.settings.types import Scope, Unit

COMPLIANCE_WEIGHT = 0.25
CRITERION = "routed selectivity + 0.25 x share of harmless prompts answered correctly"
DIP = "lowest refusal of harmful prompts, v_HRL ablated at all layers"
FIXED = "fixed in settings"
OF_CAST = "cast strength"
"""What a row of choices is called that says CAST's strength rather than ours."""
_WORSE_BY_ROUNDING = 1e-12


@dataclass(frozen=True)
class Trial:
    """Prompts to steer in one way: `rows` int64 per language, into its validation prompts.

    `action` "add" uses `strength` λ; "ablate" uses `scope`, and does nothing at scope "none".
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
    """One candidate and how it did on the validation prompts; rates are means over languages, 0 to 1.

    `by_language`: the criterion of each language.
    """

    layer: int
    strength: float
    scope: Scope
    selectivity: float
    compliance: float
    criterion: float
    by_language: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """Layer, strength λ and ablation scope; what decided, and on which languages (none when all is fixed).

    `own`: the strength of every language that does better at another than at `strength`. `criterion_value`: of the
    chosen layer and scope, every language at its own strength. `dips`: refusal by layer, where the dip chose the layer.
    `unit`: what λ counts.
    """

    layer: int
    strength: float
    scope: Scope
    fixed: tuple[str, ...] = ()
    criterion_value: float = float("nan")
    languages: tuple[str, ...] = ()
    own: Mapping[str, float] = field(default_factory=dict)
    grid: tuple[GridPoint, ...] = field(default=())
    dips: Mapping[int, float] = field(default_factory=dict)
    unit: Unit = "gap"

    def strength_in(self, language: str) -> float:
        """λ in `language`: its own, or the model's."""
        return self.own.get(language, self.strength)

    def check_layer(self, depth: int, where: str | Path) -> None:
        """`PolygateError` unless a model with `depth` blocks has the chosen layer."""
        if not self.layer < depth:
            what = f"layer {self.layer} is chosen, but the model has layers 0 to {depth - 1}"
            raise PolygateError(what, where=where)

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write the choices table; the grid goes into its metadata, and what it is `of`.

        Columns what, language, value, criterion, criterion_value, split, languages. `language` is empty where the
        value is the model's, and names the language whose own strength a row is; `languages` are those that decided.
        """
        values = {"layer": str(self.layer), "strength": repr(float(self.strength)), "ablation": self.scope}
        rows = [
            fixed_row(what, value)
            if what in self.fixed
            else chosen_row(what, value, self.criterion_value, self.languages)
            for what, value in values.items()
        ]
        rows += [
            chosen_row("strength", repr(float(strength)), self._best(name, strength), [name], name)
            for name, strength in self.own.items()
        ]
        if self.dips and "layer" not in self.fixed:
            rows[0] |= {"criterion": DIP, "criterion_value": self.dips[self.layer]}
        said = {
            "grid": json.dumps([asdict(point) for point in self.grid], sort_keys=True),
            "dips": json.dumps({str(layer): value for layer, value in self.dips.items()}),
            "unit": self.unit,
        }
        write(path, rows, said, provenance, of)

    def _best(self, language: str, strength: float) -> float:
        """The criterion of `language` at `strength` and the chosen layer and scope."""
        wanted = (self.layer, strength, self.scope)
        return next(
            point.by_language[language] for point in self.grid if (point.layer, point.strength, point.scope) == wanted
        )

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> Choice:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        table = files.read_parquet(path, ["what", "language", "value", "criterion", "criterion_value", "languages"])
        found = table.to_pylist()
        rows = {row["what"]: row for row in found if not row["language"]}
        if rows.keys() != {"layer", "strength", "ablation"}:
            raise PolygateError("not a table of choices", where=path, do="delete the file and rerun")
        files.expect(path, files.parquet_metadata(table), **wanted)
        chosen = [row for row in rows.values() if row["criterion"] != FIXED]
        said = table.schema.metadata or {}
        grid, dips = json.loads(said.get(b"grid", b"[]")), json.loads(said.get(b"dips", b"{}"))
        # What chose the layer by itself says nothing of strength and scope.
        chosen = [row for row in chosen if row["criterion"] != DIP] or chosen
        with files.understood(path, "a table of choices"):
            return cls(
                layer=int(rows["layer"]["value"]),
                strength=float(rows["strength"]["value"]),
                scope=rows["ablation"]["value"],
                fixed=tuple(what for what, row in rows.items() if row["criterion"] == FIXED),
                criterion_value=chosen[0]["criterion_value"] if chosen else float("nan"),
                languages=tuple(chosen[0]["languages"].split(",")) if chosen else (),
                own={row["language"]: float(row["value"]) for row in found if row["language"]},
                grid=tuple(GridPoint(**point) for point in grid),
                dips={int(layer): value for layer, value in dips.items()},
                unit=said.get(b"unit", b"gap").decode(),
            )


def chosen_row(
    what: str, value: str, criterion_value: float, languages: Sequence[str], language: str = ""
) -> dict[str, Any]:
    """A row of a table of choices: what `languages` chose by the criterion, for `language` or, empty, for the model."""
    said = {"criterion": CRITERION, "criterion_value": criterion_value, "split": "val"}
    return {"what": what, "language": language, "value": value, **said, "languages": ",".join(languages)}


def fixed_row(what: str, value: str) -> dict[str, Any]:
    """A row of a table of choices: what the settings say, so that no prompt was asked."""
    said = {"criterion": FIXED, "criterion_value": None, "split": "", "languages": ""}
    return {"what": what, "language": "", "value": value, **said}


def write(
    path: str | Path,
    rows: Sequence[Mapping[str, Any]],
    said: Mapping[str, str],
    provenance: Mapping[str, Any],
    of: Mapping[str, object] | None = None,
) -> None:
    """Write a table of choices; `said`, how candidates did, goes into its metadata, and what it is `of`."""
    import pyarrow as pa

    kinds = {name: pa.float64() if name == "criterion_value" else pa.string() for name in rows[0]}
    table = pa.Table.from_pylist(list(rows), schema=pa.schema(kinds)).replace_schema_metadata(dict(said))
    files.write_parquet(path, table, provenance, of)


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
    grid = [p for layer in layers for p in _layer_grid(harmful, layer, strengths, scopes, flags(layer), outcomes)]
    if not grid:
        raise PolygateError("there is no candidate layer, strength or scope to choose from")
    settings = list(dict.fromkeys((point.layer, point.scope) for point in grid))
    tried = {where: [point for point in grid if (point.layer, point.scope) == where] for where in settings}
    worth = [
        float(np.mean([max(point.by_language[name] for point in tried[where]) for name in harmful]))
        for where in settings
    ]
    first = first_best(worth)
    points = tried[settings[first]]
    best = points[first_best([point.criterion for point in points])]
    own = {}
    for name in harmful:
        values = [point.by_language[name] for point in points]
        if max(values) > best.by_language[name] + _WORSE_BY_ROUNDING:
            own[name] = points[first_best(values)].strength
    return Choice(best.layer, best.strength, best.scope, tuple(fixed), worth[first], tuple(harmful), own, tuple(grid))


def first_best(values: Sequence[float]) -> int:
    """Index of the first that no other beats."""
    return next(index for index, value in enumerate(values) if value >= max(values) - _WORSE_BY_ROUNDING)


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
            done = {
                name: routed(len(harmful[name]), (steered[name], additions[name]), (spared[name], ablations[name]))
                for name in harmful
            }
            points.append(GridPoint(layer, strength, scope, *rates(done, harmful)))
    return points


def rates(
    done: Mapping[str, NDArray[np.str_]], harmful: Mapping[str, NDArray[np.bool_]]
) -> tuple[float, float, float, dict[str, float]]:
    """Selectivity, compliance and criterion as means over languages, and the criterion by language.

    `done`: per language one outcome per prompt, str [n]; `harmful`: their labels, bool [n], both classes present.
    """
    selectivity = {name: _selectivity(done[name], harmful[name]) for name in harmful}
    compliance = {name: float(np.mean(done[name][~harmful[name]] == "complied")) for name in harmful}
    criterion = {name: selectivity[name] + COMPLIANCE_WEIGHT * compliance[name] for name in harmful}
    mean = [float(np.mean(list(values.values()))) for values in (selectivity, compliance, criterion)]
    return mean[0], mean[1], mean[2], criterion


def routed(n: int, *parts: tuple[NDArray[np.int64], Sequence[str]]) -> NDArray[np.str_]:
    """One outcome per prompt, str [n], of `parts`: the prompts' places and their outcomes."""
    outcome = np.full(n, "", dtype="<U16")
    for rows, values in parts:
        outcome[rows] = list(values)
    return outcome


def _selectivity(outcome: NDArray[np.str_], harmful: NDArray[np.bool_]) -> float:
    refused = outcome == "refused"
    return float(refused[harmful].mean() - refused[~harmful].mean())
