"""U-Score by layer, a line per tier: where translations lie nearer to each other than other prompts do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "split", "layer", "read", "estimate", "low", "high", "n")


def select(table: pd.DataFrame) -> pd.DataFrame:
    """Test prompts: the languages, and the means of their tiers."""
    rows = table[table["split"] == "test"]
    rows = rows.assign(read=rows["read"].astype(str).str.lower() == "true")
    return rows[list(COLUMNS)].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """A panel per model; thick lines are tiers, with their intervals, thin ones languages."""
    with style.theme():
        models = reading.names(data, "model")
        grid = style.panels(models, width=1.5, height=2.9, sharey=True, sharex=False)
        for model, axes in grid.named.items():
            mine = data[data["model"] == model]
            for layer in mine.loc[mine["read"].astype(bool), "layer"].unique():
                axes.axvline(layer, color=style.FAINT, linewidth=4, zorder=0)
            axes.axhline(0, color=style.INK, linewidth=0.7, linestyle=":", zorder=1)
            for (tier, language), rows in mine.groupby(["tier", "language"], sort=False):
                colour, rows = style.TIER_COLOURS[str(tier)], rows.sort_values("layer")
                if language:
                    axes.plot(rows["layer"], rows["estimate"], color=colour, linewidth=0.5, alpha=0.5, zorder=2)
                    continue
                axes.fill_between(rows["layer"], rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
                marker = style.TIER_MARKERS[str(tier)]
                axes.plot(rows["layer"], rows["estimate"], color=colour, marker=marker, markersize=3.2, zorder=3)
            axes.set_title(model)
            axes.set_xlabel("layer")
            axes.locator_params(axis="x", nbins=5, integer=True)
        next(iter(grid.named.values())).set_ylabel("U-Score")
        entries = [style.Entry(f"{tier}-resource", style.tier_marks([tier])) for tier in style.present(data["tier"])]
        entries.append(style.Entry("layer OMNIGuard reads", (style.mark(marker="s", colour=style.FAINT),)))
        return style.head(grid, "How much nearer translations lie than other prompts", entries)


def draw(table: Path | str, svg: Path | str, data: Path | str) -> None:
    """`uscore.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(table, COLUMNS))
    style.finish(drawn, plot, svg, data, "U-Score of test prompts by layer, language, tier and model")
