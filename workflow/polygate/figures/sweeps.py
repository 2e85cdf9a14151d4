"""Refusal of harmful prompts by the layer whose direction is ablated, and by the strength that is added."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("model", "tier", "language", "kind", "direction", "layer", "strength", "estimate", "low", "high"),
    *("n", "dip", "peak", "chosen"),
)
LINES = {"v_hrl": "-", "v_en": "--"}
AXES = {"layer": "layer of the direction ablated", "strength": "strength λ added"}


def select(sweeps: pd.DataFrame) -> pd.DataFrame:
    """Means over the languages of a tier, at every point."""
    rows = sweeps[sweeps["language"] == ""]
    flags = {name: rows[name].astype(str).str.lower() == "true" for name in ("dip", "peak", "chosen")}
    return rows.assign(**flags)[[*COLUMNS]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Kinds of sweep down, models across, a line per tier; dips and peaks have a mark."""
    with style.theme():
        kinds, models = [kind for kind in AXES if (data["kind"] == kind).any()], reading.names(data, "model")
        grid = style.panels(models, width=1.42, height=1.7, rows=kinds, sharex=False, sharey=True)
        grid.figure.set_figheight(1.7 * len(kinds) + 1.4)
        for (kind, model), axes in grid.named.items():
            _panel(axes, data[(data["model"] == model) & (data["kind"] == kind)], kind)
            axes.set_title(model if kind == kinds[0] else "")
            axes.set_xlabel(AXES[kind] if model == models[len(models) // 2] else "")
            axes.set_ylim(-4, 104)
            axes.set_yticks([0, 50, 100])
            if model == models[0]:
                axes.set_ylabel("refused, %")
        return style.head(grid, "Harmful prompts refused at every point of the sweeps", _entries(data, kinds))


def _panel(axes: Axes, mine: pd.DataFrame, kind: str) -> None:
    for place in mine.loc[mine["chosen"], kind].unique():
        axes.axvline(place, color=style.FAINT, linewidth=4, zorder=0)
    for (tier, direction), rows in mine.groupby(["tier", "direction"], sort=False):
        colour = style.TIER_COLOURS[str(tier)]
        if direction == "none":
            axes.axhline(100 * rows["estimate"].iloc[0], color=colour, linewidth=0.9, linestyle=":", zorder=1)
            continue
        rows = rows.sort_values(kind)
        line = LINES[str(direction)]
        axes.plot(rows[kind], 100 * rows["estimate"], color=colour, linestyle=line, linewidth=1.2, zorder=3)
        if direction == "v_hrl":
            axes.fill_between(rows[kind], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.12, linewidth=0)
        marked = rows[rows["dip"] | rows["peak"]]
        face = colour if direction == "v_hrl" else "white"
        axes.plot(
            marked[kind],
            100 * marked["estimate"],
            style.TIER_MARKERS[str(tier)],
            color=colour,
            markerfacecolor=face,
            markersize=5,
            zorder=4,
        )
    axes.locator_params(axis="x", nbins=4, integer=kind == "layer")


def _entries(data: pd.DataFrame, kinds: list[str]) -> list[style.Entry]:
    tiers = style.present(data["tier"])
    entries = [style.Entry("v_HRL; mark: dip or peak", (style.mark(line="-"),))]
    if "layer" in kinds:
        entries.append(style.Entry("v_en; mark: dip", (style.mark(filled=False, line="--"),)))
        entries.append(style.Entry("left alone", (style.mark(marker="", line=":"),)))
    entries += [style.Entry(f"{tier}-resource", style.tier_marks([tier])) for tier in tiers]
    entries.append(style.Entry("chosen", (style.mark(marker="s", colour=style.FAINT),)))
    return entries


def draw(sweeps: Path | str, svg: Path | str, data: Path | str) -> None:
    """`sweeps.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(sweeps, COLUMNS))
    style.finish(drawn, plot, svg, data, "Harmful prompts refused by layer ablated and strength added, tier and model")
