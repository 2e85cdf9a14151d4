"""F1 of probes of the high-resource languages against the number of target-language examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import budgets, gate_f1, reading, style
from polygate.figures.budgets import Line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINES = {
    "subspace": Line("subspace, logistic", style.PROBE_COLOURS[0]),
    "bank": Line("bank of directions, logistic", style.PROBE_COLOURS[1], "s"),
    "pca": Line("principal components, logistic", style.PROBE_COLOURS[2], "^"),
    "full": Line("whole activations, logistic", style.PROBE_COLOURS[3], "D"),
    "direction": Line("v_HRL (pc1_of_diffs)", style.PROBE_COLOURS[4], "v"),
    "target": Line("own examples alone", style.PROBE_COLOURS[5], "P"),
    "omniguard": Line("OMNIGuard, high and mid", style.PROBE_COLOURS[6], "<"),
    "surface": Line("surface features, logistic", style.INK, "*", "-."),
    "semantic": Line("a small encoder, logistic", style.ENCODER, "X", "-."),
    "random_subspace": Line("random subspace, logistic", style.BASELINE, "+", "--"),
    "random": Line("random direction", style.BASELINE, "x", ":"),
}


def select(table: pd.DataFrame, gates: pd.DataFrame, rank: int) -> pd.DataFrame:
    """Tier means of F1 of probes with high-resource sources or none, and OMNIGuard, of the largest rank up to `rank`.

    The threshold is the sources' at budget 0, the examples' above it. Gates on the surface of the prompts and on
    a small encoder, fitted and calibrated in the same way, stand beside them at the budgets that both have.
    """
    import pandas as pd

    rows = table[(table["language"] == "") & (table["metric"] == "f1")]
    # OMNIGuard learns from the mid-resource languages too.
    rows = rows[rows["sources"].isin(["high", ""]) | (rows["probe"] == "omniguard")]
    rows = rows[rows["threshold_from"] == rows["budget"].eq(0).map({True: "source", False: "examples"})]
    usable = rows["rank"].where(rows["rank"] <= rank)
    largest = usable.groupby([rows["model"], rows["tier"], rows["probe"]]).transform("max")
    rows = rows[rows["rank"].isna() | (rows["rank"] == largest)]
    beside = gates[gates["scorer"].isin(gate_f1.CONTROLS) & (gates["metric"] == "f1") & (gates["language"] == "")]
    beside = beside[beside["draw"].isna() & beside["budget"].isin(rows["budget"].unique())]
    beside = beside.assign(probe=beside["scorer"], sources="high")
    return pd.concat([rows[list(budgets.KEPT)], beside[list(budgets.KEPT)]], ignore_index=True)


def plot(data: pd.DataFrame) -> Figure:
    """F1 from 0 to 1."""
    return budgets.plot(data, LINES, "Probes, by the examples they are given", "F1", None)


def draw(table: Path | str, gates: Path | str, svg: Path | str, data: Path | str, rank: int) -> None:
    """`probes.csv` and `gates.csv` → the figure and the CSV behind it; `rank` is that of the gates that route."""
    drawn = select(reading.read_table(table, budgets.COLUMNS), reading.read_table(gates, gate_f1.COLUMNS), rank)
    style.finish(drawn, plot, svg, data, "F1 of probes by number of target-language examples, tier and model")
