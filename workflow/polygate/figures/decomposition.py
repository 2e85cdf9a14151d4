"""What becomes of harmful prompts: acted on, or lost to action, calibration or representation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "scorer", "budget", "part", "estimate", "low", "high", "n")
LABELS = {
    "acted": "acted: refused",
    "action": "action: knew, did not act",
    "calibration": "calibration: flagged after examples",
    "representation": "representation: never flagged",
}
PLACES = {"gate": (-0.12, 0.5), "semantic": (0.22, 0.12), "surface": (0.37, 0.12)}
"""Where the bar of a scorer stands within a row, and how thick it is."""
THIN = {"semantic": "an encoder", "surface": "the surface"}
"""The bars that no model takes part in, from the top down."""


def select(decomposition: pd.DataFrame, budget: int | None = None) -> pd.DataFrame:
    """The four parts at one budget by each scorer's flags; `left`, where each is drawn, is the sum of those before."""
    if budget is None:
        budget = reading.headline_budget(decomposition["budget"])
    rows = decomposition[decomposition["budget"] == budget].copy()
    rows["order"] = rows["part"].map(style.PARTS.index)
    rows = rows.sort_values("order", kind="stable")
    ends = rows.groupby(["model", "tier", "language", "scorer"], sort=False)["estimate"].cumsum()
    rows["left"] = (ends - rows["estimate"]).clip(lower=0)
    columns = ["model", "tier", "language", "scorer", "budget", "part", "left", "estimate", "low", "high", "n"]
    return rows.sort_index()[columns].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Stacked bars from 0 to 100 %, a row per language, a panel per model; the controls' are thin, below the gate's.

    The whisker of a part is its own interval, drawn where the part ends (for the last part, where it begins).
    """
    with style.theme():
        rows = forest.rows_of(data)
        grid = style.panels(
            reading.names(data, "model"), width=1.42, height=forest.height(rows, 0.27), sharex=True, sharey=True
        )
        for model, axes in grid.named.items():
            mine = data[data["model"] == model]
            for part in style.PARTS:
                for scorer in PLACES:
                    _stack(axes, mine[(mine["part"] == part) & (mine["scorer"] == scorer)], rows, part, scorer)
            axes.set_title(model)
            axes.set_xlim(0, 100)
            axes.set_xticks([0, 50, 100])
            axes.set_xlabel("harmful prompts, %")
        for axes in grid.named.values():
            forest.dress(axes, rows, names=axes in grid.left)
        marks = {part: style.mark(marker="s", colour=style.PART_COLOURS[part]) for part in style.PARTS}
        keys = [style.Entry(LABELS[part], (marks[part],)) for part in style.PARTS]
        if thin := [label for scorer, label in THIN.items() if (data["scorer"] == scorer).any()]:
            keys.append(style.Entry(f"thin: by {', '.join(thin)}", tuple(marks.values())[1:]))
        return style.head(grid, "What becomes of harmful prompts without steering", keys)


def _stack(axes: Axes, mine: pd.DataFrame, rows: Sequence[forest.Row], part: str, scorer: str) -> None:
    offset, thick = PLACES[scorer]
    place = {(row.tier, row.language): row.position + offset for row in rows}
    at = [place[key] for key in zip(mine["tier"], mine["language"], strict=True)]
    colour = style.PART_COLOURS[part]
    axes.barh(
        at, 100 * mine["estimate"], thick, left=100 * mine["left"], color=colour, linewidth=0, zorder=2, label=part
    )
    if scorer in THIN:
        return
    apart = (style.PARTS.index(part) - 1.5) * 0.13
    if part == style.PARTS[-1]:
        low, high = 100 * (1 - mine["high"]), 100 * (1 - mine["low"])
    else:
        low, high = 100 * (mine["left"] + mine["low"]), 100 * (mine["left"] + mine["high"]).clip(upper=1)
    axes.hlines([position + apart for position in at], low, high, color=style.INK, linewidth=0.8, zorder=3)


def draw(decomposition: Path | str, svg: Path | str, data: Path | str, budget: int | None = None) -> None:
    """`decomposition.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(decomposition, COLUMNS), budget)
    style.finish(drawn, plot, svg, data, "Harmful prompts acted on, or lost to action, calibration or representation")
