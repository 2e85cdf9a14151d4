"""The smallest difference that can be seen, by number of prompts: a panel per quantity, a line per tier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLES = {
    "refused": "harmful refused",
    "selectivity": "selectivity",
    "f1": "gate F1",
    "auc": "AUC",
}


def draw(rows: Sequence[dict[str, Any]], svg: Path | str) -> None:
    """Rows of `power.csv` → the figure: the most draws that are there, all languages of a tier and one."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    most = frame.groupby(["tier", "quantity"])["draws"].transform("max")
    style.save(
        plot(frame[(frame["draws"] == most) & frame["detectable"].notna()]),
        svg,
        "The smallest difference that can be seen, by prompts",
    )


def plot(data: pd.DataFrame) -> Figure:
    """Both axes grow by factors."""
    with style.theme():
        quantities = [name for name in TITLES if name in set(data["quantity"])]
        grid = style.panels([TITLES[name] for name in quantities], width=1.7, height=2.3, columns=4, sharey=True)
        tiers = style.present(data["tier"])
        for name, axes in zip(quantities, grid.named.values(), strict=True):
            for tier in tiers:
                mine = data[(data["quantity"] == name) & (data["tier"] == tier)]
                for count in sorted(mine["languages"].unique()):
                    line = mine[mine["languages"] == count].sort_values("prompts")
                    several = count == mine["languages"].max()
                    axes.plot(
                        line["prompts"],
                        100 * line["detectable"],
                        color=style.TIER_COLOURS[tier],
                        marker=style.TIER_MARKERS[tier] if several else "",
                        markersize=3.5,
                        linestyle="-" if several else ":",
                    )
            axes.set_title(TITLES[name])
            axes.set_xscale("log")
            axes.set_yscale("log")
            ticks = sorted(data["prompts"].unique())
            axes.set_xticks(ticks[:: max(1, len(ticks) // 4)], [f"{n:.0f}" for n in ticks[:: max(1, len(ticks) // 4)]])
            axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
            axes.minorticks_off()
            axes.set_xlabel("prompts per class")
            axes.grid(axis="y")
        next(iter(grid.named.values())).set_ylabel("points that can be seen")
        entries = [style.Entry(f"{tier}-resource, mean over its languages", style.tier_marks([tier])) for tier in tiers]
        entries.append(style.Entry("one language", (style.mark(marker="", line=":"),)))
        power = f"{data['power'].iloc[0]:.0%}".replace("%", " %")
        return style.head(grid, f"Differences that are found in {power} of experiments", entries)
