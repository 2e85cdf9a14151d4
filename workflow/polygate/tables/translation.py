"""translation.csv: how good translations are, by what comes back when they are translated back.

Per language, split and class (an empty cell is all of them), and as means over the languages of a tier: `bleu` and
`chrf` (chrF++, both 0 to 100) of back-translations against their sources, with the signature that sacrebleu gives them;
`cosine`, the mean cosine of the sentence embeddings of source and back-translation, and `cosine_translation`, that of
source and translation (`unrelated` beside each is the mean with another prompt of the cell in place of the right one;
`signature` names the encoder). What went wrong are shares of the prompts: `truncated` (cut off at the largest number of
tokens), `looping` (says the same again and again), `repeated` (the same text for prompts that differ), `failed` (any
of these three), and `back_truncated`, `back_looping`, `back_empty` of the back-translations. An empty translation stops
the run.

Prompts are resampled within split and class, the same ones in every language. `gate` is on the rows that thresholds are
asked of, those of a class with all its splits: "passes", or "below" where the estimate misses its `threshold`. A
language with a row below is marked in every other table (`tables.marking`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.measurement.statistics import (
    CONSTANT,
    Interval,
    Replicates,
    few,
    logit_interval,
    share_interval,
)
from polygate.prompts.table import SPLITS, SUBSETS
from polygate.prompts.translation import scores
from polygate.prompts.translation.quality import COSINES, FLAWS
from polygate.settings.types import Statistics, TranslationThresholds
from polygate.tables.cells import Cell, by_tier
from polygate.tables.writing import interval, write

COLUMNS = (
    *("tier", "language", "split", "subset", "metric"),
    *("estimate", "low", "high", "n", "method"),
    *("unrelated", "threshold", "gate", "signature", "translator", "back_translator"),
)
SCORES = {"bleu": scores.bleu, "chrf": scores.chrf}
MEANS = {"cosine": "unrelated", "cosine_translation": "unrelated_translation"}
"""Means of cosines, and what stands beside them."""
FAILED = "failed"
SHARES = (*FLAWS[:3], FAILED, *FLAWS[3:])
PASSES, BELOW = "passes", "below"

Place = tuple[str, str]
"""Split and class; "" is all of them."""
PLACES: tuple[Place, ...] = (
    *((split, subset) for split in SPLITS for subset in SUBSETS),
    *(("", subset) for subset in SUBSETS),
    ("", ""),
)


@dataclass(frozen=True)
class Sheet:
    """The prompts of one language: `ids` [n], `strata` [n] of (split, class), numbers by name, and words of the file.

    `counts` int64 [n, k] per score; `values` float64 [n] per cosine (NaN where there is none) and per share.
    """

    language: str
    ids: tuple[str, ...]
    strata: tuple[Place, ...]
    counts: dict[str, NDArray[np.int64]]
    values: dict[str, NDArray[np.float64]]
    said: dict[str, str]

    def rows(self, place: Place) -> NDArray[np.int64]:
        """Rows of a split and class."""
        return np.flatnonzero([all(not a or a == b for a, b in zip(place, one, strict=True)) for one in self.strata])


def build(
    cells: Sequence[Cell], output: Path, *, thresholds: TranslationThresholds, statistics: Statistics, seed: int
) -> None:
    """Write the table. `cells`: one per language whose translations are measured."""
    rows: list[dict[str, Any]] = []
    for (_, tier), members in by_tier(cells):
        sheets = [read(cell) for cell in members]
        weights = resampled(sheets, statistics.resamples, seed)
        for place in PLACES:
            rows += [{"tier": tier, **row} for row in _rows(sheets, place, weights, statistics.confidence)]
    for row in rows:
        row |= _gated(row, thresholds)
    write(output, COLUMNS, rows)


def read(cell: Cell) -> Sheet:
    """The rows of a language; `PolygateError` when the file isn't one of compared translations."""
    found = files.read_parquet(cell.path, ["prompt_id", "split", "subset", *SCORES, *COSINES, *FLAWS])
    said = files.parquet_metadata(found)
    with files.understood(cell.path, "a file of compared translations"):
        counts = {name: np.array(found[name].to_pylist(), np.int64).reshape(len(found), -1) for name in SCORES}
        values = {name: np.array(found[name].to_pylist(), np.float64) for name in (*COSINES, *FLAWS)}
        values[FAILED] = np.maximum.reduce([values[name] for name in FLAWS[:3]])
        strata = tuple(zip(found["split"].to_pylist(), found["subset"].to_pylist(), strict=True))
        return Sheet(cell.language, tuple(found["prompt_id"].to_pylist()), strata, counts, values, said)


