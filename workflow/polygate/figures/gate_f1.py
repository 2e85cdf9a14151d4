"""F1 of the gate against the number of target-language examples, by tier."""

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
    *("model", "tier", "language", "rank", "budget", "draw", "metric", "threshold_from", "scorer"),
    *("estimate", "low", "high", "n"),
)

CONTROLS = {
    "surface": ("a gate on their surface alone", "x", ":"),
    "semantic": ("a gate on a small encoder", "+", "--"),
}
"""Label, marker and line of the gates that no model takes part in."""


def select(gates: pd.DataFrame, rank: int) -> pd.DataFrame:
    """Tier means of F1 over draws, of the routing gates and of gates on the surface alone and on a small encoder.

    The rank is `rank`, or the largest that a tier's gates have: a high-resource target has one source less. The
    threshold is the sources' at budget 0, the examples' above it.
    """
    rows = gates[(gates["metric"] == "f1") & (gates["language"] == "") & gates["draw"].isna()]
    of_gate = rows["scorer"] == "gate"
    usable = rows["rank"].where(of_gate & (rows["rank"] <= rank))
    largest = usable.groupby([rows["model"], rows["tier"]]).transform("max")
    rows = rows[~of_gate | (rows["rank"] == largest)]
    columns = ["model", "tier", "scorer", "rank", "budget", "threshold_from", "estimate", "low", "high", "n"]
    return rows[columns].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Budgets at equal steps (they grow by factors), F1 from 0 to 1, one line per tier with its intervals."""
    with style.theme():
        budgets = sorted(data["budget"].unique())
        tiers = style.present(data["tier"])
        grid = style.panels(reading.names(data, "model"), width=1.5, height=2.8, sharex=True, sharey=True)
        for model, axes in grid.named.items():
            for number, tier in enumerate(tiers):
                shift = 0.14 * (number - (len(tiers) - 1) / 2)
                mine = data[(data["model"] == model) & (data["tier"] == tier)].sort_values("budget")
                for scorer in (*CONTROLS, "gate"):
                    _line(axes, mine[mine["scorer"] == scorer], budgets, tier, scorer, shift)
            axes.set_title(model)
            axes.set_xticks(range(len(budgets)), [f"{budget:.0f}" for budget in budgets])
            axes.set_xlim(-0.5, len(budgets) - 0.5)
            axes.set_xlabel("examples per class")
            axes.set_ylim(0, 1.02)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for axes in grid.left:
            axes.set_ylabel("F1")
        entries = [style.Entry(f"{tier}-resource languages", style.tier_marks([tier])) for tier in tiers]
        for scorer, (label, marker, _) in CONTROLS.items():
            if (data["scorer"] == scorer).any():
                entries.append(style.Entry(label, style.tier_marks(tiers, marker)))
        return style.head(grid, "How well the gate tells harmful prompts", entries)


def _line(axes: Axes, mine: pd.DataFrame, budgets: Sequence[float], tier: str, scorer: str, shift: float) -> None:
    place = [budgets.index(budget) + shift for budget in mine["budget"]]
    colour = style.TIER_COLOURS[tier]
    _, marker, line = CONTROLS.get(scorer, ("", style.TIER_MARKERS[tier], "-"))
    control = scorer in CONTROLS
    axes.vlines(place, mine["low"], mine["high"], color=colour, linewidth=0.8 if control else 1.3, zorder=2)
    axes.plot(
        place,
        mine["estimate"],
        color=colour,
        linestyle=line,
        linewidth=0.8 if control else 1.4,
        marker=marker,
        markersize=4,
        zorder=3,
        label=scorer,
    )


def draw(gates: Path | str, svg: Path | str, data: Path | str, rank: int) -> None:
    """`gates.csv` → the figure and the CSV behind it; `rank` is that of the gates that route."""
    drawn = select(reading.read_table(gates, COLUMNS), rank)
    style.finish(drawn, plot, svg, data, "F1 of the gate by number of target-language examples, tier and model")
