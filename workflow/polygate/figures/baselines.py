"""Published ways of steering beside ours, in low-resource languages: selectivity by arm, language and model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from polygate.figures import forest, reading, selectivity, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STYLES = {
    "adasteer": ("AdaSteer, adapted", "s", "#8C6BB1"),
    "adasteer-released": ("AdaSteer, released", "D", "#BFA5D8"),
    "cast": ("CAST, tuned on val", "P", "#B5651D"),
    "cast-released": ("CAST, released", "^", "#7A4A1E"),
    "cast-b": ("CAST, tuned on {} + {}", "X", "#DDA46A"),
}
"""Label, marker and colour of each baseline."""


def series_of(data: pd.DataFrame) -> list[forest.Series]:
    """The arms drawn, from top to bottom within a language's row: no steering, baselines, ours."""
    present = list(dict.fromkeys(data["series"]))
    drawn = [("none", "no steering", "v", style.INK, True)]
    for name in present:
        kind, _, examples = name.partition("-b")
        if known := STYLES.get(f"{kind}-b" if examples else name):
            label, marker, colour = known
            drawn.append((name, label.format(examples, examples), marker, colour, True))
    budgets = sorted(int(name.removeprefix("routed-")) for name in present if name.startswith("routed-"))
    for budget in budgets:
        label = f"routed, {budget} + {budget} examples" if budget else "routed, no examples"
        drawn.append((f"routed-{budget}", label, "", "", budget > 0))
    step = 0.8 / max(len(drawn) - 1, 1)
    return [
        forest.Series(name, label, -0.4 + place * step, marker=marker, colour=colour, filled=filled)
        for place, (name, label, marker, colour, filled) in enumerate(drawn)
    ]


def select(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of selectivity.csv of the tiers that have baselines: unsteered, baselines, and routed at 0 and a handful."""
    rows = selectivity.selected(table)
    ours = rows["arm"].isin(selectivity.OURS)
    kept = rows[rows["tier"].isin(set(rows.loc[~ours, "tier"])) & ~rows["arm"].isin(["addition", "ablation"])]
    return kept.reset_index(drop=True)


def plot(data: pd.DataFrame) -> Figure:
    """A row per language, a panel per model, in percentage points; the dotted line is no selectivity at all."""
    series = series_of(data)
    return selectivity.panels(data, series, "Selectivity beside published ways of steering", 0.1 * len(series))


def draw(table: Path | str, svg: Path | str, data: Path | str) -> None:
    """`selectivity.csv` → the figure and the CSV behind it."""
    drawn = select(reading.read_table(table, selectivity.COLUMNS))
    style.finish(drawn, plot, svg, data, "Selectivity of published ways of steering and of ours, with intervals")
