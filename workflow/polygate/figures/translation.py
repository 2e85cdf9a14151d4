"""How good translations are, by language and class, with the thresholds that they are asked to reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("tier", "language", "split", "subset", "metric", "estimate", "low", "high", "n", "threshold", "gate")
METRICS = {"bleu": "BLEU", "chrf": "chrF++", "cosine": "cosine", "failed": "failed, %"}
"""Metrics that are drawn where the table has them, and what their axes say."""
SCALE = {"failed": 100.0}
LIMITS = {"bleu": (-3, 103), "chrf": (-3, 103)}
SUBSETS = ("harmful", "harmless")
SERIES = tuple(
    forest.Series(subset, f"{subset} prompts", offset, filled=subset == "harmful")
    for subset, offset in zip(SUBSETS, (-0.17, 0.17), strict=True)
)


def select(translation: pd.DataFrame) -> pd.DataFrame:
    """The rows of each class with all its splits: tier, language, subset, metric, estimate, low, high, n, threshold."""
    rows = translation[
        (translation["split"] == "") & translation["subset"].isin(SUBSETS) & translation["metric"].isin(METRICS)
    ]
    return rows[[name for name in COLUMNS if name != "split"]].reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """A panel per metric: languages from top to bottom, harmful filled, harmless open, dotted lines at thresholds."""
    with style.theme():
        rows = forest.rows_of(data)
        metrics = [name for name in METRICS if (data["metric"] == name).any()]
        labels = [METRICS[name] for name in metrics]
        grid = style.panels(
            labels, width=1.6, height=forest.height(rows, 0.24), columns=len(labels), sharex=False, sharey=True
        )
        for number, (metric, axes) in enumerate(zip(metrics, grid.named.values(), strict=True)):
            mine = data[data["metric"] == metric]
            scale = SCALE.get(metric, 1.0)
            for series in SERIES:
                forest.marks(axes, mine[mine["subset"] == series.name], rows, series, scale)
            for level in mine["threshold"].dropna().unique():
                axes.axvline(scale * level, color=style.BASELINE, linestyle=":", linewidth=1, zorder=1)
            axes.set_title(METRICS[metric])
            axes.set_xlabel("")
            if metric in LIMITS:
                axes.set_xlim(*LIMITS[metric])
            forest.dress(axes, rows, names=number == 0)
        tiers = style.present(data["tier"])
        entries = [series.entry(tiers) for series in SERIES]
        entries.append(style.Entry("threshold", (style.mark(marker="", colour=style.BASELINE, line=":"),)))
        return style.head(grid, "What comes back when translations are translated back", entries)


def draw(translation: Path | str, svg: Path | str, data: Path | str) -> None:
    """`translation.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(translation, COLUMNS))
    style.finish(drawn, plot, svg, data, "Quality of translations by language and class, with thresholds")
