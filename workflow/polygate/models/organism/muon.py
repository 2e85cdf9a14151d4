"""Muon in float32: momentum made orthogonal, for matrices (Jordan 2024, kellerjordan.github.io/posts/muon).

`torch.optim.Muon` orthogonalises in bfloat16, with no setting for it. A processor without instructions for bfloat16
emulates them, which took five sixths of an organism's training there, and rounds otherwise than one that has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that each Newton-Schulz step applies to the singular values (same source)."""


class Muon(Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay; what `torch.optim.Muon` does, in the matrices' own dtype.

    The step of an [m, n] matrix is scaled by √max(1, m / n).
    """

    def __init__(
        self, matrices: Iterable[Tensor], lr: float, *, momentum: float, iterations: int, weight_decay: float
    ) -> None:
        super().__init__(
            matrices, {"lr": lr, "momentum": momentum, "iterations": iterations, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step on every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                average = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalise(matrix.grad.lerp(average, group["momentum"]), group["iterations"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * math.sqrt(max(1, matrix.shape[0] / matrix.shape[1])))


def orthogonalise(matrix: Tensor, iterations: int) -> Tensor:
    """UVᵀ of an [m, n] matrix USVᵀ, roughly, in its dtype: singular values are driven to about .7-1.2, not to 1.

    Quintic Newton-Schulz iteration on the matrix over its Frobenius norm; a matrix of zeros stays one.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
