"""Lines against the number of examples: a row of panels per tier, a column per model, a line per probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("model", "tier", "language", "probe", "sources", "rank", "budget", "threshold_from", "metric"),
    *("estimate", "low", "high", "n"),
)
KEPT = ("model", "tier", "probe", "sources", "rank", "budget", "threshold_from", "estimate", "low", "high", "n")


@dataclass(frozen=True)
class Line:
    """How a probe is drawn. A probe that takes no examples is `level`: one line across."""

    label: str
    colour: str
    marker: str = "o"
    style: str = "-"
    level: bool = False


def plot(data: pd.DataFrame, lines: Mapping[str, Line], title: str, quantity: str, chance: float | None) -> Figure:
    """Budgets at equal steps (they grow by factors); `chance` is marked where there is such a value."""
    with style.theme():
        tiers, models = style.present(data["tier"]), reading.names(data, "model")
        levels = [name for name, line in lines.items() if line.level]
        budgets = sorted(data.loc[~data["probe"].isin(levels), "budget"].unique())
        grid = style.panels(
            models, rows=[f"{tier}-resource" for tier in tiers], width=1.5, height=1.9, sharex=True, sharey=True
        )
        lowest = min(0.4 if chance is not None else 0.0, float(data["low"].min()))
        for (row, model), axes in grid.named.items():
            mine = data[(data["model"] == model) & (data["tier"] == row.removesuffix("-resource"))]
            for number, (name, line) in enumerate(lines.items()):
                _draw(axes, mine[mine["probe"] == name].sort_values("budget"), budgets, line, number - len(lines) / 2)
            if chance is not None:
                axes.axhline(chance, color=style.INK, linewidth=0.7, linestyle=":", zorder=1)
            axes.set_title(model if row == f"{tiers[0]}-resource" else "")
            axes.set_xticks(range(len(budgets)), [f"{budget:.0f}" for budget in budgets])
            axes.set_xlim(-0.5, len(budgets) - 0.5)
            axes.set_ylim(lowest, 1.02)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for row, axes in zip(tiers, grid.axes[:, 0], strict=True):
            axes.set_ylabel(f"{quantity}, {row}")
        for axes in grid.axes[-1]:
            axes.set_xlabel("examples per class")
        shown = [line for name, line in lines.items() if name in set(data["probe"])]
        marks = [
            style.mark(marker="" if line.level else line.marker, colour=line.colour, line=line.style) for line in shown
        ]
        return style.head(
            grid, title, [style.Entry(line.label, (mark,)) for line, mark in zip(shown, marks, strict=True)]
        )


def _draw(axes: Axes, mine: pd.DataFrame, budgets: Sequence[float], line: Line, step: float) -> None:
    if mine.empty:
        return
    if line.level:
        one = mine.iloc[0]
        axes.axhspan(one["low"], one["high"], color=line.colour, alpha=0.15, linewidth=0, zorder=1)
        axes.axhline(one["estimate"], color=line.colour, linestyle=line.style, linewidth=1.2, zorder=2)
        return
    place = [budgets.index(budget) + 0.05 * step for budget in mine["budget"]]
    axes.vlines(place, mine["low"], mine["high"], color=line.colour, linewidth=0.9, zorder=2)
    axes.plot(
        place,
        mine["estimate"],
        color=line.colour,
        linestyle=line.style,
        linewidth=1.2,
        marker=line.marker,
        markersize=3.2,
        zorder=3,
    )
