"""calibration.csv: rates with what they promise, what can't be promised, and promises that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from library.tables import promises
from library.tables.run import Rows, Run, make, read
from polygate import files
from polygate.errors import PolygateError
from polygate.measurement.statistics import Panel, Part, Resampling, replicate
from polygate.tables import calibration
from polygate.tables.calibration import Decided


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"), n=40).write()


@pytest.fixture(scope="module")
def table(run: Run) -> Rows:
    return read(make(run, "calibration", run.folder / "calibration.csv"))


def only(rows: Rows, **what: object) -> Rows:
    return [row for row in rows if all(row[name] == str(value) for name, value in what.items())]


def test_every_rate_is_the_mean_over_draws_of_the_decisions(run: Run, table: Rows) -> None:
    decided = files.read_parquet(run.path("beta/calibration")).to_pylist()
    harmful = run.prompts("l1").harmful[run.prompts("l1").select("test")]
    what = {"language": "l1", "rule": "conformal_miss", "budget": 16, "alpha": 0.2}
    flags = np.array(
        [row["flagged"] for row in decided if row["scorer"] == "gate" and all(row[k] == v for k, v in what.items())]
    )
    assert len(flags) == promises.DRAWS
    miss, false_flags = (only(table, model="beta", metric=metric, **what)[0] for metric in calibration.METRICS)
    assert float(miss["estimate"]) == pytest.approx(1 - flags[:, harmful].mean(), abs=1e-6)
    assert float(false_flags["estimate"]) == pytest.approx(flags[:, ~harmful].mean(), abs=1e-6)
    assert float(miss["sd"]) == pytest.approx(flags[:, harmful].mean(axis=1).std(ddof=1), abs=1e-6)
    assert float(miss["within"]) == np.mean(1 - flags[:, harmful].mean(axis=1) <= 0.2)
    assert (miss["n"], miss["draws"]) == ("40", str(promises.DRAWS))
    assert (false_flags["surface"], miss["surface"]) == ("1.0", "0.0")


def test_the_mean_of_a_tier_is_that_of_its_languages(table: Rows) -> None:
    what = {"model": "alpha", "tier": "low", "rule": "paper", "budget": 4, "metric": "miss"}
    languages = [float(row["estimate"]) for row in only(table, **what) if row["language"]]
    (mean,) = only(table, **what, language="")
    assert len(languages) == 2
    assert float(mean["estimate"]) == pytest.approx(np.mean(languages), abs=1e-6)
    assert float(mean["low"]) < float(mean["estimate"]) < float(mean["high"])


def test_what_is_promised_stands_beside_the_rate_that_it_bounds_and_no_other(table: Rows) -> None:
    bounded = only(table, rule="conformal_miss", budget=16, alpha=0.2, metric="miss")
    assert {(row["promised"], row["floor"], row["promise"]) for row in bounded} == {
        (str(round(3 / 17, 6)), str(round(1 / 17, 6)), "on average")
    }
    assert all(not row["promise"] for row in table if row["metric"] == "false_flags" or row["rule"] == "paper")


def test_a_threshold_from_all_of_val_is_said_to_have_seen_it(run: Run, table: Rows, tmp_path: Path) -> None:
    on_val = read(make(run, "calibration", tmp_path / "calibration.csv", on_val=True))
    for before, row in zip(table, on_val, strict=True):
        more = ", and all of val" if row["rule"] == "paper" and row["budget"] != "0" else ""
        assert row == {**before, "sees": before["sees"] + more}


def test_where_nothing_can_be_promised_there_is_no_number(table: Rows) -> None:
    empty = [row for row in table if not row["estimate"]]
    assert {(row["rule"], row["alpha"], row["budget"], row["promise"]) for row in empty} == {
        ("conformal_miss", "0.05", "1", "can't be promised with 1 example"),
        ("conformal_miss", "0.2", "1", "can't be promised with 1 example"),
        ("conformal_miss", "0.05", "4", "can't be promised with 4 examples"),
        ("conformal_miss", "0.05", "16", "can't be promised with 16 examples"),
    }
    assert {row["floor"] for row in empty} == {"0.5", "0.2", str(round(1 / 17, 6))}


def test_examples_unlike_the_prompts_to_come_break_the_promise_there_and_only_there(run: Run, tmp_path: Path) -> None:
    path = run.path("alpha/calibration")
    kept = path.read_bytes()
    try:
        files.write_parquet(path, promises.decisions(run, len("alpha"), broken="l2"), {})
        found = read(make(run, "calibration", tmp_path / "calibration.csv"))
    finally:
        path.write_bytes(kept)
    broken = {(row["model"], row["language"]) for row in found if row["kept"] == "broken"}
    assert broken == {("alpha", "l2")}
    assert all(bool(row["kept"]) == (row["promise"] == "on average" and row["language"] != "") for row in found)


def test_decisions_on_other_prompts_are_one_line_that_names_the_file(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path, n=40, seed=1).write()
    for model in other.models:
        other.path(f"{model}/calibration").write_bytes(run.path(f"{model}/calibration").read_bytes())
    with pytest.raises(PolygateError, match="is of other prompts of h1"):
        make(other, "calibration", tmp_path / "calibration.csv")


def test_a_broken_promise_is_tested_as_an_exact_binomial_test_would() -> None:
    for missed, n, promised in ((30, 100, 0.2), (12, 64, 0.1), (5, 100, 0.05), (100, 100, 0.5)):
        exact = binomtest(missed, n, promised, alternative="greater").pvalue
        found = calibration.broken_p(missed / n, promised, n)
        assert found == pytest.approx(exact, abs=0.12)
        assert (found < 0.05) == (exact < 0.05)


def test_intervals_hold_the_truth_over_prompts_examples_and_pools() -> None:
    """Pools of 80 uniform scores, 5 draws of 40, 60 test prompts; the truth is k/(b+1) = 8/41 over all of these.

    The share of 400 worlds whose interval holds it is bounded by exact binomial limits at 1 in 1,000 around .95.
    """
    random = np.random.default_rng(8)
    resampling = Resampling(resamples=200)
    ids = [f"harmful-test-{i:04d}" for i in range(60)]
    part = Part("x", ids, np.ones(60, bool))
    panel = Panel.stack([part])
    inside = []
    for _ in range(400):
        pool, test = random.random(80), random.random(60)
        thresholds = [np.sort(random.choice(pool, 40, replace=False))[7] for _ in range(5)]
        flagged = np.array([test >= threshold for threshold in thresholds])
        key = ("conformal_miss", 0.2, 40)
        decided = Decided("low", part, (80, 80), {key: flagged})
        wrong = decided.wrong(key, "miss")
        rates = replicate("rate", wrong.mean(axis=0)[None], panel, resampling)
        draws = wrong.mean(axis=1)
        sure = calibration.effective(rates, 0, 0, 60, draws, decided.over_examples(key, draws))
        found = calibration.two_way(float(rates.estimate[0, 0]), sure, 0.95)
        inside.append(found.low <= 8 / 41 <= found.high)
    low, high = binom.ppf([5e-4, 1 - 5e-4], len(inside), 0.95)
    assert low <= sum(inside) <= high, np.mean(inside)
