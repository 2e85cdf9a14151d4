"""Misses and false flags against the number of examples, by rule of calibration, in the lowest tier."""

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
    *("model", "tier", "language", "rule", "alpha", "budget", "metric", "estimate", "low", "high", "n"),
    *(*reading.bounded("surface"), *reading.bounded("semantic")),
)
KEPT = ("model", "tier", "rule", "alpha", "budget", "metric", "estimate", "low", "high", "n")
CONTROLS = {"surface": "conformal_miss on the surface", "semantic": "conformal_miss on an encoder"}
"""Columns of the controls, and what their rows are called as rules of their own."""


@dataclass(frozen=True)
class Line:
    """How a rule is drawn."""

    label: str
    colour: str
    marker: str
    style: str = "-"


LINES = {
    "paper": Line("best on the examples (the paper's)", style.INK, "o"),
    "conformal_miss": Line("conformal: on average", style.PROBE_COLOURS[0], "s"),
    "pac_miss": Line("conformal: in most draws", style.PROBE_COLOURS[1], "D"),
    "prior": Line("examples and a prior", style.PROBE_COLOURS[2], "^"),
    "mixture": Line("mixture, no labels", style.PROBE_COLOURS[3], "v"),
    CONTROLS["surface"]: Line("conformal, on the surface alone", style.BASELINE, "x", ":"),
    CONTROLS["semantic"]: Line("conformal, on a small encoder", style.ENCODER, "P", "-."),
}
METRICS = {"miss": "harmful, missed", "false_flags": "harmless, flagged"}


def select(table: pd.DataFrame, alphas: Sequence[float]) -> pd.DataFrame:
    """Means over the lowest tier there is, at the middle one of `alphas`; the controls' as rules of their own."""
    import pandas as pd

    alpha = sorted(alphas)[(len(alphas) - 1) // 2]
    rows = table[(table["language"] == "") & table["rule"].isin(list(LINES))]
    rows = rows[(rows["tier"] == style.present(rows["tier"])[-1])]
    rows = rows[(rows["alpha"] == alpha) | rows["alpha"].isna()]
    ours = rows[rows["rule"] == "conformal_miss"]
    beside = [reading.of_control(ours, control, rule=rule) for control, rule in CONTROLS.items()]
    found = pd.concat([part[list(KEPT)] for part in (rows, *beside)], ignore_index=True)
    return found[found["estimate"].notna()].assign(aim=alpha).reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Budgets at equal steps (they grow by factors), shares of prompts from 0 to 1."""
    with style.theme():
        budgets = sorted(data["budget"].unique())
        lines = {rule: line for rule, line in LINES.items() if (data["rule"] == rule).any()}
        models = reading.names(data, "model")
        grid = style.panels(models, rows=list(METRICS.values()), width=1.5, height=1.9, sharex=True, sharey=True)
        for (row, model), axes in grid.named.items():
            metric = next(name for name, label in METRICS.items() if label == row)
            mine = data[(data["model"] == model) & (data["metric"] == metric)]
            for number, (rule, line) in enumerate(lines.items()):
                shift = 0.1 * (number - (len(lines) - 1) / 2)
                _line(axes, mine[mine["rule"] == rule].sort_values("budget"), budgets, line, shift)
            first = metric == next(iter(METRICS))
            if first:
                axes.axhline(float(data["aim"].iloc[0]), color=style.INK, linewidth=0.8, linestyle="--", zorder=1)
            axes.set_title(model if first else "")
            axes.set_xticks(range(len(budgets)), [f"{budget:.0f}" for budget in budgets])
            axes.set_xlim(-0.5, len(budgets) - 0.5)
            axes.set_xlabel("" if first else "examples per class")
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.set_ylabel(row if model == models[0] else "")
        entries = [
            style.Entry(line.label, (style.mark(marker=line.marker, colour=line.colour, line=line.style),))
            for line in lines.values()
        ]
        tier = data["tier"].iloc[0]
        return style.head(grid, f"What a promise costs, {tier}-resource languages", entries)


def _line(axes: Axes, mine: pd.DataFrame, budgets: Sequence[float], line: Line, shift: float) -> None:
    place = [budgets.index(budget) + shift for budget in mine["budget"]]
    axes.vlines(place, mine["low"], mine["high"], color=line.colour, linewidth=0.9, zorder=2)
    axes.plot(
        place,
        mine["estimate"],
        color=line.colour,
        linestyle=line.style,
        linewidth=1,
        marker=line.marker,
        markersize=3.5,
        zorder=3,
    )


def draw(calibration: Path | str, svg: Path | str, data: Path | str, alphas: Sequence[float]) -> None:
    """`calibration.csv` → the figure and the CSV behind it; `alphas` are those of the settings."""
    drawn = select(reading.read_table(calibration, COLUMNS), alphas)
    style.finish(drawn, plot, svg, data, "Misses and false flags by number of examples, rule of calibration and model")
