"""Reading the long tables that figures are drawn from."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygate import files
from polygate.errors import PolygateError
from polygate.tables.samples import handful

if TYPE_CHECKING:
    import pandas as pd

TEXT = (
    "dataset",
    "model",
    "tier",
    "language",
    "arm",
    "judge",
    "subset",
    "outcome",
    "scorer",
    "prompts",
    "metric",
    "part",
    "probe",
    "rule",
    "sources",
    "threshold_from",
    "position",
    "direction",
    "target",
    "source",
    "source_tier",
    "split",
    "pairing",
    "category",
    "gate",
    "split",
    "translation",
)
INTERVAL = ("estimate", "low", "high")


def bounded(name: str) -> tuple[str, str, str]:
    """The columns of a number that has an interval of its own beside a row's `INTERVAL`."""
    return name, f"{name}_low", f"{name}_high"


NUMBERS = (
    *(*INTERVAL, "layer", "rank", "budget", "draw", "n_effective", "score", "density", "dose", "alpha", "alignments"),
    *(*bounded("surface"), *bounded("semantic"), "strength", "chance", "threshold", "p_holm"),
)


def read_table(path: Path | str, columns: Sequence[str], judge: str = "") -> pd.DataFrame:
    """A table with its names as text ("" where empty, whatever a language is called) and its numbers as floats.

    In a table of several data sets its rows are those of the one that everything is fitted on, which stand first,
    unless `dataset` is among `columns`; of several judges they are those of `judge` if it has some, else the first
    one's, unless "judge" is among `columns`. Raises `PolygateError` when the file or one of `columns` is absent, or the
    file is damaged.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(io.StringIO(files.read_csv(path)), dtype=dict.fromkeys(TEXT, str), keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise PolygateError("empty table", where=path, do="delete the file and rerun") from None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise PolygateError(f"column {missing[0]!r} is missing", where=path, do="delete the file and rerun")
    for name in ("dataset", "judge"):
        if name in frame.columns and name not in columns and len(frame):
            wanted = judge if name == "judge" and judge in set(frame[name]) else frame[name].iloc[0]
            frame = frame[frame[name] == wanted].reset_index(drop=True)
    numbers = [name for name in frame.columns if name in NUMBERS]
    return frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in numbers})


def chosen_layers(choices: pd.DataFrame) -> dict[str, int]:
    """The layer of every model in `choices.csv`."""
    layers = choices[choices["what"] == "layer"]
    return {str(model): int(value) for model, value in zip(layers["model"], layers["value"], strict=True)}


def at_chosen_layer(frame: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Rows at their model's chosen layer, and rows that belong to no layer (surface baselines)."""
    layer = frame["model"].map(chosen_layers(choices))
    return frame[frame["layer"].isna() | (frame["layer"] == layer)]


def names(frame: pd.DataFrame, column: str) -> list[str]:
    """Distinct values of a column in the order of the table."""
    return [str(value) for value in frame[column].unique()]


def headline_budget(budgets: Iterable[float]) -> int:
    """The budget a figure shows where it has room for one: the handful of examples of the report's answers."""
    return handful(sorted({int(budget) for budget in budgets if budget == budget} or {0}))


def of_control(rows: pd.DataFrame, name: str, **what: str) -> pd.DataFrame:
    """Rows that say of a control what `rows` say beside their own estimates, in the columns `bounded(name)`.

    `what`: the columns by which they differ from `rows`, and how.
    """
    found = {column: rows[given] for column, given in zip(INTERVAL, bounded(name), strict=True)}
    return rows.assign(**found, **what)
