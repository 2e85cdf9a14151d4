"""Muon: the library's optimiser as twin, orthogonality by singular values, the same step whatever the scale."""

from __future__ import annotations

import pytest
import torch

from polygate.models.organism.muon import Muon, orthogonalise

SHAPES = [(48, 96), (96, 96), (256, 96), (96, 256), (1, 7)]


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_torch_but_for_its_bfloat16(shape: tuple[int, int]) -> None:
    """Three steps on the same gradients: momentum, decay and scale are equal, bfloat16 alone sets them apart."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=draw)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [
        Muon([ours], 0.02, momentum=0.95, iterations=3, weight_decay=0.05),
        torch.optim.Muon([theirs], lr=0.02, momentum=0.95, ns_steps=3, weight_decay=0.05),
    ]
    for _ in range(3):
        gradient = torch.randn(shape, generator=draw)
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert moved > 0
    assert (ours - theirs).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_close_to_one_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalise(matrix, 5)
    # The iteration is a polynomial in the singular values: it keeps both sets of singular vectors.
    rotated = u.T @ made @ vt.T
    torch.testing.assert_close(rotated, torch.diag(rotated.diagonal()), atol=1e-9, rtol=0)
    sure = s > 0.05 * s.norm()
    assert sure.any()
    assert ((rotated.diagonal()[sure] > 0.6) & (rotated.diagonal()[sure] < 1.3)).all()


def test_the_size_of_a_gradient_does_not_count_and_zero_moves_nothing() -> None:
    gradient = torch.randn((6, 9), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonalise(gradient, 3), orthogonalise(1e3 * gradient, 3))
    assert not orthogonalise(torch.zeros(6, 9), 3).any()


def test_float32_stays_float32_and_float64_shows_its_rounding() -> None:
    """The same in float64 differs by the rounding of float32 alone; bfloat16 would differ by some 1e-2."""
    gradient = torch.randn((96, 256), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact, single = orthogonalise(gradient, 3), orthogonalise(gradient.float(), 3)
    assert single.dtype == torch.float32
    assert float((single.double() - exact).norm() / exact.norm()) < 1e-5


def test_a_matrix_without_gradient_is_left_alone() -> None:
    still, moving = (torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    moving.grad = torch.eye(3, 4)
    Muon([still, moving], 0.1, momentum=0.9, iterations=3, weight_decay=0.1).step()
    assert torch.equal(still, torch.ones(3, 4))
    assert not torch.equal(moving, torch.ones(3, 4))
