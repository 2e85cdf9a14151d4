"""AUC of v_HRL per language beside the surface's and a small encoder's, on all and on matched prompts: does it know?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("model", "tier", "language", "layer", "scorer", "prompts", "metric", "estimate", "low", "high", "n")
SERIES = (
    forest.Series("v_hrl, all", "v_HRL, all prompts", -0.32),
    forest.Series("v_hrl, matched", "v_HRL, matched prompts", -0.16, filled=False),
    forest.Series("semantic, all", "a small encoder, all prompts", 0.0, marker="P", colour=style.ENCODER),
    forest.Series("surface, all", "surface alone, all prompts", 0.16, marker="X", colour=style.BASELINE),
    forest.Series(
        "surface, matched", "surface alone, matched prompts", 0.32, marker="X", colour=style.BASELINE, filled=False
    ),
)
SCORERS = ("v_hrl", "surface", "semantic")


def select(separability: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """AUC of v_HRL at the chosen layer, of the surface features (both on all and on matched prompts) and of the encoder
    where there is one, with `series`."""
    rows = separability[(separability["metric"] == "auc") & separability["scorer"].isin(SCORERS)]
    rows = reading.at_chosen_layer(rows, choices)
    rows = rows.assign(series=rows["scorer"] + ", " + rows["prompts"])
    columns = ["model", "tier", "language", "layer", "scorer", "prompts", "series", "estimate", "low", "high", "n"]
    extra = [name for name in ("n_effective", "overlap") if name in rows.columns]
    rows = rows[rows["series"].isin([series.name for series in SERIES])]
    return rows[[*columns, *extra]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """A row per language, a panel per model; the axis starts below chance (dotted) and ends at 1."""
    with style.theme():
        rows = forest.rows_of(data)
        models = reading.names(data, "model")
        grid = style.panels(models, width=1.42, height=forest.height(rows, 0.27), sharex=True, sharey=True)
        lowest = min(0.4, float(data["low"].min()))
        for model, axes in grid.named.items():
            mine = data[data["model"] == model]
            for series in SERIES:
                forest.marks(axes, mine[mine["series"] == series.name], rows, series)
            axes.set_title(model)
            axes.axvline(0.5, color=style.INK, linewidth=0.9, linestyle=":", zorder=1)
            axes.set_xlim(int(lowest * 10) / 10, 1.02)
            axes.set_xticks([0.5, 0.75, 1.0], [".5", ".75", "1"])
            axes.spines["bottom"].set_bounds(int(lowest * 10) / 10, 1)
            axes.set_xlabel("AUC (.5 = chance)")
        for axes in grid.named.values():
            forest.dress(axes, rows, names=axes in grid.left)
        tiers = style.present(data["tier"])
        shown = [series.entry(tiers) for series in SERIES if series.name in set(data["series"])]
        if forest.faint(data).any():
            shown.append(style.Entry("pale: too few matched prompts to say", (style.mark(colour="#BDBDBD"),)))
        return style.head(grid, "Harmful from harmless prompts told apart", shown)


def draw(separability: Path | str, choices: Path | str, svg: Path | str, data: Path | str) -> None:
    """`separability.csv` and `choices.csv` → the figure and the CSV behind it."""
    table = reading.read_table(separability, COLUMNS)
    drawn = select(table, reading.read_table(choices, ("model", "what", "value")))
    style.finish(
        drawn,
        plot,
        svg,
        data,
        "AUC of v_HRL (pc1_of_diffs), of surface features alone and of a small encoder, by language and model",
    )
