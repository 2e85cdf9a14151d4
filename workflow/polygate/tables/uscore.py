"""uscore.csv: how far prompts lie nearer to their translation than to other prompts, by layer.

The U-Score of a `language` beside the pivot, or (language "") its mean over the languages of a tier, at each layer, of
the prompts of a `split`: `train` prompts choose OMNIGuard's layer (`read`: the one where the mean over the
high-resource languages is highest; the mid-resource ones where there are none beside the pivot), `test` prompts are the
report. `pairs` and `apart` are the two mean cosines that it is the difference of. The interval is that of sampling
prompts, normal on the scale of the log odds between −2 and 2 ("linearised"; see `representation.uscore`): prompts are
clusters across languages.

On test rows at the layer that is read stands the `difference` to the mean over the high-resource languages, paired over
prompts, its p Holm-corrected over the languages of a model, and over its tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.special import ndtri
from scipy.stats import t as student

from polygate import files
from polygate.measurement.statistics import CONSTANT, FEWEST, SAME, Interval, holm, logit_ends
from polygate.representation import uscore
from polygate.settings.types import TIERS, Statistics, Tier
from polygate.tables.cells import Cell
from polygate.tables.writing import interval, told, write

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("model", "tier", "language", "split", "layer", "read", "estimate", "low", "high", "n", "method"),
    *("pairs", "apart", "difference", "difference_low", "difference_high", "p", "p_holm"),
)
BOUNDS = (-2.0, 2.0)


@dataclass(frozen=True)
class Score:
    """A U-Score: `value`, its two mean cosines, and what each prompt adds to it, with squares that sum to its variance.

    `influence`: series over (class, prompt id). `items` are the distinct prompts of the smaller class.
    """

    value: float
    pairs: float
    apart: float
    influence: pd.Series
    n: int

    @property
    def items(self) -> int:
        """Distinct prompts of the smaller class."""
        return int(self.influence.groupby(level=0).size().min())

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt((self.influence**2).sum()))

    def minus(self, other: Score) -> tuple[float, float]:
        """Difference, paired over prompts, and its standard error."""
        apart = self.influence.sub(other.influence, fill_value=0.0)
        return self.value - other.value, float(np.sqrt((apart**2).sum()))


def mean(scores: Sequence[Score]) -> Score:
    """The mean over languages: a prompt's translations are one cluster."""
    import pandas as pd

    each = pd.concat([score.influence for score in scores])
    return Score(
        float(np.mean([score.value for score in scores])),
        float(np.mean([score.pairs for score in scores])),
        float(np.mean([score.apart for score in scores])),
        each.groupby(level=[0, 1]).sum() / len(scores),
        sum(score.n for score in scores),
    )


def build(cells: Sequence[Cell], output: Path, *, tiers: Mapping[str, Tier], statistics: Statistics) -> None:
    """Write the table from the U-Scores of every model; `tiers` of the languages."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        rows += [{"model": cell.model, **row} for row in _rows(files.read_parquet(cell.path), tiers, statistics)]
    write(output, COLUMNS, rows)


def _rows(table: pa.Table, tiers: Mapping[str, Tier], statistics: Statistics) -> Iterator[dict[str, Any]]:
    layer = uscore.best_layer(table, tiers)
    found = {
        (tiers[str(language)], str(language)): _scores(own)
        for language, own in table.to_pandas().groupby("language", sort=False)
    }
    for split in uscore.SPLITS:
        rows: list[dict[str, Any]] = []
        for at in sorted({place[1] for scores in found.values() for place in scores if place[0] == split}):
            here = {where: scores[split, at] for where, scores in found.items() if (split, at) in scores}
            named = {(tier, ""): mean(own) for tier in TIERS if (own := [s for (t, _), s in here.items() if t == tier])}
            for (tier, language), score in [*here.items(), *named.items()]:
                row: dict[str, Any] = {"tier": tier, "language": language, "split": split}
                row |= {"layer": at, "read": at == layer}
                rows.append({**row, **_spelt(score, statistics.confidence)})
                if split == "test" and at == layer and tier != "high" and ("high", "") in named:
                    rows[-1] |= _beside(score, named["high", ""], statistics.confidence)
        for whole in (False, True):
            tested = [row for row in rows if "p" in row and (row["language"] == "") == whole]
            for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
                row |= {"p": told(row["p"]), "p_holm": told(p)}
        yield from rows


def _scores(table: pd.DataFrame) -> dict[tuple[str, int], Score]:
    """Of one language, by split and layer."""
    import pandas as pd

    found = {}
    for (split, layer), here in table.groupby(["split", "layer"], sort=False):
        parts = {str(subset): uscore.Likeness(*own) for subset, own in _classes(here)}
        ids = {str(subset): own["prompt_id"].tolist() for subset, own in here.groupby("subset", sort=False)}
        influence = pd.concat(
            {name: pd.Series(part.influence / len(parts), index=ids[name]) for name, part in parts.items()}
        )
        found[str(split), int(str(layer))] = Score(
            float(np.mean([part.score for part in parts.values()])),
            float(np.mean([part.pair.mean() for part in parts.values()])),
            float(np.mean([part.apart.mean() for part in parts.values()])),
            influence,
            len(here),
        )
    return found


def _classes(here: pd.DataFrame) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for subset, own in here.groupby("subset", sort=False):
        yield str(subset), (own["pair"].to_numpy(), own["apart"].to_numpy())


def _spelt(score: Score, confidence: float) -> dict[str, Any]:
    if score.error < SAME:
        found = Interval(score.value, score.value, score.value, CONSTANT)
    else:
        found = Interval(score.value, *_ends(score.value, score.error, confidence), "linearised")
    return {"n": score.n, "pairs": score.pairs, "apart": score.apart, **interval(found)}


def _ends(value: float, error: float, confidence: float, bounds: tuple[float, float] = BOUNDS) -> tuple[float, float]:
    return logit_ends(value, float(ndtri((1 + confidence) / 2)) * error, bounds)


def _beside(score: Score, high: Score, confidence: float) -> dict[str, Any]:
    """The paired difference to the high-resource mean; p by Student's t, NaN with fewer than six prompts a class."""
    apart, error = score.minus(high)
    low, high_end = _ends(apart, error, confidence, (2 * BOUNDS[0], 2 * BOUNDS[1]))
    items = min(score.items, high.items)
    p = float("nan")
    if items >= FEWEST:
        p = float(2 * student.sf(abs(apart) / error, items - 1)) if error > SAME else 1.0
    return {"difference": apart, "difference_low": low, "difference_high": high_end, "p": p}
