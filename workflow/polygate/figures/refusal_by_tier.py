"""Harmful and harmless prompts refused by the unsteered models, by tier: does it act?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "arm", "subset", "outcome", "estimate", "low", "high", "n")
SUBSETS = ("harmful", "harmless")
WIDTH = 0.38


def select(refusal: pd.DataFrame) -> pd.DataFrame:
    """Tier means of the refused share without steering: model, tier, subset, estimate, low, high, n."""
    rows = refusal[(refusal["arm"] == "none") & (refusal["outcome"] == "refused") & (refusal["language"] == "")]
    return rows[["model", "tier", "subset", "estimate", "low", "high", "n"]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Bars from 0 to 100 % with intervals; harmful filled, harmless open; the estimate above each bar."""
    with style.theme():
        grid = style.panels(reading.names(data, "model"), width=1.5, height=2.7, sharey=True)
        tiers = style.present(data["tier"])
        for model, axes in grid.named.items():
            for (tier, subset), row in data[data["model"] == model].groupby(["tier", "subset"]):
                _bar(axes, tiers.index(tier), tier, subset, row.iloc[0])
            axes.set_title(model)
            axes.set_xticks(range(len(tiers)), tiers)
            axes.set_xlabel("resources")
            axes.set_ylim(0, 112)
            axes.set_yticks(range(0, 101, 25))
            axes.spines["left"].set_bounds(0, 100)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for axes in grid.left:
            axes.set_ylabel("refused, %")
        keys = [style.Entry(name, style.tier_marks(tiers, "s", filled=name == "harmful")) for name in SUBSETS]
        return style.head(grid, "Prompts refused without steering", keys)


def _bar(axes: Axes, place: int, tier: str, subset: str, row: pd.Series) -> None:
    colour = style.TIER_COLOURS[tier]
    x = place + (-0.5 if subset == "harmful" else 0.5) * WIDTH
    face = colour if subset == "harmful" else "white"
    estimate, low, high = (100 * row[name] for name in reading.INTERVAL)
    axes.bar(x, estimate, WIDTH * 0.92, color=face, edgecolor=colour, linewidth=1, zorder=2)
    axes.vlines(x, low, high, color=style.INK, linewidth=1.1, zorder=3)
    axes.text(x, high + 2, f"{estimate:.0f}", ha="center", va="bottom", fontsize=7.5)


def draw(refusal: Path | str, svg: Path | str, data: Path | str) -> None:
    """`refusal.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(refusal, COLUMNS))
    style.finish(
        drawn, plot, svg, data, "Share of harmful and harmless prompts refused without steering, by tier and model"
    )
