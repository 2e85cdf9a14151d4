"""Agreement of judges with one another and with people, beyond chance, by language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "judge", "against", "measure", "estimate", "low", "high", "n", "p_holm")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
MOST = len(style.PROBE_COLOURS)
"""Pairs that one figure tells apart: the first, which are those of the first judge, then of the second …"""


def select(agreement: pd.DataFrame) -> pd.DataFrame:
    """κ of every language and tier of each model, of the pairs that have any, people first.

    `ahead` are the judges whose κ with people is above that of every other judge (p < .05, corrected).
    """
    rows = agreement[(agreement["measure"] == "kappa") & (agreement["model"] != "")]
    rows = rows.assign(series=rows["judge"] + " / " + rows["against"], people=rows["against"] != "people")
    known = rows[rows["estimate"].notna()].sort_values("people", kind="stable")["series"].unique()[:MOST]
    rows = rows[rows["series"].isin(known)]
    order = {name: number for number, name in enumerate(known)}
    rows = rows.assign(place=rows["series"].map(order)).sort_values("place", kind="stable")
    leads = agreement[agreement["measure"] == "lead"]
    ahead = [bool(row.against == "people" and _ahead(leads, row)) for row in rows.itertuples()]
    columns = ["model", "tier", "language", "series", "estimate", "low", "high", "n", "ahead"]
    return rows.assign(ahead=ahead)[columns].reset_index(drop=True)


def _ahead(leads: pd.DataFrame, row: Any) -> bool:
    """Whether the judge of a row is ahead of every other where the row stands."""
    here = leads[(leads["model"] == row.model) & (leads["tier"] == row.tier) & (leads["language"] == row.language)]
    mine = here[(here["judge"] == row.judge) | (here["against"] == row.judge)]
    above = (mine["estimate"] > 0) == (mine["judge"] == row.judge)
    return len(mine) > 0 and bool((above & (mine["p_holm"] < 0.05)).all())


def series_of(names: Sequence[str]) -> list[forest.Series]:
    """The pairs, from top to bottom within a language's row."""
    step = 0.64 / max(len(names) - 1, 1)
    first = -0.32 if len(names) > 1 else 0.0
    return [
        forest.Series(name, name, first + step * number, marker=MARKERS[number], colour=style.PROBE_COLOURS[number])
        for number, name in enumerate(names)
    ]


def plot(data: pd.DataFrame) -> Figure:
    """A row per language, a panel per model; the dotted lines are agreement by chance and of 0.8."""
    with style.theme():
        rows = forest.rows_of(data)
        series = series_of(reading.names(data, "series"))
        models = reading.names(data, "model")
        per_row = max(0.2, 0.1 * len(series))
        grid = style.panels(models, width=1.42, height=forest.height(rows, per_row), sharex=True, sharey=True)
        lowest = min(-0.1, float(data["low"].min()) - 0.02)
        for model, axes in grid.named.items():
            mine = data[data["model"] == model]
            for one in series:
                own = mine[mine["series"] == one.name]
                forest.marks(axes, own, rows, one)
                _rings(axes, own[own["ahead"].astype(bool)], rows, one)
            axes.set_title(model)
            for line in (0, 0.8):
                axes.axvline(line, color=style.INK, linewidth=0.9, linestyle=":", zorder=1)
            axes.set_xlim(lowest, 1.04)
            axes.set_xticks([0, 0.5, 1])
            axes.spines["bottom"].set_bounds(lowest, 1)
            axes.set_xlabel("Cohen's κ")
        for axes in grid.named.values():
            forest.dress(axes, rows, names=axes in grid.left, whole="pooled")
        tiers = style.present(data["tier"])
        entries = [one.entry(tiers) for one in series]
        if data["ahead"].any():
            entries.append(style.Entry("nearest to people, p < .05 (Holm)", (style.mark(filled=False),)))
        return style.head(grid, "Do judges agree on what is a refusal?", entries)


def _rings(axes: Axes, ahead: pd.DataFrame, rows: Sequence[forest.Row], series: forest.Series) -> None:
    """A ring around the mark of a judge that is ahead of every other."""
    place = {(row.tier, row.language): row.position + series.offset for row in rows}
    for tier, language, kappa in zip(ahead["tier"], ahead["language"], ahead["estimate"], strict=True):
        size = 7 if language else 9
        at = place[tier, language]
        axes.plot(kappa, at, "o", color=style.INK, markerfacecolor="none", markersize=size, markeredgewidth=0.9)


def draw(agreement: Path | str, svg: Path | str, data: Path | str) -> None:
    """`agreement.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(agreement, COLUMNS))
    style.finish(drawn, plot, svg, data, "Agreement of judges on refusals by language and model, with intervals")
