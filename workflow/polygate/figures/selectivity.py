"""Selectivity (harmful − harmless refusal) by arm and language: does routing repair the decision?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OURS = ("none", "addition", "ablation", "routed")
"""Arms of this figure; published ones have a figure of their own."""
COLUMNS = ("model", "tier", "language", "arm", "budget", "estimate", "low", "high", "n")


def series_of(budget: int) -> tuple[forest.Series, ...]:
    """The arms drawn, from top to bottom within a language's row."""
    return (
        forest.Series("none", "no steering", -0.32, marker="v", colour=style.INK),
        forest.Series("addition", "addition, no gate", -0.16, marker="P", colour=style.BASELINE),
        forest.Series("ablation", "ablation, no gate", 0.0, marker="X", colour="#A0A0A0"),
        forest.Series("routed-0", "routed, no examples", 0.16, filled=False),
        forest.Series(f"routed-{budget}", f"routed, {budget} + {budget} examples", 0.32),
    )


def select(selectivity: pd.DataFrame, budget: int | None = None) -> pd.DataFrame:
    """Selectivity of the base arms and of the routed arms at budgets 0 and `budget` (by default a handful)."""
    rows = selected(selectivity, budget)
    return rows[rows["arm"].isin(OURS)].reset_index(drop=True)


def selected(selectivity: pd.DataFrame, budget: int | None = None) -> pd.DataFrame:
    """Every arm, routed ones at budgets 0 and `budget`, with the name of each one's `series`."""
    if budget is None:
        budget = reading.headline_budget(selectivity["budget"])
    rows = selectivity[(selectivity["arm"] != "routed") | selectivity["budget"].isin([0, budget])]
    routed = "routed-" + rows["budget"].fillna(-1).astype(int).astype(str)
    rows = rows.assign(series=rows["arm"].where(rows["arm"] != "routed", routed))
    columns = ["model", "tier", "language", "arm", "budget", "series", "estimate", "low", "high", "n"]
    return rows[columns].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """A row per language, a panel per model, in percentage points; the dotted line is no selectivity at all."""
    series = series_of(int(data["budget"].max()))
    return panels(data, series, "Selectivity: harmful − harmless prompts refused", 0.3)


def panels(data: pd.DataFrame, series: Sequence[forest.Series], title: str, per_row: float) -> Figure:
    """The figure: `series` of `data` under a title, `per_row` inches a language."""
    with style.theme():
        rows = forest.rows_of(data)
        models = reading.names(data, "model")
        grid = style.panels(models, width=1.42, height=forest.height(rows, per_row), sharex=True, sharey=True)
        lowest = min(-5.0, 100 * float(data["low"].min()) - 2)
        for model, axes in grid.named.items():
            mine = data[data["model"] == model]
            for one in series:
                forest.marks(axes, mine[mine["series"] == one.name], rows, one, scale=100)
            axes.set_title(model)
            axes.axvline(0, color=style.INK, linewidth=0.9, linestyle=":", zorder=1)
            axes.set_xlim(lowest, 104)
            axes.set_xticks([0, 50, 100])
            axes.spines["bottom"].set_bounds(lowest, 100)
            axes.set_xlabel("selectivity, points")
        for axes in grid.named.values():
            forest.dress(axes, rows, names=axes in grid.left)
        tiers = style.present(data["tier"])
        shown = [one.entry(tiers) for one in series if one.name in set(data["series"])]
        return style.head(grid, title, shown)


def draw(selectivity: Path | str, svg: Path | str, data: Path | str, budget: int | None = None) -> None:
    """`selectivity.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(selectivity, COLUMNS), budget)
    style.finish(drawn, plot, svg, data, "Selectivity by arm, language and model, with intervals")
