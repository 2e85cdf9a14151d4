"""AUC by layer, a line per token position, by tier and model: where harmfulness and refusal are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("model", "tier", "language", "position", "layer", "direction", "target", "estimate", "low", "high", "n"),
    *("chosen", "read", "surface", "semantic"),
)
DRAWN = "v_hrl"


class Look(NamedTuple):
    """Colour and marker of a position."""

    colour: str
    marker: str


LOOKS: Mapping[str, Look] = {
    "t_inst": Look(style.PROBE_COLOURS[2], "o"),
    "t_post_inst": Look(style.PROBE_COLOURS[0], "s"),
    "mean": Look(style.PROBE_COLOURS[1], "D"),
}
OTHER = Look(style.INK, "^")
NAMES = {"t_inst": "last token of the instruction", "t_post_inst": "last of the prompt", "mean": "mean of all tokens"}
LINES = {"harmful": "-", "refused": "--"}
CONTROLS: Mapping[str, tuple[str, str, Any]] = {
    "surface": ("surface alone", style.BASELINE, "-."),
    "semantic": ("a small encoder", style.ENCODER, (0, (5, 1, 1, 1, 1, 1))),
}
"""Label, colour and line of what no model takes part in, for harmful prompts."""


def select(positions: pd.DataFrame) -> pd.DataFrame:
    """Means over the languages of a tier along v_HRL (pc1_of_diffs), both targets, the controls beside each."""
    rows = positions[(positions["language"] == "") & (positions["direction"] == DRAWN)]
    rows = rows.assign(**{name: rows[name].astype(str).str.lower() == "true" for name in ("chosen", "read")})
    columns = ["model", "tier", "target", "position", "layer", "estimate", "low", "high", "n", "chosen", "read"]
    return rows[[*columns, *CONTROLS]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Tiers down, models across; marks stand at the layer at which each position is read."""
    with style.theme():
        tiers, models = style.present(data["tier"]), reading.names(data, "model")
        grid = style.panels(models, width=1.42, height=1.3, rows=tiers, sharex="col", sharey=True)
        grid.figure.set_figheight(1.3 * len(tiers) + 1.5)
        floor = int(min(0.4, float(data["low"].min())) * 10) / 10
        for (tier, model), axes in grid.named.items():
            _panel(axes, data[(data["model"] == model) & (data["tier"] == tier)])
            axes.set_title(model if tier == tiers[0] else "")
            axes.set_xlabel("layer" if tier == tiers[-1] else "")
            axes.set_ylim(floor - 0.02, 1.03)
            ticks = [tick for tick in (0, 0.25, 0.5, 0.75, 1) if tick >= floor]
            axes.set_yticks(ticks, [f"{tick:g}".removeprefix("0") or "0" for tick in ticks])
            if model == models[0]:
                axes.set_ylabel(f"{tier}\nAUC", color=style.TIER_COLOURS[tier], fontweight="bold")
        return style.head(grid, "At which token harmfulness and refusal are read", _entries(data))


def _panel(axes: Axes, mine: pd.DataFrame) -> None:
    axes.axhline(0.5, color=style.INK, linewidth=0.9, linestyle=":", zorder=1)
    for layer in mine.loc[mine["chosen"].astype(bool), "layer"].unique():
        axes.axvline(layer, color=style.FAINT, linewidth=4, zorder=0)
    for control, (_, colour, line) in CONTROLS.items():
        level = mine.loc[mine["target"] == "harmful", control].dropna()
        if len(level):
            axes.axhline(level.iloc[0], color=colour, linestyle=line, linewidth=1.3, zorder=2)
    for (target, position), rows in mine.groupby(["target", "position"], sort=False):
        look, rows = LOOKS.get(str(position), OTHER), rows.sort_values("layer")
        harmful = target == "harmful"
        axes.fill_between(rows["layer"], rows["low"], rows["high"], color=look.colour, alpha=0.1, linewidth=0)
        axes.plot(rows["layer"], rows["estimate"], color=look.colour, linestyle=LINES[str(target)], linewidth=1.2)
        read = rows[rows["read"].astype(bool)]
        face = look.colour if harmful else "white"
        axes.plot(
            read["layer"],
            read["estimate"],
            look.marker,
            color=look.colour,
            markerfacecolor=face,
            markersize=4,
            zorder=4,
        )
    axes.locator_params(axis="x", nbins=4, integer=True)


def _entries(data: pd.DataFrame) -> list[style.Entry]:
    entries = []
    for position in reading.names(data, "position"):
        look = LOOKS.get(position, OTHER)
        label = f"{position}: {NAMES[position]}" if position in NAMES else position
        entries.append(style.Entry(label, (style.mark(marker=look.marker, colour=look.colour, line="-"),)))
    entries.append(style.Entry("harmful from harmless prompts", (style.mark(line="-"),)))
    if (data["target"] == "refused").any():
        entries.append(style.Entry("refused from answered harmful", (style.mark(filled=False, line="--"),)))
    for control, (label, colour, line) in CONTROLS.items():
        if data[control].notna().any():
            entries.append(style.Entry(f"harmful, {label}", (style.mark(marker="", colour=colour, line=line),)))
    entries.append(style.Entry("chosen layer", (style.mark(marker="s", colour=style.FAINT),)))
    return entries


def draw(positions: Path | str, svg: Path | str, data: Path | str) -> None:
    """`positions.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(positions, COLUMNS))
    style.finish(
        drawn, plot, svg, data, "AUC for harmful and for refused prompts by layer, token position, tier and model"
    )
