"""The look that all figures share: colours, fonts, sizes, and how a figure becomes the same bytes every time.

Tiers have the same colour and the same marker in every figure. The colours are those of Okabe and Ito (2008), the blue
a shade darker so that it stays apart from the green for everyone (a test simulates the colour-vision deficiencies);
markers say the same thing once more, for grey prints.
Figures are narrow (about 4.8 inches for three models) with 8-9 point text, so that they can be read on a phone when
scaled to its width and simply grow on a desktop. Text is drawn as outlines: no font needs to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from polygate.files import atomic_path
from polygate.settings.types import TIERS

if TYPE_CHECKING:
    import pandas as pd

TIER_COLOURS: Mapping[str, str] = {"high": "#004C8C", "mid": "#009E73", "low": "#D55E00"}
TIER_MARKERS: Mapping[str, str] = {"high": "o", "mid": "s", "low": "D"}
PARTS: Sequence[str] = ("acted", "action", "calibration", "representation")
PART_COLOURS: Mapping[str, str] = {
    "acted": "#D9D9D9",
    "action": "#E69F00",
    "calibration": "#56B4E9",
    "representation": "#4B2E83",
}
PROBE_COLOURS: Sequence[str] = ("#332288", "#44AA99", "#882255", "#999933", "#CC6677", "#117733", "#88CCEE")
"""Probes, which are no tiers and no parts; from Paul Tol's muted scheme (2021), with a marker each."""
BASELINE = "#6E6E6E"
"""Whatever is there for comparison: surface baselines, arms without a gate, chance."""
ENCODER = "#9E5A8E"
"""A small sentence encoder, the control that reads the text."""
NARROWEST = 4.7
"""Inches; below this the legends don't fit."""
INK = "#222222"
FAINT = "#E3E3E3"

THEME: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#8A8A8A",
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "axes.axisbelow": True,
}
OUTPUT: dict[Any, Any] = {"svg.hashsalt": "polygate", "svg.fonttype": "path", "path.simplify": False}


@contextmanager
def theme() -> Iterator[None]:
    """Our style; leaves matplotlib's settings as they were."""
    with mpl.rc_context(THEME):
        yield


@dataclass(frozen=True)
class Panels:
    """A figure's panels: `axes` as they stand in it, `named` by model or by (row, model), `left` at the left edge."""

    figure: Figure
    axes: NDArray[np.object_]
    named: Mapping[Any, Axes]
    left: Sequence[Axes]


def panels(
    models: Sequence[str],
    *,
    width: float,
    height: float,
    columns: int = 3,
    rows: Sequence[str] = (),
    sharex: bool | Literal["col"] = True,
    sharey: bool | Literal["row"] = True,
) -> Panels:
    """One panel per model, at most `columns` side by side; with `rows`, a grid of rows × models.

    `width` and `height` are inches of one panel. Panels that share an axis have its labels at the figure's edge alone.
    """
    across = len(models) if rows else min(columns, len(models))
    down = len(rows) or -(-len(models) // across)
    # One or two panels are as wide as three: the title and the legend above them need the room.
    figure = plt.figure(figsize=(max(width * across + 0.6, NARROWEST), height * down))
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.05, wspace=0.05)
    axes = figure.subplots(down, across, sharex=sharex, sharey=sharey, squeeze=False)
    names: list[Any] = list(product(rows, models)) if rows else list(models)
    for spare in axes.flat[len(names) :]:
        spare.remove()
    for number, panel in enumerate(axes.flat[: len(names)]):
        panel.spines[["top", "right"]].set_visible(False)
        lowest = number + across >= len(names)
        for axis, shared, edge in ((panel.xaxis, sharex, lowest), (panel.yaxis, sharey, number % across == 0)):
            shown = edge or not shared
            axis.set_tick_params(labelbottom=shown, labelleft=shown)
            axis.offsetText.set_visible(shown)
            axis.label.set_visible(shown)
    return Panels(figure, axes, dict(zip(names, axes.flat, strict=False)), list(axes[:, 0]))


@dataclass(frozen=True)
class Entry:
    """An entry of a legend: its label, and the mark or marks (one per tier) that it stands for."""

    label: str
    marks: tuple[Line2D, ...]


def mark(*, marker: str = "o", colour: str = INK, filled: bool = True, line: Any = "none") -> Line2D:
    """A mark of a legend that looks like those in the panels."""
    face = colour if filled else "white"
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle=line, markersize=5)


def tier_marks(tiers: Sequence[str], marker: str = "", filled: bool = True) -> tuple[Line2D, ...]:
    """One mark per tier, in its colour and (when no marker is given) its own marker."""
    return tuple(mark(marker=marker or TIER_MARKERS[t], colour=TIER_COLOURS[t], filled=filled) for t in tiers)


def head(grid: Panels, title: str, entries: Sequence[Entry], columns: int = 2) -> Figure:
    """Give the figure its title at the top left and its legend under it, outside of every panel, and return it."""
    legend = grid.figure.legend(
        handles=[entry.marks for entry in entries],
        labels=[entry.label for entry in entries],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
        title=title,
        alignment="left",
        loc="outside upper left",
        ncols=columns,
        handlelength=2,
        handletextpad=0.5,
        columnspacing=1.2,
        borderpad=0,
        borderaxespad=0.2,
        labelspacing=0.3,
    )
    legend.get_title().set(fontsize=THEME["figure.titlesize"], fontweight="bold")
    return grid.figure


def present(tiers: Any) -> list[str]:
    """Those of high, mid, low that occur, in this order."""
    there = set(tiers)
    return [tier for tier in TIERS if tier in there]


def save(figure: Figure, svg: Path | str, alternative: str) -> None:
    """Write the figure as SVG, atomically: no date, fixed ids, text as outlines; `alternative` says it in words."""
    metadata = {"Date": None, "Creator": None, "Title": alternative}
    with mpl.rc_context(OUTPUT), atomic_path(svg) as temporary:
        figure.savefig(temporary, format="svg", metadata=metadata, facecolor="white")
    plt.close(figure)


def finish(
    drawn: pd.DataFrame, plot: Callable[[pd.DataFrame], Figure], svg: Path | str, data: Path | str, alternative: str
) -> None:
    """Write the drawn numbers as CSV and the figure as SVG; without numbers the figure says that there are none."""
    save_data(drawn, data)
    save(nothing() if drawn.empty else plot(drawn), svg, alternative)


def nothing() -> Figure:
    """What stands in place of a figure that these settings give no numbers for."""
    with theme():
        figure = plt.figure(figsize=(3.4, 1))
        figure.text(0.5, 0.5, "These settings give nothing to draw here.", ha="center", va="center")
        return figure


def save_data(frame: pd.DataFrame, path: Path | str) -> None:
    """Write the numbers behind a figure as CSV, atomically; empty where there is no number."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
