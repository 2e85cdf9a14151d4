"""Tasks with options, arm by arm, by tier: what steering costs where nothing is to be refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("dataset", "model", "tier", "language", "arm", "budget", "metric"),
    *("estimate", "low", "high", "n", "chance", "change", "p_holm"),
)
KEPT = ("dataset", "model", "tier", "arm", "metric", "estimate", "low", "high", "n", "chance")
METRICS = {"accuracy": "accuracy", "margin": "margin (logits)", "flagged": "gated harmful"}
"""Metrics that are drawn, and what their axes say."""


def select(utility: pd.DataFrame) -> pd.DataFrame:
    """Tier means; `arm` holds the budget of routed arms, as in routed-16."""
    rows = utility[utility["metric"].isin(METRICS) & (utility["language"] == "")]
    budgets = rows["budget"].map(lambda budget: "" if budget != budget else f"-{budget:.0f}")
    return rows.assign(arm=rows["arm"] + budgets)[list(KEPT)].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Arms side by side, a mark per tier, a row of panels per task and metric; thin lines at what is unsteered."""
    with style.theme():
        arms, tiers = reading.names(data, "arm"), style.present(data["tier"])
        models, datasets = reading.names(data, "model"), reading.names(data, "dataset")
        present = [metric for metric in METRICS if (data["metric"] == metric).any()]
        rows = {f"{dataset} {metric}": (dataset, metric) for dataset in datasets for metric in present}
        grid = style.panels(models, width=1.6, height=1.75, rows=list(rows), sharex=True, sharey="row")
        first, last = next(iter(rows)), next(reversed(rows))
        for (row, model), axes in grid.named.items():
            dataset, metric = rows[row]
            mine = data[(data["model"] == model) & (data["dataset"] == dataset) & (data["metric"] == metric)]
            for number, tier in enumerate(tiers):
                _marks(axes, mine[mine["tier"] == tier], arms, tier, 0.22 * (number - (len(tiers) - 1) / 2))
            for level in mine["chance"].dropna().unique():
                axes.axhline(level, color=style.BASELINE, linestyle=":", linewidth=1, zorder=1)
            axes.set_title(model if row == first else "")
            axes.set_xticks(range(len(arms)), arms, rotation=90)
            axes.tick_params(axis="x", length=3 if row == last else 0)
            axes.set_xlim(-0.6, len(arms) - 0.4)
            axes.set_xlabel("")
            if metric != "margin":
                axes.set_ylim(-0.03, 1.03)
                axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for axes, (dataset, metric) in zip(grid.axes[:, 0], rows.values(), strict=True):
            axes.set_ylabel(METRICS[metric] if len(datasets) == 1 else f"{METRICS[metric]}\n{dataset}")
        entries = [style.Entry(f"{tier}-resource languages", style.tier_marks([tier])) for tier in tiers]
        entries.append(style.Entry("drawing lots", (style.mark(marker="", colour=style.BASELINE, line=":"),)))
        return style.head(grid, "What steering costs where nothing is to be refused", entries)


def _marks(axes: Axes, mine: pd.DataFrame, arms: Sequence[str], tier: str, shift: float) -> None:
    place = [arms.index(arm) + shift for arm in mine["arm"]]
    colour = style.TIER_COLOURS[tier]
    for level in mine.loc[mine["arm"] == "none", "estimate"]:
        axes.axhline(level, color=colour, linewidth=0.7, alpha=0.5, zorder=1)
    axes.vlines(place, mine["low"], mine["high"], color=colour, linewidth=1.1, zorder=2)
    axes.plot(
        place,
        mine["estimate"],
        color=colour,
        linestyle="none",
        marker=style.TIER_MARKERS[tier],
        markersize=3.5,
        zorder=3,
    )


def draw(utility: Path | str, svg: Path | str, data: Path | str) -> None:
    """`utility.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(utility, COLUMNS))
    style.finish(drawn, plot, svg, data, "Tasks with options by arm, tier and model: accuracy, margin, share flagged")
