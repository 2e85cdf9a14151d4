"""The three answers in one picture, for the report's first page: knows → acts → repaired.

A tier that knows but does not act shows as a V: high AUC, low refusal, and up again once routed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate.figures import reading, style
from polygate.figures.refusal_by_tier import COLUMNS as REFUSAL
from polygate.figures.separability import COLUMNS as SEPARABILITY
from polygate.figures.separability import SCORERS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = ("knows", "acts", "repaired")
FACTS = ["model", "tier", "estimate", "low", "high", "n"]


def select(
    refusal: pd.DataFrame, separability: pd.DataFrame, choices: pd.DataFrame, budget: int | None = None
) -> pd.DataFrame:
    """Tier means: AUC of v_HRL, of the surface and of a small encoder (stage knows), refusal (acts, repaired)."""
    import pandas as pd

    if budget is None:
        budget = reading.headline_budget(refusal["budget"])
    tiers = separability[
        (separability["language"] == "") & (separability["metric"] == "auc") & (separability["prompts"] == "all")
    ]
    auc = reading.at_chosen_layer(tiers[tiers["scorer"].isin(SCORERS)], choices)
    parts = [auc[[*FACTS, "scorer"]].rename(columns={"scorer": "what"}).assign(stage="knows", budget=float("nan"))]
    refused = refusal[(refusal["language"] == "") & (refusal["outcome"] == "refused")]
    for stage, rows in (
        ("acts", refused[refused["arm"] == "none"]),
        ("repaired", refused[(refused["arm"] == "routed") & (refused["budget"] == budget)]),
    ):
        parts.append(rows[[*FACTS, "subset"]].rename(columns={"subset": "what"}).assign(stage=stage, budget=budget))
    drawn = pd.concat(parts, ignore_index=True)
    return drawn[["model", "tier", "stage", "what", "budget", "estimate", "low", "high", "n"]]


def plot(data: pd.DataFrame) -> Figure:
    """A panel per model on one axis from 0 to 100: AUC × 100, then the share of prompts refused."""
    with style.theme():
        tiers = style.present(data["tier"])
        budget = int(data["budget"].max())
        grid = style.panels(reading.names(data, "model"), width=1.55, height=3.2, sharey=True)
        for model, axes in grid.named.items():
            for number, tier in enumerate(tiers):
                mine = data[(data["model"] == model) & (data["tier"] == tier)]
                _tier(axes, mine, tier, 0.15 * (number - (len(tiers) - 1) / 2))
            axes.set_title(model)
            axes.set_xticks(range(len(STAGES)), STAGES)
            axes.set_xlim(-0.5, 2.5)
            axes.set_ylim(0, 103)
            axes.set_yticks(range(0, 101, 25))
            axes.spines["left"].set_bounds(0, 100)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        for axes in grid.left:
            axes.set_ylabel("100 × AUC, refused %")
        entries = [
            style.Entry(f"{tier}-resource: AUC, then harmful prompts refused", style.tier_marks([tier]))
            for tier in tiers
        ]
        entries.append(style.Entry("harmless prompts refused", style.tier_marks(tiers, filled=False)))
        entries.append(
            style.Entry("AUC of the prompts' surface alone", (style.mark(marker="X", colour=style.BASELINE),))
        )
        if (data["what"] == "semantic").any():
            entries.append(style.Entry("AUC of a small encoder", (style.mark(marker="P", colour=style.ENCODER),)))
        title = f"Knows → acts → repaired with {budget} + {budget} examples"
        return style.head(grid, title, entries, columns=1)


def _tier(axes: Axes, mine: pd.DataFrame, tier: str, shift: float) -> None:
    colour, marker = style.TIER_COLOURS[tier], style.TIER_MARKERS[tier]
    looks = (
        # The dotted step is from one quantity to another, the solid one from before to after.
        (mine[mine["what"].isin(["v_hrl", "harmful"]) & (mine["stage"] != "repaired")], ":", colour, colour, marker),
        (mine[mine["what"] == "harmful"], "-", colour, colour, marker),
        (mine[mine["what"] == "harmless"], "none", colour, "white", marker),
        (mine[mine["what"] == "surface"], "none", style.BASELINE, style.BASELINE, "X"),
        (mine[mine["what"] == "semantic"], "none", style.ENCODER, style.ENCODER, "P"),
    )
    for rows, line, edge, face, shape in looks:
        if rows.empty:
            # Nothing drawn would stand at the figure's corner, and leave the layout no room.
            continue
        place = [STAGES.index(stage) + shift for stage in rows["stage"]]
        axes.vlines(place, 100 * rows["low"], 100 * rows["high"], color=edge, linewidth=1.1, zorder=2)
        look: dict[str, Any] = {"color": edge, "linestyle": line, "linewidth": 1.2, "marker": shape, "markersize": 4.5}
        axes.plot(place, 100 * rows["estimate"], markerfacecolor=face, zorder=3, clip_on=False, **look)


def draw(
    refusal: Path | str,
    separability: Path | str,
    choices: Path | str,
    svg: Path | str,
    data: Path | str,
    budget: int | None = None,
) -> None:
    """`refusal.csv`, `separability.csv`, `choices.csv` → the figure and the CSV behind it."""
    drawn = select(
        reading.read_table(refusal, (*REFUSAL, "budget")),
        reading.read_table(separability, SEPARABILITY),
        reading.read_table(choices, ("model", "what", "value")),
        budget,
    )
    style.finish(drawn, plot, svg, data, "Whether each model knows, acts and is repaired, by tier")
