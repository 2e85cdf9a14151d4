"""Activations of the paper's size, made up: one model, one layer, 23 languages, for benchmarks.

Rows are a low-rank background, the same directions in every language with falling variances, plus isotropic noise, an
offset per language, and for harmful prompts a step along a direction that languages share up to a tilt of their own.
Gaps are such that AUCs lie near the paper's; low-resource languages lie shifted along the direction, so that a
threshold of the high-resource languages fails them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polygate.prompts import table
from polygate.prompts.table import SUBSETS, Prompt, Split, prompt_id
from polygate.representation.store import write_store
from polygate.settings.types import Languages, Tier
from polygate.steering.choice import Choice

WIDTH, BACKGROUND = 3584, 256
ROWS: Mapping[Split, tuple[int, int]] = {"train": (260, 200), "val": (39, 200), "test": (572, 500)}
"""(harmful, harmless) prompts per split, as in PolyRefuse."""
GAPS: Mapping[Tier, float] = {"high": 2.0, "mid": 1.7, "low": 1.4}
SHIFT = -0.7
"""Of the low-resource languages, along the shared direction."""


@dataclass(frozen=True)
class World:
    """The files of a made-up model: stores and prompt tables in the order of `languages`, and its choices."""

    languages: tuple[str, ...]
    tiers: tuple[Tier, ...]
    activations: tuple[Path, ...]
    prompts: tuple[Path, ...]
    choices: Path


def make(folder: Path, width: int = WIDTH) -> World:
    """Write a world of the paper's languages, layer 0 only."""
    languages = Languages()
    random = np.random.default_rng(0)
    background = random.normal(size=(BACKGROUND, width)) * 0.05 * np.arange(1, BACKGROUND + 1)[:, None] ** -0.5
    background, shared = background.astype(np.float32), _unit(random, width)
    stores, tables = [], []
    for number, name in enumerate(languages.all()):
        tier = languages.tier(name)
        own = np.random.default_rng([1, number])
        prompts = table.build(
            name,
            [
                Prompt(prompt_id(subset, split, row), f"{name} {subset} {split} {row}", source="made up")
                for split, counts in ROWS.items()
                for subset, count in zip(SUBSETS, counts, strict=True)
                for row in range(count)
            ],
        )
        step = GAPS[tier] * (shared + 0.5 * _unit(own, width))
        n = len(prompts)
        rows = own.standard_normal((n, BACKGROUND), np.float32) @ background
        rows += 0.1 * own.standard_normal((n, width), np.float32) + 0.1 * own.standard_normal(width, np.float32)
        rows += (0.5 * own.standard_normal((n, 1), np.float32) + (SHIFT if tier == "low" else 0.0)) * shared
        rows += np.where(prompts.harmful, np.float32(0.5), np.float32(-0.5))[:, None] * step
        stores.append(folder / "activations" / f"{name}.safetensors")
        tables.append(folder / "prompts" / f"{name}.parquet")
        values = torch.from_numpy(rows).bfloat16()
        write_store(stores[-1], {(0, "t_post_inst"): values}, prompts.ids, np.full(n, 10), name)
        table.write(tables[-1], prompts)
    Choice(0, 1.0, "layer", ("layer", "strength", "ablation")).save(folder / "choices.parquet", {})
    names = tuple(languages.all())
    tiers = tuple(languages.tier(name) for name in names)
    return World(names, tiers, tuple(stores), tuple(tables), folder / "choices.parquet")


def _unit(random: np.random.Generator, width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    found = random.standard_normal(width, np.float32)
    return found / np.float32(np.linalg.norm(found))
