"""The four parts of a model's failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from polygate.decomposition import PARTS, decompose


@pytest.mark.parametrize(
    ("refused", "uncalibrated", "recalibrated", "part"),
    [
        (True, True, True, "acted"),
        (True, False, False, "acted"),
        (False, True, True, "action"),
        (False, True, False, "action"),
        (False, False, True, "calibration"),
        (False, False, False, "representation"),
    ],
)
def test_every_case(refused: bool, uncalibrated: bool, recalibrated: bool, part: str) -> None:
    found = decompose(np.array([refused]), np.array([uncalibrated]), np.array([[recalibrated]]))
    assert dict(zip(PARTS, found[:, 0].tolist(), strict=True)) == {name: float(name == part) for name in PARTS}


@given(arrays.arrays(bool, (6, 9)))
def test_shares_sum_to_one(flags: np.ndarray) -> None:
    found = decompose(flags[0], flags[1], flags[2:])
    assert np.allclose(found.sum(axis=0), 1)
    assert (found >= 0).all()


def test_draws_are_averaged() -> None:
    found = decompose(np.array([False]), np.array([False]), np.array([[True], [False], [True], [True]]))
    assert found[:, 0].tolist() == [0, 0, 0.75, 0.25]


@given(arrays.arrays(bool, (6, 9)))
def test_the_order_of_draws_does_not_matter(flags: np.ndarray) -> None:
    assert np.allclose(decompose(flags[0], flags[1], flags[2:]), decompose(flags[0], flags[1], flags[:1:-1]))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="draws"):
        decompose(np.zeros(3, bool), np.zeros(3, bool), np.zeros((0, 3), bool))
    with pytest.raises(ValueError, match="draws"):
        decompose(np.zeros(3, bool), np.zeros(2, bool), np.zeros((1, 3), bool))
