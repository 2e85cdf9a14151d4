"""A row per language and tier, grouped by tier: the frame of all figures that compare languages.

Languages go down, so that their names need no rotating and 23 of them fit a phone; each tier opens with its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygate.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GAP = 0.45


@dataclass(frozen=True)
class Row:
    """Where a language, or the mean over a tier (`language` is empty), stands."""

    tier: str
    language: str
    position: float

    @property
    def mean(self) -> bool:
        return not self.language


@dataclass(frozen=True)
class Series:
    """One kind of mark: its value of the column `series`, its label, and where it stands within a row.

    Without a marker or a colour of its own it takes those of the tier.
    """

    name: str
    label: str
    offset: float
    marker: str = ""
    colour: str = ""
    filled: bool = True

    def entry(self, tiers: Sequence[str]) -> style.Entry:
        """Its entry in the legend: one mark, or one per tier where tiers differ."""
        if not self.colour:
            return style.Entry(self.label, style.tier_marks(tiers, self.marker, self.filled))
        return style.Entry(self.label, (style.mark(marker=self.marker, colour=self.colour, filled=self.filled),))


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Rows of the table's tiers and languages: the tier's mean, then its languages in the order of the table."""
    rows: list[Row] = []
    position = 0.0
    for tier in style.present(frame["tier"]):
        languages = [str(name) for name in frame.loc[frame["tier"] == tier, "language"].unique() if name]
        for language in ["", *languages]:
            rows.append(Row(tier, language, position))
            position += 1
        position += GAP
    return rows


def height(rows: Sequence[Row], per_row: float) -> float:
    """Height of a panel in inches, its axis and title included."""
    return (rows[-1].position + 1) * per_row + 0.9


def dress(axes: Axes, rows: Sequence[Row], *, names: bool = True, whole: str = "mean") -> None:
    """Language names on the left, means (or what `whole` calls a tier's row) in bold and in their tier's colour, the
    first row on top."""
    axes.set_ylim(rows[-1].position + 0.6, -0.6)
    axes.set_yticks([row.position for row in rows])
    axes.tick_params(axis="y", length=0)
    for row in rows:
        if row.mean:
            axes.axhspan(row.position - 0.5, row.position + 0.5, color="#F4F4F4", zorder=0, linewidth=0)
    if names:
        axes.set_yticklabels([row.language or f"{row.tier}, {whole}" for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_color(style.TIER_COLOURS[row.tier] if row.mean else style.INK)
            label.set_fontweight("bold" if row.mean else "normal")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", zorder=0)
    axes.set_axisbelow(True)


def faint(frame: pd.DataFrame) -> pd.Series:
    """Estimates that say little, bool [rows]: those whose table says that too few prompts overlap."""
    import pandas as pd

    return frame["overlap"] == "too small" if "overlap" in frame else pd.Series(False, index=frame.index)


def marks(axes: Axes, frame: pd.DataFrame, rows: Sequence[Row], series: Series, scale: float = 1.0) -> None:
    """Draw the estimates of one model and series with their intervals; what has no estimate is left out."""
    place = {(row.tier, row.language): row.position + series.offset for row in rows}
    known = frame[frame["estimate"].notna()]
    for tier in style.present(known["tier"]):
        mine = known[known["tier"] == tier]
        for mean in (True, False):
            for pale in (False, True):
                chosen = mine[((mine["language"] == "") == mean) & (faint(mine) == pale)]
                if len(chosen):
                    at = [place[tier, language] for language in chosen["language"]]
                    _draw(axes, chosen, at, series, tier, scale, mean=mean, pale=pale)


def _draw(
    axes: Axes,
    chosen: pd.DataFrame,
    at: Sequence[float],
    series: Series,
    tier: str,
    scale: float,
    *,
    mean: bool,
    pale: bool,
) -> None:
    colour = series.colour or style.TIER_COLOURS[tier]
    alpha = 0.3 if pale else 1.0
    low, high = scale * chosen["low"], scale * chosen["high"]
    axes.hlines(at, low, high, color=colour, linewidth=1.1, alpha=alpha, zorder=2)
    axes.scatter(
        scale * chosen["estimate"],
        at,
        s=26 if mean else 13,
        marker=series.marker or style.TIER_MARKERS[tier],
        facecolor=colour if series.filled else "white",
        edgecolor=colour,
        linewidth=0.9,
        alpha=alpha,
        zorder=3,
    )
