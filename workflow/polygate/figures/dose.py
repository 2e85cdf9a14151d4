"""Dose and response: what a model does and knows in a language, against the refused examples it was aligned with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("model", "seed", "tier", "language", "dose", "alignments", "metric", "scorer", "budget"),
    *("estimate", "low", "high", "n", "method"),
)


@dataclass(frozen=True)
class Line:
    """The look of one quantity; colours are those of the failure that it speaks about."""

    metric: str
    scorer: str
    label: str
    marker: str
    colour: str
    style: str = "-"


LINES = (
    Line("refused", "", "harmful refused, unsteered", "D", style.PART_COLOURS["action"]),
    Line("auc", "v_hrl", "AUC of v_HRL", "o", style.PART_COLOURS["representation"]),
    Line("auc", "surface", "AUC of the surface alone", "X", style.BASELINE, ":"),
    Line("auc", "semantic", "AUC of a small encoder", "P", style.ENCODER, ":"),
)
BY_BUDGET = (
    Line("f1", "gate", "F1 of the gate", "s", style.PART_COLOURS["calibration"]),
    Line("routed", "", "refused, routed", "^", style.INK),
)
"""Quantities of every budget, the last filled."""
ROWS = {"harmful refused": ("refused", "routed"), "AUC, F1": ("auc", "f1")}
"""Row of panels → the metrics in it."""


def select(dose: pd.DataFrame) -> pd.DataFrame:
    """The means that have a number, and every alignment where there are several of a dose."""
    known = dose[dose["estimate"].notna()]
    several = bool((known["alignments"] > 1).any())
    return known[(known["model"] == "") | several].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Per language what is done above what is known; doses at equal steps (they grow by factors), from 0 to 1."""
    with style.theme():
        doses = sorted(data["dose"].unique())
        budgets = sorted(data["budget"].dropna().unique())
        languages = reading.names(data, "language")
        # A line without points would count as one in the figure's corner, and push the panels away.
        lines = [line for line in LINES if (data["scorer"] == line.scorer).any()]
        entries = _entries(lines, budgets)
        grid = style.panels(languages, rows=list(ROWS), width=2.0, height=1.9, sharex=True, sharey=True)
        # The legend above the panels takes none of their room.
        grid.figure.set_figheight(grid.figure.get_figheight() + 0.05 * len(entries))
        for (row, language), axes in grid.named.items():
            mine = data[data["language"] == language]
            curves: list[tuple[Line, float | None]] = [(line, None) for line in lines if line.metric in ROWS[row]]
            curves += [pair for pair in product(BY_BUDGET, budgets) if pair[0].metric in ROWS[row]]
            for number, (line, budget) in enumerate(curves):
                rows = mine[(mine["metric"] == line.metric) & (mine["scorer"] == line.scorer)]
                rows = rows if budget is None else rows[rows["budget"] == budget]
                shift = 0.16 * (number - (len(curves) - 1) / 2)
                _line(axes, rows, doses, line, shift, filled=budget in (None, budgets[-1]))
            first = row == next(iter(ROWS))
            axes.set_title(language if first else "")
            axes.set_xticks(range(len(doses)), [f"{dose:.0f}" for dose in doses])
            axes.set_xlim(-0.5, len(doses) - 0.5)
            axes.set_xlabel("" if first else "refused examples")
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.set_ylabel(row if language == languages[0] else "")
        return style.head(grid, "What safety data a language needs", entries)


def _line(axes: Axes, rows: pd.DataFrame, doses: Sequence[float], line: Line, shift: float, *, filled: bool) -> None:
    each = rows[rows["model"] != ""]
    if len(each):
        axes.plot(
            [doses.index(dose) + shift for dose in each["dose"]],
            each["estimate"],
            color=line.colour,
            linestyle="none",
            marker=".",
            markersize=4,
            alpha=0.45,
            zorder=2.5,
            clip_on=False,
        )
    rows = rows[rows["model"] == ""].sort_values("dose")
    place = [doses.index(dose) + shift for dose in rows["dose"]]
    axes.vlines(place, rows["low"], rows["high"], color=line.colour, linewidth=1, zorder=2)
    axes.plot(
        place,
        rows["estimate"],
        color=line.colour,
        linestyle=line.style if filled else "--",
        linewidth=1.2,
        marker=line.marker,
        markerfacecolor=line.colour if filled else "white",
        markersize=4,
        zorder=3,
        clip_on=False,
    )


def _entries(lines: Sequence[Line], budgets: Sequence[float]) -> list[style.Entry]:
    entries = [style.Entry(line.label, (style.mark(marker=line.marker, colour=line.colour),)) for line in lines]
    for line, budget in product(BY_BUDGET, budgets):
        mark = style.mark(marker=line.marker, colour=line.colour, filled=budget == budgets[-1])
        examples = f"{budget:.0f} + {budget:.0f} examples" if budget else "no example"
        entries.append(style.Entry(f"{line.label}, {examples}", (mark,)))
    return entries


def draw(dose: Path | str, svg: Path | str, data: Path | str) -> None:
    """`dose.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(dose, COLUMNS))
    style.finish(
        drawn, plot, svg, data, "Refusal, AUC of v_HRL and F1 of the gate by refused examples in the alignment"
    )
