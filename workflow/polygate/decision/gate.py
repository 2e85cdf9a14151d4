"""The low-rank logistic gate: is this prompt harmful, in whatever language?

score(x) = w · (x·B − mean) / scale + bias, B the harmfulness subspace [d, r] of the source languages at one layer;
the gate fires when score > threshold. A saved gate is one safetensors file that holds all that is needed to use it
elsewhere (`Gate.load(path).decide(activations)`), steering vector and strength included.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision import calibration
from polygate.decision.calibration import ThresholdFrom
from polygate.errors import PolygateError

if TYPE_CHECKING:
    from polygate.settings.types import Scope

Solver = Literal["convex", "adamw"]
FILE = "gate.safetensors"
"""The gate in the folder that `polygate calibrate` writes, and `polygate export --to hub`."""
_GIVE = "give a whole gate: a file from a gates/ folder of a run, or the folder that calibrate wrote"
_ARRAYS = ("basis", "mean", "scale", "weights", "v")
_SCALARS = ("bias", "threshold", "alpha")


@dataclass(frozen=True)
class Gate:
    """A gate with all that is needed to use it: on activations, at `layer` and `position`, of the model it is of.

    `basis` float32 [d, r]; `mean`, `scale`, `weights` float64 [r]; `v` float32 [d], of unit length, and `alpha` steer
    a flagged prompt (h ← h + α·v), and v is ablated from the others at `scope`, or they are left alone. `balance`:
    (harmful, harmless) prompts fitted on, per language.
    """

    basis: NDArray[np.float32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    threshold: float
    v: NDArray[np.float32]
    alpha: float
    scope: Scope
    layer: int
    position: str
    solver: Solver
    threshold_from: ThresholdFrom
    informative: bool
    language: str
    budget: int
    draw: int
    sources: tuple[str, ...]
    balance: dict[str, tuple[int, int]]

    @property
    def rank(self) -> int:
        """Rank of the subspace."""
        return len(self.weights)

    def features(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Coordinates of activations x [n, d] in the subspace, float32 [n, r]."""
        rows = np.atleast_2d(np.asarray(x))
        if rows.shape[1] != self.basis.shape[0]:
            raise ValueError(f"activations have width {rows.shape[1]}, the gate was fitted on {self.basis.shape[0]}")
        return coordinates(rows, self.basis.T)

    def score(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Logits of activations x [n, d] (float32 or wider; bfloat16 must be widened first), float64 [n]."""
        return logits(self.features(x), self.mean, self.scale, self.weights, self.bias)

    def decide(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each prompt is harmful: score > threshold, bool [n]."""
        return calibration.decide(self.score(x), self.threshold)

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors; what is not an array goes to the metadata, and what else the gate is `of`."""
        tensors: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        tensors.update({name: np.array([getattr(self, name)], np.float64) for name in _SCALARS})
        metadata = {
            "scope": self.scope,
            "layer": str(self.layer),
            "position": self.position,
            "rank": str(self.rank),
            "solver": self.solver,
            "threshold_from": self.threshold_from,
            "informative": json.dumps(self.informative),
            "language": self.language,
            "budget": str(self.budget),
            "draw": str(self.draw),
            "sources": json.dumps(self.sources),
            "balance": json.dumps(self.balance),
        }
        files.write_safetensors(path, tensors, metadata, provenance, of)

    @classmethod
    def load(cls, path: str | Path) -> Gate:
        """Read a saved gate; `PolygateError` when the file is broken or not a gate."""
        tensors, metadata = files.read_safetensors(path)
        missing = [name for name in (*_ARRAYS, *_SCALARS) if name not in tensors]
        if missing or "layer" not in metadata:
            raise PolygateError("not a gate", where=path, do=_GIVE)
        with files.understood(path, "a gate"):
            balance = {name: (pair[0], pair[1]) for name, pair in json.loads(metadata["balance"]).items()}
            return cls(
                basis=tensors["basis"],
                mean=tensors["mean"],
                scale=tensors["scale"],
                weights=tensors["weights"],
                bias=float(tensors["bias"][0]),
                threshold=float(tensors["threshold"][0]),
                v=tensors["v"],
                alpha=float(tensors["alpha"][0]),
                scope=metadata["scope"],  # type: ignore[arg-type]
                layer=int(metadata["layer"]),
                position=metadata["position"],
                solver=metadata["solver"],  # type: ignore[arg-type]
                threshold_from=metadata["threshold_from"],  # type: ignore[arg-type]
                informative=json.loads(metadata["informative"]),
                language=metadata["language"],
                budget=int(metadata["budget"]),
                draw=int(metadata["draw"]),
                sources=tuple(json.loads(metadata["sources"])),
                balance=balance,
            )


def load(path: str | Path) -> Gate:
    """Read a saved gate: `Gate.load`."""
    return Gate.load(path)


def file_of(path: str | Path) -> Path:
    """The file of a gate that a person names: by it, or by the folder that `polygate calibrate` or `export` wrote."""
    path = Path(path)
    return path / FILE if path.is_dir() else path


def given(path: str | Path) -> Gate:
    """Read a gate that a person names, see `file_of`; `PolygateError` when there is none, or it is broken.

    Never with the advice to delete the file: it may be anything.
    """
    file = file_of(path)
    try:
        return Gate.load(file)
    except PolygateError as error:
        raise PolygateError(error.what, where=error.where, do=_GIVE) from None


def coordinates(x: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products of activations x [n, d] with `rows` [r, d], float32 [n, r].

    Summed in float64 and rounded to float32, so that the order of summation (the machine's instructions, how many
    prompts are scored together) leaves no trace, and a gate used elsewhere gives the very scores of the workflow.
    The projection kernel is not used here, as it sums spans in float32.
    """
    summed: NDArray[np.float64] = np.asarray(x, np.float64) @ rows.astype(np.float64).T
    return summed.astype(np.float32)


def logits(
    features: NDArray[Any],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    weights: NDArray[np.float64],
    bias: float,
) -> NDArray[np.float64]:
    """w · (features − mean) / scale + bias, float64 [n].

    Summed row by row in a fixed order rather than by a matrix product, whose rounding may depend on how many rows it
    is given.
    """
    terms = np.ascontiguousarray((np.asarray(features, np.float64) - mean) / scale * weights)
    scores: NDArray[np.float64] = terms.sum(axis=1) + bias
    return scores
