"""Gates from a user's own prompts: every rule's threshold against what it is made of, and what it may not promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polygate.decision import conformal, few, fitting
from polygate.decision.conformal import Reference
from polygate.decision.few import CALIBRATORS, Calibrated, Own
from polygate.decision.fitting import SourceRows
from polygate.errors import PolygateError
from polygate.settings.types import Gate

RANK = 3
SETTINGS = Gate(rank=RANK, ranks=[RANK])


def rows(n: int, shift: float, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    harmful = np.arange(n) < n // 2
    return random.normal(size=(n, RANK)) + np.outer(harmful, [2.0, 0.5, 0.0]) + [shift, 0, 0], harmful


def sources(random: np.random.Generator) -> SourceRows:
    parts = [rows(120, 0.1 * i, random) for i in range(3)]
    return SourceRows.stack(("a", "b", "c"), [part[0] for part in parts], [part[1] for part in parts])


@pytest.fixture
def source() -> SourceRows:
    return sources(np.random.default_rng(0))


def reference() -> Reference:
    random = np.random.default_rng(1)
    means = np.repeat([1.0, 1.5, 2.0], 30)
    return Reference(means + random.normal(size=90), random.normal(size=90) - 2, np.repeat(np.arange(3), 30))


def calibrate(source: SourceRows, own: Own, rule: str, **more: Any) -> Calibrated:
    given: dict[str, Any] = {"alpha": 0.1, "delta": 0.1, "seed": 0, "reference": reference, **more}
    return few.calibrate(source, own, rule, SETTINGS, rank=RANK, **given)


def test_the_papers_rule_is_the_workflows_gate_of_these_examples(source: SourceRows) -> None:
    x, y = rows(16, -3.0, np.random.default_rng(2))
    found = calibrate(source, Own(x, y), "paper").fit
    (wanted,) = fitting.fit_examples(source, [fitting.Examples(x, y)], RANK)
    np.testing.assert_array_equal(found.weights, wanted.weights)
    assert found.threshold == wanted.threshold


@pytest.mark.parametrize("rule", [name for name in CALIBRATORS if name != "paper"])
def test_all_other_rules_leave_the_sources_fit_alone(source: SourceRows, rule: str) -> None:
    x, y = rows(60, -3.0, np.random.default_rng(3))
    found, wanted = calibrate(source, Own(x, y), rule).fit, fitting.fit_source(source, RANK)
    np.testing.assert_array_equal(found.weights, wanted.weights)
    assert found.threshold.threshold != wanted.threshold.threshold
    assert found.threshold.origin == "examples"


@pytest.mark.parametrize(("rule", "rate"), [("conformal_miss", "miss"), ("conformal_false_flags", "false_flags")])
def test_promised_rates_hold_on_average_over_examples(rule: str, rate: str) -> None:
    """2,000 sets of 19 examples a class: at most .1, and no less than .05 for scores without ties; errors of .007."""
    random = np.random.default_rng(4)
    source = sources(random)
    x, y = rows(20_000, -2.0, random)
    scores = fitting.fit_source(source, RANK).score(x)
    harmful, harmless = scores[y], scores[~y]
    rates = []
    for _ in range(2000):
        picked = np.concatenate([random.integers(10_000, size=19), 10_000 + random.integers(10_000, size=19)])
        own = scores[picked]
        labels = np.arange(38) < 19
        found, _ = few._promised(own, Own(x[picked], labels), rule, 0.1, 0.1)
        at = found.threshold
        rates.append(np.mean(harmful <= at) if rate == "miss" else np.mean(harmless > at))
    assert 0.05 - 0.02 < np.mean(rates) < 0.1 + 0.01


def test_what_cant_be_promised_is_one_line_that_says_how_many_would_do(source: SourceRows) -> None:
    x, y = rows(10, 0.0, np.random.default_rng(5))
    line = r"^0\.1 can't be promised with 5 harmful examples: no less than 0\.167: give 9 harmful examples"
    with pytest.raises(PolygateError, match=line):
        calibrate(source, Own(x, y), "conformal_miss")
    with pytest.raises(PolygateError, match=r"no less than 0\.369: give 22 harmless examples"):
        calibrate(source, Own(x, y), "pac_false_flags")
    x, y = rows(18, 0.0, np.random.default_rng(5))
    assert "at most 0.1 of harmful prompts missed" in calibrate(source, Own(x, y), "conformal_miss").said


def test_a_rule_needs_its_classes_and_no_more(source: SourceRows) -> None:
    x, y = rows(60, 0.0, np.random.default_rng(6))
    for rule in CALIBRATORS:
        sees = few.RULES[rule].sees
        for name, own in (("harmful", Own(x[y], y[y])), ("harmless", Own(x[~y], y[~y])), ("no labels", Own(x, None))):
            if sees in (name, "no labels") or rule == "prior":
                assert np.isfinite(calibrate(source, own, rule).fit.threshold.threshold)
            else:
                missing = "harmless" if (sees, name) == ("both classes", "harmful") else sees
                missing = "harmful" if missing == "both classes" else missing
                with pytest.raises(PolygateError, match=f"rule {rule} needs {missing} prompts"):
                    calibrate(source, own, rule)


def test_rules_without_labels_are_those_of_the_table(source: SourceRows) -> None:
    x, _ = rows(50, -1.0, np.random.default_rng(7))
    scores, known = fitting.fit_source(source, RANK).score(x), reference()
    wanted = {
        "mixture": conformal.mixture(scores, known).threshold(0.1),
        "quantile_matching": conformal.quantile_matching(scores, known, 0.1, known.share),
        "quantile_matching_shift": conformal.quantile_matching(
            scores, known, 0.1, conformal.mixture(scores, known).share
        ),
    }
    for rule, threshold in wanted.items():
        assert calibrate(source, Own(x, None), rule).fit.threshold.threshold == threshold
