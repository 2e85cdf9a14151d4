"""Steering: how strong, with what, and routing as selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from polygate.errors import PolygateError
from polygate.steering import conditional
from polygate.steering.interventions import ablation, addition
from polygate.steering.strength import SteeringVector, projection_gap


def test_the_gap_is_the_upper_quartile_of_harmful_less_the_lower_quartile_of_harmless() -> None:
    harmful, harmless = np.arange(101) / 10 + 20, np.arange(201) / 20 - 3
    projections = np.concatenate([harmful, harmless])
    labels = np.arange(302) < 101
    assert projection_gap(projections, labels) == pytest.approx(27.5 - (-0.5))
    mixed = np.random.default_rng(0).permutation(302)
    assert projection_gap(projections[mixed], labels[mixed]) == pytest.approx(28)


def test_the_gap_of_normal_classes_is_their_distance_and_two_quartiles() -> None:
    random = np.random.default_rng(1)
    x = np.concatenate([random.normal(5, 1, 40000), random.normal(0, 1, 40000)])
    assert projection_gap(x, np.arange(80000) < 40000) == pytest.approx(5 + 2 * 0.6745, abs=0.03)


def test_alpha_is_lambda_times_the_gap() -> None:
    vector = SteeringVector(np.ones(3, np.float32), 2, 1.5, 4.0, "layer", "t", ("a",))
    assert vector.alpha == 6.0


def test_raw_strengths_are_in_the_units_of_the_residual_stream() -> None:
    vector = SteeringVector(np.ones(3, np.float32), 2, 1.5, 4.0, "layer", "t", ("a",), "raw")
    assert vector.alpha == 1.5


def test_a_direction_that_does_not_separate_gives_no_strength() -> None:
    with pytest.raises(PolygateError, match="do not lie apart"):
        projection_gap(np.array([0.0, 0.0, 5.0, 5.0]), np.array([True, True, False, False]))


ONES = np.ones(4)


def test_addition_is_alpha_times_v_from_the_prompts_last_token_on() -> None:
    v = np.array([0.6, 0.8], np.float32)
    part = addition(v, 2, 1.5 * ONES)
    assert (part.layers, part.operation, part.tokens) == ((2,), "add", "answering")
    np.testing.assert_array_equal(part.vectors, [v])
    assert part.coefficients.tolist() == [1.5] * 4


@pytest.mark.parametrize(("scope", "layers"), [("layer", (1,)), ("all", (0, 1, 2))])
def test_ablation_removes_v_from_every_token_at_its_scope(scope: Any, layers: tuple[int, ...]) -> None:
    v = np.array([0.6, 0.8], np.float32)
    (part,) = ablation(v, 1, scope, 3, ONES)
    assert (part.layers, part.operation, part.tokens) == (layers, "ablate", "every")
    np.testing.assert_array_equal(part.vectors, [v] * len(layers))
    assert part.coefficients.tolist() == [1] * 4


def test_ablation_nowhere_is_no_part() -> None:
    assert ablation(np.ones(2, np.float32), 1, "none", 3, ONES) == ()


def scores(decided: dict[tuple[int, int, int], list[bool]], split: str = "test") -> pa.Table:
    """A table of gate scores: (rank, budget, draw) → decision on prompts p0, p1, …"""
    rows = [
        {"prompt_id": f"p{i}", "split": split, "rank": r, "budget": b, "draw": d, "score": 1.0 * f, "flagged": f}
        for (r, b, d), flags in decided.items()
        for i, f in enumerate(flags)
    ]
    return pa.Table.from_pylist(rows)


def arm(name: str, n: int = 3) -> pa.Table:
    return pa.table({"prompt_id": [f"p{i}" for i in range(n)], "completion": [f"{name}{i}" for i in range(n)]})


def test_a_routed_prompt_is_its_addition_when_flagged_and_its_ablation_otherwise() -> None:
    decided = conditional.decisions(scores({(2, 4, 1): [True, True, False], (2, 4, 0): [False, True, False]}), 2, 4)
    routed = conditional.select(decided, arm("add"), arm("cut"))
    assert decided["draw"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert routed["completion"].to_pylist() == ["cut0", "add1", "cut2", "add0", "add1", "cut2"]
    assert routed["prompt_id"].to_pylist() == decided["prompt_id"].to_pylist() == ["p0", "p1", "p2"] * 2


def test_routing_uses_the_rank_and_budget_asked_for() -> None:
    table = scores({(1, 0, 0): [True] * 3, (2, 0, 0): [False] * 3, (2, 4, 0): [True] * 3})
    assert conditional.decisions(table, 2, 0)["flagged"].to_pylist() == [False] * 3
    assert conditional.decisions(table, 1, 0)["flagged"].to_pylist() == [True] * 3


def test_the_rank_is_clipped_to_what_a_high_resource_target_has() -> None:
    table = scores({(1, 0, 0): [False] * 3, (2, 0, 0): [True] * 3})
    assert conditional.decisions(table, 10, 0)["flagged"].to_pylist() == [True] * 3


def test_validation_prompts_are_not_routed() -> None:
    both = pa.concat_tables([scores({(1, 0, 0): [True]}, "val"), scores({(1, 0, 0): [False]}, "test")])
    assert conditional.decisions(both, 1, 0)["flagged"].to_pylist() == [False]


def test_a_budget_that_no_gate_has_is_named() -> None:
    with pytest.raises(PolygateError, match="budget 16"):
        conditional.decisions(scores({(1, 0, 0): [True]}), 1, 16)


def test_arms_over_other_prompts_are_refused() -> None:
    decided = conditional.decisions(scores({(1, 0, 0): [True, False, True]}), 1, 0)
    with pytest.raises(PolygateError, match="same prompts"):
        conditional.select(decided, arm("add"), arm("cut", 2))
    with pytest.raises(PolygateError, match="'p2' was routed"):
        conditional.select(decided, arm("add", 2), arm("cut", 2))
