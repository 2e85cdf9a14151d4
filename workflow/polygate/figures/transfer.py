"""Cross-lingual transfer as heat maps: a row per language that was added, a column per language tested on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polygate.figures import reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    *("model", "tier", "source", "source_tier", "language", "within", "metric", "estimate", "low", "high", "n"),
    *("surface", "semantic", "p_holm"),
)
METRICS = {"f1": "F1", "auc": "AUC", "balanced_accuracy": "balanced accuracy"}
NONE = "none"
"""Row of the gate of the high-resource languages alone."""
CONTROLS = {"surface": "surface", "semantic": "encoder"}
"""Columns and rows of what no model takes part in."""


def select(table: pd.DataFrame) -> pd.DataFrame:
    """Every gate in every language; what the surface gives, and a small encoder, stand as rows of their own."""
    import pandas as pd

    rows = table[table["language"] != ""]
    rows = rows.assign(within=rows["within"].astype(str).str.lower() == "true")
    bare = rows[rows["source"] == ""]
    beside = [
        bare.assign(source=label, estimate=bare[name], low=None, high=None)
        for name, label in CONTROLS.items()
        if bare[name].notna().any()
    ]
    found = pd.concat([*beside, bare.assign(source=NONE), rows[rows["source"] != ""]])
    return found[[*COLUMNS[: -len(CONTROLS) - 1], "p_holm"]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """Metrics down, models across. A frame marks a gate tested in its own source, a dot p < .05 against none."""
    with style.theme():
        models = reading.names(data, "model")
        sources, languages = reading.names(data, "source"), reading.names(data, "language")
        side = 0.17 * len(languages) + 0.25
        grid = style.panels(
            models, width=max(side, 1.45), height=1, rows=list(METRICS.values()), sharex=True, sharey=True
        )
        grid.figure.set_figheight(len(METRICS) * (0.17 * len(sources) + 0.45) + 1.1)
        for (metric, model), axes in grid.named.items():
            name = next(name for name, label in METRICS.items() if label == metric)
            mine = data[(data["model"] == model) & (data["metric"] == name)]
            _panel(axes, mine, sources, languages)
            axes.set_title(model if name == next(iter(METRICS)) else "")
            axes.set_ylabel(metric if model == models[0] else "", fontweight="bold")
            axes.set_xlabel("tested in" if name == list(METRICS)[-1] else "")
        cells = grid.axes[0, 0].collections[0]
        bar = grid.figure.colorbar(cells, ax=grid.axes, location="bottom", shrink=0.6, aspect=40)
        bar.outline.set_visible(False)
        if bar.solids is not None:
            bar.solids.set_rasterized(False)
        entries = [
            style.Entry("tested in the language added", (style.mark(marker="s", filled=False),)),
            style.Entry("differs from none, p < .05 (Holm)", (style.mark(marker="."),)),
        ]
        return style.head(grid, "Gates with one whole language more (rows)", entries, columns=1)


def _panel(axes: Axes, mine: pd.DataFrame, sources: list[str], languages: list[str]) -> None:
    from matplotlib.patches import Rectangle

    values = mine.pivot(index="source", columns="language", values="estimate").reindex(index=sources, columns=languages)
    # Squares rather than an image: they stay sharp, and are numbers that can be read off the file.
    edges = [np.arange(count + 1) - 0.5 for count in (len(languages), len(sources))]
    axes.pcolormesh(*edges, values.to_numpy(float), cmap="cividis", vmin=0, vmax=1, edgecolor="face", linewidth=0.1)
    axes.set_ylim(len(sources) - 0.5, -0.5)
    for _, row in mine.iterrows():
        x, y = languages.index(row["language"]), sources.index(row["source"])
        if row["within"]:
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=1.2))
        if row["p_holm"] < 0.05:
            light = float(row["estimate"]) > 0.6
            axes.plot(x, y, ".", color=style.INK if light else "white", markersize=3)
    axes.set_xticks(range(len(languages)), languages, rotation=90, fontsize=6.5)
    axes.set_yticks(range(len(sources)), sources, fontsize=6.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw(table: Path | str, svg: Path | str, data: Path | str) -> None:
    """`transfer.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(table, COLUMNS))
    alternative = (
        "F1, AUC and balanced accuracy of gates by the language added to their sources, language tested and model"
    )
    style.finish(drawn, plot, svg, data, alternative)
