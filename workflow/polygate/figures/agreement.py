"""Agreement of judges with one another and with people, beyond chance, by language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "judge", "against", "measure", "estimate", "low", "high", "n")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
MOST = len(style.PROBE_COLOURS)
"""Pairs that one figure tells apart: the first, which are those of the first judge, then of the second …"""


def select(agreement: pd.DataFrame) -> pd.DataFrame:
    """κ of every language and tier of each model, of the pairs that have any, people first."""
    rows = agreement[(agreement["measure"] == "kappa") & (agreement["model"] != "")]
    rows = rows.assign(series=rows["judge"] + " / " + rows["against"], people=rows["against"] != "people")
    known = rows[rows["estimate"].notna()].sort_values("people", kind="stable")["series"].unique()[:MOST]
    rows = rows[rows["series"].isin(known)]
    order = {name: number for number, name in enumerate(known)}
    rows = rows.assign(place=rows["series"].map(order)).sort_values("place", kind="stable")
    return rows[["model", "tier", "language", "series", "estimate", "low", "high", "n"]].reset_index(drop=True)


def series_of(names: Sequence[str]) -> list[forest.Series]:
    """The pairs, from top to bottom within a language's row."""
    step = 0.64 / max(len(names) - 1, 1)
    first = -0.32 if len(names) > 1 else 0.0
    return [
        forest.Series(name, name, first + step * number, marker=MARKERS[number], colour=style.PROBE_COLOURS[number])
        for number, name in enumerate(names)
    ]


def plot(data: pd.DataFrame) -> Figure:
    """A row per language, a panel per model; the dotted lines are agreement by chance and of 0.8."""
    with style.theme():
        rows = forest.rows_of(data)
        series = series_of(reading.names(data, "series"))
        models = reading.names(data, "model")
        per_row = max(0.2, 0.1 * len(series))
        grid = style.panels(models, width=1.42, height=forest.height(rows, per_row), sharex=True, sharey=True)
        lowest = min(-0.1, float(data["low"].min()) - 0.02)
        for model, axes in grid.axes_dict.items():
            mine = data[data["model"] == model]
            for one in series:
                forest.marks(axes, mine[mine["series"] == one.name], rows, one)
            axes.set_title(model)
            for line in (0, 0.8):
                axes.axvline(line, color=style.INK, linewidth=0.9, linestyle=":", zorder=1)
            axes.set_xlim(lowest, 1.04)
            axes.set_xticks([0, 0.5, 1])
            axes.spines["bottom"].set_bounds(lowest, 1)
            axes.set_xlabel("Cohen's κ")
        for axes in grid.axes.flat:
            forest.dress(axes, rows, names=axes in grid._left_axes, whole="pooled")
        tiers = style.present(data["tier"])
        return style.head(grid, "Do judges agree on what is a refusal?", [one.entry(tiers) for one in series])


def draw(agreement: Path | str, svg: Path | str, data: Path | str) -> None:
    """`agreement.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(agreement, COLUMNS))
    style.finish(drawn, plot, svg, data, "Agreement of judges on refusals by language and model, with intervals")
