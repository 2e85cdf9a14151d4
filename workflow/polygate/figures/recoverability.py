"""AUC of what a language's own examples teach, against their number, beside the high-resource direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import budgets, reading, style
from polygate.figures.budgets import Line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINES = {
    "v_hrl": Line("v_HRL (pc1_of_diffs), no examples", style.TIER_COLOURS["high"], style="--", level=True),
    "surface": Line("surface features, no examples", style.BASELINE, style="-.", level=True),
    "full_local": Line("own direction, all examples", style.INK, style=":", level=True),
    "local": Line("own direction", style.PROBE_COLOURS[0]),
    "logistic": Line("logistic regression", style.PROBE_COLOURS[1], "s"),
    "mlp": Line("small network", style.PROBE_COLOURS[2], "D"),
    "permuted": Line("own direction, labels shuffled", style.BASELINE, "x", ":"),
    "random": Line("random direction", "#A0A0A0", "+", ":"),
}


SURFACE = ("model", "tier", "language", "scorer", "prompts", "metric", "estimate", "low", "high", "n")


def select(table: pd.DataFrame, separability: pd.DataFrame) -> pd.DataFrame:
    """Means over the languages of a tier, the surface baseline of the same test prompts beside them."""
    import pandas as pd

    rows = table[(table["language"] == "") & (table["metric"] == "auc")]
    surface = separability[(separability["language"] == "") & (separability["metric"] == "auc")]
    surface = surface[(surface["scorer"] == "surface") & (surface["prompts"] == "all")]
    surface = surface.assign(probe="surface", sources="high", rank=float("nan"), budget=0.0, threshold_from="")
    return pd.concat([rows[list(budgets.KEPT)], surface[list(budgets.KEPT)]], ignore_index=True)


def plot(data: pd.DataFrame) -> Figure:
    """AUC from chance to 1."""
    return budgets.plot(data, LINES, "What a handful of a language's own examples recovers", "AUC", 0.5)


def draw(table: Path | str, separability: Path | str, svg: Path | str, data: Path | str) -> None:
    """`recoverability.csv` and `separability.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(table, budgets.COLUMNS), reading.read_table(separability, SURFACE))
    style.finish(drawn, plot, svg, data, "AUC of few-shot directions by number of examples, tier and model")
