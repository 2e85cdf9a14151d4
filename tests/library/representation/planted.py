"""A planted world: Gaussian activations of a few languages in which the harmfulness direction is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polygate.prompts import table
from polygate.prompts.table import MULTIPLE_CHOICE, Prompt, PromptTable, prompt_id
from polygate.representation.store import write_store

LAYERS, WIDTH = 3, 24
POSITION = "t_post_inst"
ROWS: Mapping[str, tuple[int, int]] = {"train": (40, 30), "val": (8, 8), "test": (25, 20)}
"""(harmful, harmless) prompts per split."""


@dataclass
class World:
    """Languages share a direction per layer, `shared` [L, d], and each adds a tilt and an offset of its own.

    `shift` moves both classes of a language along the shared direction, which leaves its separability alone and
    breaks its calibration. `model` is what activations say that they are of.
    """

    folder: Path
    seed: int = 0
    gap: float = 6.0
    tilt: float = 0.3
    shift: Mapping[str, float] = field(default_factory=dict)
    multiple_choice: int = 6
    model: str = ""

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        rows = random.normal(size=(LAYERS, WIDTH))
        self.shared: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def prompts(self, language: str, *, multiple_choice: bool = True) -> PromptTable:
        """The prompt table of a language."""
        rows = [
            Prompt(prompt_id(subset, split, i), f"{language} {subset} {split} {i}", reference="thing")  # type: ignore[arg-type]
            for split, counts in ROWS.items()
            for subset, n in zip(("harmful", "harmless"), counts, strict=True)
            for i in range(n)
        ]
        if multiple_choice:
            rows += [
                Prompt(prompt_id("harmless", "train", i, multiple_choice=True), f"which {i} ?", MULTIPLE_CHOICE)
                for i in range(self.multiple_choice)
            ]
        return table.build(language, rows)

    def activations(self, prompts: PromptTable) -> NDArray[np.float32]:
        """Activations [L, n, d]."""
        random = np.random.default_rng([self.seed, *prompts.language.encode()])
        harmful = prompts.harmful
        out = np.empty((LAYERS, len(prompts), WIDTH), np.float32)
        for layer in range(LAYERS):
            own = self.shared[layer] + self.tilt * random.normal(size=WIDTH) / np.sqrt(WIDTH)
            offset = random.normal(size=WIDTH) + self.shift.get(prompts.language, 0.0) * self.shared[layer]
            x = random.normal(size=(len(prompts), WIDTH)) + offset
            x[harmful] += self.gap * own
            # Multiple-choice prompts lie elsewhere, half way along the direction.
            x[prompts.multiple_choice] += 0.5 * self.gap * self.shared[layer] + 8 * np.eye(WIDTH)[layer]
            out[layer] = x
        return out

    def write(self, language: str, *, multiple_choice: bool = True) -> tuple[Path, Path]:
        """Write the store and the prompt table of a language; returns (activations, prompts)."""
        prompts = self.prompts(language, multiple_choice=multiple_choice)
        return self.write_activations(prompts, self.activations(prompts))

    def write_activations(self, prompts: PromptTable, x: NDArray[np.float32]) -> tuple[Path, Path]:
        """Write given activations [L, n, d] of a prompt table; returns (activations, prompts)."""
        store = self.folder / "activations" / f"{prompts.language}.safetensors"
        written = self.folder / "prompts" / f"{prompts.language}.parquet"
        tensors = {(layer, POSITION): x[layer] for layer in range(LAYERS)}
        of = {"model": self.model, "prompts": prompts.fingerprint()}
        counts = np.arange(1, len(prompts) + 1, dtype=np.int32)
        write_store(store, tensors, prompts.ids, counts, prompts.language, {}, of)
        table.write(written, prompts, {})
        return store, written


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Cosine of the angle between two vectors."""
    return float(a.astype(float) @ b.astype(float) / (np.linalg.norm(a) * np.linalg.norm(b)))


def naive_auc(scores: Sequence[float] | NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Share of harmful-harmless pairs in the right order, ties half."""
    values = np.asarray(scores, float)
    a, b = values[labels][:, None], values[~labels][None]
    return float((a > b).mean() + 0.5 * (a == b).mean())
