"""Saved gates on prompts that they were not fitted on: other data sets, other languages' harmless prompts.

A gate reads one layer at one position of the unsteered prefill, so what it decides of any prompt follows from stored
activations. Files of gates lie in one folder per language: `{budget}.{draw}.safetensors` of the rank that routes,
`rank-1/{budget}.{draw}.safetensors` of rank 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision.card import Scored
from polygate.decision.gate import Gate
from polygate.errors import PolygateError
from polygate.representation.store import ActivationStore


def place(rank: int, budget: int, draw: int, routing: int) -> str:
    """Where a gate lies within the folder of its language; `routing` is the rank that routes."""
    name = f"{budget}.{draw}.safetensors"
    return name if rank == routing else f"rank-{rank}/{name}"


def read_gates(folder: str | Path, **wanted: object) -> list[Gate]:
    """Every gate of a language's folder, by rank, budget and draw; `wanted` says what they must be of.

    Raises `PolygateError` when there is none, and for one that is broken, foreign, or of something else, or fitted with
    other settings than the others.
    """
    found, how = [], wanted.get("gate")
    for path in sorted(Path(folder).rglob("*.safetensors")):
        said = files.safetensors_metadata(path)
        files.expect(path, said, **{**wanted, "gate": how})
        how = how or said.get("gate")
        found.append(Gate.load(path))
    if not found:
        raise PolygateError("no gates in it", where=folder, do="delete the folder and rerun")
    return sorted(found, key=lambda gate: (gate.rank, gate.budget, gate.draw))


def score(gates: Sequence[Gate], store: ActivationStore, rows: NDArray[Any]) -> list[Scored]:
    """What gates say of some rows of a store, in their order.

    Raises `PolygateError` for activations of another width or without the gates' layer and position, and for some that
    are NaN or infinite.
    """
    kept: dict[tuple[int, str], NDArray[np.float32]] = {}
    scored = []
    for gate in gates:
        where = (gate.layer, gate.position)
        if where not in kept:
            kept[where] = store.read(*where, rows)
            store.check_finite(kept[where], gate.layer, rows)
        if store.width != len(gate.basis):
            raise PolygateError(
                f"activations of width {store.width}, the gates were fitted on {len(gate.basis)}", where=store.path
            )
        known = (gate.rank, gate.budget, gate.draw, gate.solver, gate.threshold_from, gate.threshold, gate.informative)
        scored.append(Scored(*known, gate.score(kept[where])))
    return scored
