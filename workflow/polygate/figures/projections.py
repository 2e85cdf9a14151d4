"""Where harmful and harmless prompts fall along v_HRL, by tier, and the thresholds that would part them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polygate.errors import PolygateError
from polygate.figures import reading, style
from polygate.files import read_parquet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

EXAMPLES = 16
POINTS = 200
SUBSETS = ("harmful", "harmless")
THRESHOLDS = {"high-resource": "-", "recalibrated": "--"}


@dataclass(frozen=True)
class Scores:
    """Projections of one split's prompts on v_HRL: scores f64 [n], labels bool [n] (harmful), language i64 [n]."""

    scores: NDArray[np.float64]
    labels: NDArray[np.bool_]
    languages: NDArray[np.int64]

    def first(self, examples: int) -> Scores:
        """The first `examples` harmful and harmless prompts of every language, in the order of the prompt tables."""
        keep = np.zeros(len(self.scores), bool)
        for language in np.unique(self.languages):
            for label in (True, False):
                keep[np.flatnonzero((self.languages == language) & (self.labels == label))[:examples]] = True
        return Scores(self.scores[keep], self.labels[keep], self.languages[keep])


def read(files: Sequence[Path | str], layer: int, split: str) -> Scores:
    """Projections on v_HRL at `layer` of one split, of several languages, each in prompt-table order.

    Raises `PolygateError` when the layer isn't there.
    """
    import pyarrow.compute as pc

    scores, labels, languages = [], [], []
    for number, path in enumerate(files):
        table = read_parquet(path, ["split", "subset", "layer", "scorer", "score"])
        wanted = pc.and_(pc.equal(table["scorer"], "v_hrl"), pc.equal(table["layer"], layer))
        if not pc.any(wanted).as_py():
            raise PolygateError(f"no projections on v_hrl at layer {layer}", where=path, do="delete the file and rerun")
        rows = table.filter(pc.and_(wanted, pc.equal(table["split"], split)))
        scores.append(rows["score"].to_numpy().astype(np.float64))
        labels.append(pc.equal(rows["subset"], "harmful").to_numpy().astype(bool))
        languages.append(np.full(rows.num_rows, number, np.int64))
    return Scores(np.concatenate(scores), np.concatenate(labels), np.concatenate(languages))


def threshold(of: Scores) -> float:
    """The threshold with the best F1, averaged over languages, on these prompts; NaN without both classes."""
    from polygate import kernels

    if len(np.unique(of.labels)) < 2:
        return float("nan")
    return float(kernels.sweep_threshold(of.scores, of.labels, of.languages, "macro_f1").threshold)


def select(
    choices: pd.DataFrame, projections: Mapping[str, Mapping[str, Path | str]], tiers: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Densities on test prompts and thresholds on validation prompts: model, tier, kind, name, score, density.

    The high-resource threshold is the best on all validation prompts of the high-resource languages; the recalibrated
    one of a tier is the best on the first 16 + 16 validation prompts of each of its languages. `projections` maps
    model → language → file, `tiers` maps tier → languages.
    """
    import pandas as pd

    parts = []
    for model, layer in reading.chosen_layers(choices).items():
        files = projections[model]
        source = threshold(read([files[name] for name in tiers["high"]], layer, "val"))
        for tier in style.present(name for name, languages in tiers.items() if languages):
            mine = [files[name] for name in tiers[tier]]
            found = {"high-resource": source}
            if tier != "high":
                found["recalibrated"] = threshold(read(mine, layer, "val").first(EXAMPLES))
            marked = pd.DataFrame({"kind": "threshold", "name": list(found), "score": list(found.values())})
            part = pd.concat([_densities(read(mine, layer, "test")), marked], ignore_index=True)
            parts.append(part.assign(model=model, tier=tier, layer=layer))
    drawn = pd.concat(parts, ignore_index=True)
    return drawn[["model", "tier", "layer", "kind", "name", "score", "density"]]


def _densities(test: Scores) -> pd.DataFrame:
    import pandas as pd
    from scipy.stats import gaussian_kde

    low, high = np.quantile(test.scores, [0.001, 0.999])
    margin = 0.12 * (high - low)
    grid = np.linspace(low - margin, high + margin, POINTS)
    parts = []
    for name, label in zip(SUBSETS, (True, False), strict=True):
        scores = test.scores[test.labels == label]
        # A class may be absent (an upstream hole), or constant: there is no density to draw then.
        if len(scores) > 1 and np.ptp(scores) > 0:
            density = gaussian_kde(scores)(grid)
            parts.append(pd.DataFrame({"kind": "density", "name": name, "score": grid, "density": density}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["kind", "name", "score", "density"])


def plot(data: pd.DataFrame) -> Figure:
    """Tiers down, models across; one axis per model, so that the shift between tiers shows."""
    with style.theme():
        tiers = style.present(data["tier"])
        models = reading.names(data, "model")
        grid = style.panels(models, width=1.42, height=1.15, rows=tiers, sharex="col", sharey=False)
        grid.figure.set_figheight(1.15 * len(tiers) + 1.0)
        for (tier, model), axes in grid.named.items():
            _panel(axes, data[(data["model"] == model) & (data["tier"] == tier)], tier)
            axes.set_title(model if tier == tiers[0] else "")
            axes.set_xlabel("projection on v_HRL" if tier == tiers[-1] else "")
            if model == models[0]:
                axes.set_ylabel(tier, color=style.TIER_COLOURS[tier], fontweight="bold", rotation=0, ha="right")
        entries = [
            style.Entry("harmful prompts", style.tier_marks(tiers, "s")),
            style.Entry("harmless prompts", (style.mark(marker="s", colour="#BDBDBD"),)),
            *(
                style.Entry(f"{name} threshold", (style.mark(marker="", line=line),))
                for name, line in THRESHOLDS.items()
            ),
        ]
        return style.head(grid, "Along the direction from high-resource languages", entries)


def _panel(axes: Axes, mine: pd.DataFrame, tier: str) -> None:
    colours = {"harmful": style.TIER_COLOURS[tier], "harmless": "#8F8F8F"}
    for name in reversed(SUBSETS):
        curve = mine[(mine["kind"] == "density") & (mine["name"] == name)]
        axes.fill_between(curve["score"], curve["density"], color=colours[name], alpha=0.35, linewidth=0, zorder=2)
        axes.plot(curve["score"], curve["density"], color=colours[name], linewidth=1.2, zorder=3, label=name)
    for name, line in THRESHOLDS.items():
        for score in mine.loc[(mine["kind"] == "threshold") & (mine["name"] == name), "score"]:
            if np.isfinite(score):
                axes.axvline(score, color=style.INK, linestyle=line, linewidth=1.1, zorder=4)
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)


def draw(
    choices: Path | str,
    projections: Mapping[str, Mapping[str, Path | str]],
    tiers: Mapping[str, Sequence[str]],
    svg: Path | str,
    data: Path | str,
) -> None:
    """`choices.csv` and the projections of every model and language → the figure and the CSV behind it."""
    drawn = select(reading.read_table(choices, ("model", "what", "value")), projections, tiers)
    style.finish(
        drawn, plot, svg, data, "Densities of projections on v_HRL (pc1_of_diffs) by tier and model, with thresholds"
    )
