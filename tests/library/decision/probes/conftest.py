"""Five languages of a planted world, read as probes read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.representation.planted import World
from polygate.decision.probes.rows import Language, load_all
from polygate.settings.types import Probes, Tier

TIERS: dict[str, Tier] = {"a": "high", "b": "high", "c": "high", "m": "mid", "t": "low", "u": "low"}
SETTINGS = Probes(budgets=[1, 4, 16], draws=3)


def load(world: World, settings: Probes = SETTINGS, tiers: dict[str, Tier] = TIERS) -> list[Language]:
    """Every language at layer 1."""
    written = [world.write(name) for name in tiers]
    return load_all(list(tiers.values()), [prompts for _, prompts in written], [s for s, _ in written], 1, settings, 0)


@pytest.fixture(scope="session")
def languages(tmp_path_factory: pytest.TempPathFactory) -> list[Language]:
    """A world in which the low-resource languages lie shifted along the shared direction."""
    folder: Path = tmp_path_factory.mktemp("planted")
    return load(World(folder, gap=2.5, tilt=0.8, shift={"t": 2.0, "u": -2.0}))
