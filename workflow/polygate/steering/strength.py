"""How strongly to steer: α = λ · gap, in units of how far apart the classes lie along v."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError
from polygate.settings.types import Scope


def projection_gap(projections: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """75th percentile of the harmful less 25th percentile of the harmless `projections` [n] on v.

    Percentiles interpolate linearly. `labels` bool [n] says which are harmful. Raises `PolygateError` unless the gap
    is positive: α = λ · gap would steer the wrong way.
    """
    harmful, harmless = projections[labels], projections[~labels]
    gap = float(np.percentile(harmful, 75) - np.percentile(harmless, 25))
    if not gap > 0:
        raise PolygateError(
            f"harmful and harmless source prompts do not lie apart along the direction (gap {gap:.3g})",
            do="choose another layer",
        )
    return gap


@dataclass(frozen=True)
class SteeringVector:
    """How one target language is steered at `layer`.

    A flagged prompt: h ← h + α·v at the last prompt token and every generated one. Any other: h ← h − (h·v)v at every
    token, at `layer` alone, at all layers or nowhere (`scope`). `v` float32 [d] of unit length is the pooled
    difference in means of `sources`; `alpha` = `strength` · `gap`, in the units of the residual stream.
    """

    v: NDArray[np.float32]
    layer: int
    strength: float
    gap: float
    scope: Scope
    language: str
    sources: tuple[str, ...]

    @property
    def alpha(self) -> float:
        """α = λ · gap."""
        return self.strength * self.gap

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors: `v`, everything else in the metadata (floats in full), and what else it is `of`."""
        metadata = {
            "layer": str(self.layer),
            "alpha": repr(float(self.alpha)),
            "strength": repr(float(self.strength)),
            "gap": repr(float(self.gap)),
            "ablation": self.scope,
            "language": self.language,
            "sources": json.dumps(self.sources),
        }
        files.write_safetensors(path, {"v": self.v}, metadata, provenance, of)

    @classmethod
    def load(cls, path: str | Path) -> SteeringVector:
        """Read what `save` wrote; `PolygateError` when the file is broken or foreign."""
        tensors, metadata = files.read_safetensors(path)
        if "v" not in tensors or "alpha" not in metadata:
            raise PolygateError("not a steering vector", where=path, do="delete the file and rerun")
        with files.understood(path, "a steering vector"):
            return cls(
                v=tensors["v"],
                layer=int(metadata["layer"]),
                strength=float(metadata["strength"]),
                gap=float(metadata["gap"]),
                scope=metadata["ablation"],  # type: ignore[arg-type]
                language=metadata["language"],
                sources=tuple(json.loads(metadata["sources"])),
            )