def resampled(sheets: Sequence[Sheet], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """How often each prompt of each language is drawn, float64 [resamples, n]: ids are drawn within split and class,
    the same in every language."""
    drawn: dict[str, NDArray[np.int64]] = {}
    strata = dict.fromkeys(stratum for sheet in sheets for stratum in sheet.strata)
    for stratum in strata:
        ids = sorted(
            {name for sheet in sheets for name, own in zip(sheet.ids, sheet.strata, strict=True) if own == stratum}
        )
        random = np.random.default_rng([seed, zlib.crc32("-".join(stratum).encode())])
        times = random.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=resamples)
        drawn |= dict(zip(ids, times.T, strict=True))
    return [np.stack([drawn[name] for name in sheet.ids], axis=1).astype(np.float64) for sheet in sheets]


def _rows(
    sheets: Sequence[Sheet], place: Place, weights: Sequence[NDArray[np.float64]], confidence: float
) -> list[dict[str, Any]]:
    """Rows of a split and class: every language that has prompts there, then the tier's mean."""
    there = [
        (sheet, times, rows) for sheet, times in zip(sheets, weights, strict=True) if len(rows := sheet.rows(place))
    ]
    what = {"split": place[0], "subset": place[1]}
    found: list[dict[str, Any]] = []
    for metric in (*SCORES, *MEANS, *SHARES):
        each = [(sheet, rows, _replicates(sheet, metric, rows, times, confidence)) for sheet, times, rows in there]
        each = [one for one in each if np.isfinite(one[2].estimate).all()]
        for sheet, rows, replicates in each:
            row = {**what, "language": sheet.language, "metric": metric, "n": len(rows), **_words(sheet, metric)}
            beside = {"unrelated": _unrelated(sheet, metric, rows)}
            found.append(row | beside | interval(_interval(replicates, metric, len(rows))))
        if each:
            mean = Replicates(
                np.mean([one.estimate for *_, one in each], axis=0),
                np.mean([one.values for *_, one in each], axis=0),
                confidence,
            )
            items = len({sheet.ids[row] for sheet, rows, _ in each for row in rows})
            row = {**what, "language": "", "metric": metric, "n": sum(len(rows) for _, rows, _ in each)}
            found.append(row | interval(_interval(mean, metric, items)))
    return found


def _replicates(
    sheet: Sheet, metric: str, rows: NDArray[np.int64], times: NDArray[np.float64], confidence: float
) -> Replicates:
    """A metric of a language and its bootstrap; scores as 0 to 1."""
    drawn = times[:, rows]
    if metric in SCORES:
        counts = sheet.counts[metric][rows]
        estimate, values = SCORES[metric](counts.sum(axis=0)), SCORES[metric](drawn @ counts)
    else:
        own = sheet.values[metric][rows]
        estimate, values = own.mean(), drawn @ own / drawn.sum(axis=1)
    return Replicates(np.reshape(estimate, (1, 1)), np.reshape(values, (-1, 1, 1)), confidence)


def _interval(found: Replicates, metric: str, items: int) -> Interval:
    if metric not in MEANS:
        made = share_interval(found, 0, 0, items)
        scale = 100 if metric in SCORES else 1
        return Interval(scale * made.estimate, scale * made.low, scale * made.high, made.method)
    estimate = float(found.estimate[0, 0])
    bounds = (-1.0, 1.0)
    # Rounding may take a cosine of equal texts a little beyond 1.
    if abs(estimate) >= 1 - 1e-6:
        return few(float(np.clip(estimate, *bounds)), items, found.confidence, bounds)
    made = logit_interval(found, 0, 0, items, bounds)
    return few(estimate, items, found.confidence, bounds) if made.method == CONSTANT else made


def _words(sheet: Sheet, metric: str) -> dict[str, str | None]:
    """What made the translations, and how the score was computed."""
    signatures = json.loads(sheet.said.get("signatures", "{}"))
    signature = signatures.get(metric) or (sheet.said.get("encoder") if metric in MEANS else None)
    makers = {name: sheet.said.get(name) for name in ("translator", "back_translator")}
    return {"signature": signature, **makers}


def _unrelated(sheet: Sheet, metric: str, rows: NDArray[np.int64]) -> float | None:
    if metric not in MEANS:
        return None
    values = sheet.values[MEANS[metric]][rows]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _gated(row: dict[str, Any], thresholds: TranslationThresholds) -> dict[str, Any]:
    """Threshold and gate of a row, nothing where none is asked."""
    threshold = getattr(thresholds, row["metric"], None)
    if threshold is None or not row["language"] or row["split"] or not row["subset"]:
        return {}
    beyond = row["estimate"] > threshold if row["metric"] == FAILED else row["estimate"] < threshold
    return {"threshold": threshold, "gate": BELOW if beyond else PASSES}
