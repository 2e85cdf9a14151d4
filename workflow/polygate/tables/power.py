"""power.csv: the smallest difference that n prompts a class, m languages and k draws show, per tier and quantity.

Two results of the run that stand for any two as much alike: refused and selectivity unsteered against routed, F1 of the
gate without examples against with some, AUC of v_HRL against the prompts' surface. Means of models' variances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.measurement.power import SIMULATIONS, Pilot, Quantity, Spread, detectable
from polygate.prompts import table
from polygate.settings.types import TIERS
from polygate.steering.choice import Choice
from polygate.tables.cells import Cell, Test, pivoted, read
from polygate.tables.comparison import Run, flags, scores
from polygate.tables.samples import handful
from polygate.tables.writing import write

COLUMNS = (
    *("tier", "quantity", "prompts", "languages", "draws", "error", "detectable", "level", "power"),
    *("pilot_prompts", "pilot_languages", "pilot_draws", "models"),
)


def build(
    run: Run, *, prompts: Sequence[int], languages: Sequence[int], draws: Sequence[int], power: float
) -> list[dict[str, Any]]:
    """Rows of the table. `languages` empty: one, and as many as the run has in the tier."""
    level = 1 - run.statistics.confidence
    rows = []
    for tier in TIERS:
        names = list(getattr(run.languages, tier))
        for quantity in get_args(Quantity):
            pilots = [pilot for model in run.models() if (pilot := _pilot(run, model, names, quantity)) is not None]
            if not pilots:
                continue
            about = {"tier": tier, "quantity": quantity, "models": len(pilots), "level": level, "power": power}
            about |= {"pilot_prompts": int(pilots[0].harmful.sum()), "pilot_languages": len(names)}
            about["pilot_draws"] = max(len(values) for pilot in pilots for values in pilot.second.values())
            for n in prompts:
                for k in draws if about["pilot_draws"] > 1 else [1]:
                    spread = Spread.mean([Spread.of(one.differences(n, k, SIMULATIONS, run.seed)) for one in pilots])
                    for m in languages or sorted({1, len(names)}):
                        error = spread.error(m)
                        found = {"error": error, "detectable": detectable(error, n, level=level, power=power)}
                        rows.append({**about, "prompts": n, "languages": m, "draws": k, **found})
    if not rows:
        raise PolygateError("no tier has prompts enough to learn variances from", where=run.folder)
    return rows


def save(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write the rows as CSV."""
    write(output, COLUMNS, rows)


def _pilot(run: Run, model: str, languages: Sequence[str], quantity: Quantity) -> Pilot | None:
    """The two results in a tier's languages, on the test prompts that all have; None where something is missing."""
    test = _shared(run, languages)
    if test is None:
        return None
    found = {name: list(_values(run, model, name, quantity, test)) for name in languages}
    if any(len(values) != 2 for values in found.values()):
        return None
    first, second = ({name: values[i] for name, values in found.items()} for i in (0, 1))
    try:
        return Pilot(quantity, test.harmful, first, second)
    except PolygateError:
        return None


def _shared(run: Run, languages: Sequence[str]) -> Test | None:
    ids: dict[str, bool] | None = None
    for name in languages:
        path = run.folder / "prompts" / run.main / f"{name}.parquet"
        if not path.is_file():
            return None
        prompts = table.read(path, language=name)
        here = {prompts.ids[row]: bool(prompts.harmful[row]) for row in prompts.select("test")}
        ids = here if ids is None else {name: label for name, label in ids.items() if name in here}
    return Test(tuple(ids), np.array(list(ids.values()), dtype=bool)) if ids else None


def _values(run: Run, model: str, language: str, quantity: Quantity, test: Test) -> Iterator[NDArray[np.float64]]:
    """The two results, each [draws, n]; fewer than two where the run lacks a file."""
    budget = handful(run.gate.budgets)
    if quantity == "auc":
        layer = Choice.load(run.folder / model / "choices.parquet").layer
        places = (f"{model}/projections", "v_hrl", layer), ("surface", "surface", None)
        for folder, scorer, at in places:
            cell = run.cell(f"{folder}/{language}.parquet", model=model, tier="", language=language)
            if cell is not None:
                yield scores(cell, scorer, at, test)
    elif quantity == "f1":
        path = f"{model}/gate_scores/{run.main}/{language}.parquet"
        cell = run.cell(path, model=model, tier="", language=language)
        if cell is not None:
            yield from (flags(cell, run.gate.rank, b, test) for b in (0, budget))
    else:
        for arm, folder in (("none", "none"), ("routed", f"routed-{budget}")):
            path = f"{model}/judgements/{run.judge}/{folder}/{run.main}/{language}.parquet"
            cell = run.cell(path, model=model, tier="", language=language, arm=arm, judge=run.judge)
            if cell is not None:
                yield _refused(cell, test)


def _refused(cell: Cell, test: Test) -> NDArray[np.float64]:
    keys = ["draw"] if cell.arm == "routed" else []
    found = read(cell, ["prompt_id", "outcome", *keys])
    found = found.append_column("refused", pc.equal(found["outcome"], "refused"))
    return np.stack(list(pivoted(found, keys, "refused", test, cell.path).values())).astype(np.float64)
