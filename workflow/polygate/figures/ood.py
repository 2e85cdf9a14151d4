"""Balanced accuracy of the gates on other data sets against budget, by tier, beside that of the controls' gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("dataset", "model", "tier", "language", "pairing", "category", "gate", "budget", "metric"),
    *(*reading.INTERVAL, "n", *reading.bounded("surface"), *reading.bounded("semantic")),
)
KEPT = ("dataset", "model", "tier", "gate", "budget", "estimate", "low", "high", "n")


@dataclass(frozen=True)
class Look:
    """How a gate is drawn; `marker` "" for the tier's."""

    line: str
    width: float
    offset: float
    marker: str = ""
    filled: bool = True


GATES = {
    "v_hrl": Look("--", 0.8, -0.06, filled=False),
    "subspace": Look("-", 1.3, -0.02),
    "surface": Look(":", 0.8, 0.02, "x"),
    "semantic": Look("-.", 0.8, 0.06, "P"),
}
CONTROLS = {"surface": "a gate on their surface alone", "semantic": "a gate on a small encoder"}
"""Gates that no model takes part in, and their names."""


def select(ood: pd.DataFrame) -> pd.DataFrame:
    """Tier means of balanced accuracy against harmless prompts of the fitted data set, the controls' as gates.

    Where no data set is paired with those, against its own.
    """
    import pandas as pd

    rows = ood[(ood["metric"] == "balanced_accuracy") & (ood["language"] == "") & (ood["category"] == "")]
    first = rows.groupby("dataset", sort=False)["pairing"].transform("first")
    rows = rows[rows["pairing"] == first]
    # Every gate of a budget stands beside the same gates of the controls.
    once = rows.drop_duplicates(["dataset", "model", "tier", "budget"])
    found = [rows]
    for name in CONTROLS:
        beside = reading.of_control(once, name, gate=name)
        found += [beside] if beside["estimate"].notna().any() else []
    return pd.concat([part[list(KEPT)] for part in found], ignore_index=True)


def plot(data: pd.DataFrame) -> Figure:
    """Budgets at equal steps, balanced accuracy from chance to 1 (lower where an estimate is), a row per data set."""
    with style.theme():
        budgets, tiers = sorted(data["budget"].unique()), style.present(data["tier"])
        models, datasets = reading.names(data, "model"), reading.names(data, "dataset")
        grid = style.panels(models, width=1.5, height=2.4, rows=datasets, sharex=True, sharey=True)
        floor = min(0.5, float(data["low"].min()))
        for (dataset, model), axes in grid.named.items():
            mine = data[(data["model"] == model) & (data["dataset"] == dataset)]
            for number, tier in enumerate(tiers):
                shift = 0.2 * (number - (len(tiers) - 1) / 2)
                for gate in [name for name in GATES if (data["gate"] == name).any()]:
                    chosen = mine[(mine["tier"] == tier) & (mine["gate"] == gate)].sort_values("budget")
                    _line(axes, chosen, budgets, tier, gate, shift)
            axes.axhline(0.5, color=style.BASELINE, linewidth=0.7, zorder=1)
            axes.set_title(model if dataset == datasets[0] else "")
            axes.set_xticks(range(len(budgets)), [f"{budget:.0f}" for budget in budgets])
            axes.set_xlim(-0.5, len(budgets) - 0.5)
            axes.set_xlabel("examples per class" if dataset == datasets[-1] else "")
            axes.set_ylim(floor - 0.02, 1.02)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for axes, dataset in zip(grid.axes[:, 0], datasets, strict=True):
            axes.set_ylabel(f"balanced accuracy\n{dataset}")
        entries = [style.Entry(f"{tier}-resource languages", style.tier_marks([tier])) for tier in tiers]
        entries.append(style.Entry("rank 1 instead of the routing rank", style.tier_marks(tiers, filled=False)))
        for control, label in CONTROLS.items():
            if (data["gate"] == control).any():
                entries.append(style.Entry(label, style.tier_marks(tiers, GATES[control].marker)))
        return style.head(grid, "How the gate does on harmful prompts of another kind", entries)


def _line(axes: Axes, mine: pd.DataFrame, budgets: Sequence[float], tier: str, gate: str, shift: float) -> None:
    look, colour = GATES[gate], style.TIER_COLOURS[tier]
    place = [budgets.index(budget) + shift + look.offset for budget in mine["budget"]]
    axes.vlines(place, mine["low"], mine["high"], color=colour, linewidth=0.9 * look.width, zorder=2)
    axes.plot(
        place,
        mine["estimate"],
        color=colour,
        linestyle=look.line,
        linewidth=look.width,
        marker=look.marker or style.TIER_MARKERS[tier],
        markerfacecolor=colour if look.filled else "white",
        markersize=4,
        zorder=3,
        label=gate,
    )


def draw(ood: Path | str, svg: Path | str, data: Path | str) -> None:
    """`ood.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(ood, COLUMNS))
    style.finish(drawn, plot, svg, data, "Balanced accuracy of gates out of distribution by budget, tier and model")
