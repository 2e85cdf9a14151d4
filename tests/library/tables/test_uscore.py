"""uscore.csv: means of what loops over pairs give, intervals that hold, differences that are paired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import ttest_1samp

from library.tables.run import read
from library.tables.test_tables import one, where
from polygate import files
from polygate.prompts.table import prompt_id
from polygate.representation.uscore import SCHEMA, Likeness, layer_scores
from polygate.settings.types import Statistics, Tier
from polygate.tables import uscore
from polygate.tables.cells import Cell

TIERS: Mapping[str, Tier] = {"en": "high", "de": "high", "fr": "high", "ar": "mid", "am": "low", "yo": "low"}
MEANS = {"de": (0.2, 0.5), "fr": (0.3, 0.6), "ar": (0.6, 0.5), "am": (0.1, 0.2), "yo": (0.3, 0.5)}
COUNT = 30


def parts(tilt: float = 0.0) -> pa.Table:
    """A prompt's cosines vary alike in all languages; on test prompts the first layer is `tilt` better."""
    rows = []
    for split in ("train", "test"):
        for layer in (0, 1):
            for language, means in MEANS.items():
                for subset in ("harmful", "harmless"):
                    shared = np.random.default_rng([layer, len(subset), len(split)]).normal(size=COUNT)
                    own = np.random.default_rng([layer, *language.encode()]).normal(size=COUNT)
                    for n in range(COUNT):
                        pair = means[layer] + 0.1 + 0.05 * shared[n] + 0.01 * own[n]
                        pair += tilt if split == "test" and layer == 0 else 0.0
                        rows.append((language, prompt_id(subset, split, n), split, subset, layer, pair, 0.1))  # type: ignore[arg-type]
    return pa.table(dict(zip(SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True)), SCHEMA)


def built(folder: Path, table: pa.Table, tiers: Mapping[str, Tier] = TIERS) -> list[dict[str, str]]:
    files.write_parquet(folder / "uscore.parquet", table, {}, {"model": ""})
    cell = Cell("m", "", "", folder / "uscore.parquet")
    uscore.build([cell], folder / "uscore.csv", tiers=tiers, statistics=Statistics())
    return read(folder / "uscore.csv")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return built(tmp_path_factory.mktemp("uscore"), parts(0.5))


def test_estimates_are_means_over_classes_then_languages(rows: list[dict[str, str]]) -> None:
    for split in ("train", "test"):
        scores = layer_scores(parts(0.5), split)
        for (language, layer), value in scores.items():
            row = one(rows, language=language, split=split, layer=layer)
            assert float(row["estimate"]) == pytest.approx(value, abs=1e-6)
            assert float(row["pairs"]) - float(row["apart"]) == pytest.approx(value, abs=2e-6)
            assert int(row["n"]) == 2 * COUNT
        for tier, names in (("high", ["de", "fr"]), ("mid", ["ar"]), ("low", ["am", "yo"])):
            row = one(rows, tier=tier, language=None, split=split, layer=1)
            assert float(row["estimate"]) == pytest.approx(np.mean([scores[name, 1] for name in names]), abs=1e-6)
    assert all(float(row["low"]) < float(row["estimate"]) < float(row["high"]) for row in rows)


def test_the_layer_read_is_that_of_high_resource_train_prompts(rows: list[dict[str, str]], tmp_path: Path) -> None:
    assert {row["layer"] for row in rows if row["read"] == "true"} == {"1"}
    table = parts()
    lacking = table.filter(pc.invert(pc.is_in(table["language"], pa.array(["de", "fr"]))))
    assert {row["layer"] for row in built(tmp_path, lacking) if row["read"] == "true"} == {"0"}


def test_differences_are_paired_over_prompts_and_corrected(rows: list[dict[str, str]]) -> None:
    """What varies alike in all languages leaves the difference: it is known better than either of its parts."""
    frame = parts(0.5).to_pandas()
    frame = (
        frame[(frame["split"] == "test") & (frame["layer"] == 1)]
        .set_index(["language", "subset", "prompt_id"])
        .sort_index()
    )
    compared = [row for row in rows if row["difference"]]
    assert [row["language"] for row in compared] == ["ar", "am", "yo", "", ""]
    for row in compared[:3]:
        own, high = frame.loc[row["language"], "pair"], (frame.loc["de", "pair"] + frame.loc["fr", "pair"]) / 2
        assert float(row["difference"]) == pytest.approx((own - high).mean(), abs=1e-6)
        # `apart` is the same everywhere here, so that the score is a mean and the test is Student's, a class at a time.
        each = (own - high).groupby(level="subset")
        error = np.sqrt((each.var(ddof=1) / each.size()).sum()) / 2
        width = float(row["difference_high"]) - float(row["difference_low"])
        assert width == pytest.approx(2 * 1.96 * error, rel=0.01)
        assert width < 0.5 * (float(row["high"]) - float(row["low"]))
    yo = float(compared[2]["p"])
    assert float(compared[2]["p_holm"]) >= yo
    assert float(compared[1]["p_holm"]) < 1e-6
    assert not where(rows, tier="high", language=None, split="test", layer=1)[0]["p"]


def test_the_interval_of_a_language_is_that_of_a_mean(rows: list[dict[str, str]]) -> None:
    frame = parts(0.5).to_pandas()
    values = frame[(frame["split"] == "test") & (frame["layer"] == 1) & (frame["language"] == "yo")]
    halves = [ttest_1samp(own, 0.0).confidence_interval() for _, own in values.groupby("subset")["pair"]]
    row = one(rows, language="yo", split="test", layer=1)
    width = float(row["high"]) - float(row["low"])
    assert width == pytest.approx(np.hypot(*(half.high - half.low for half in halves)) / 2, rel=0.06)


def test_prompts_that_all_score_alike_have_no_interval_and_no_language_no_rows(tmp_path: Path) -> None:
    table = parts()
    same = table.set_column(5, "pair", pa.array(np.ones(table.num_rows)))
    same = same.set_column(6, "apart", pa.array(-np.ones(table.num_rows)))
    row = one(built(tmp_path, same), language="yo", split="test", layer=1)
    assert (row["estimate"], row["low"], row["high"], row["method"]) == ("2.0", "2.0", "2.0", "constant")
    assert built(tmp_path, SCHEMA.empty_table()) == []


def test_influences_of_a_mean_are_its_standard_error() -> None:
    pair = np.random.default_rng(0).normal(size=50)
    found = Likeness(pair, np.zeros(50))
    assert (found.influence**2).sum() == pytest.approx(pair.var(ddof=1) / 50)
