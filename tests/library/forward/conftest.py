"""Fixtures: each tiny random model as a folder and loaded, and prompts of different lengths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from library.forward.tiny import ARCHITECTURES, WORDS, build_folder, options
from polygate.forward.loading import LoadedModel, load


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture → model folder."""
    root = tmp_path_factory.mktemp("models")
    return {name: build_folder(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def loaded_model(folders: dict[str, Path]) -> Callable[[str], LoadedModel]:
    """Load a model by architecture, once per session."""
    cache: dict[str, LoadedModel] = {}

    def get(architecture: str) -> LoadedModel:
        if architecture not in cache:
            cache[architecture] = load(folders[architecture], options(architecture))
        return cache[architecture]

    return get


@pytest.fixture(params=ARCHITECTURES)
def loaded(request: pytest.FixtureRequest, loaded_model: Callable[[str], LoadedModel]) -> LoadedModel:
    """Each architecture in turn."""
    return loaded_model(request.param)


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """Instructions of 1 to 17 words."""
    generator = torch.Generator().manual_seed(5)
    lengths = [1, 9, 3, 17, 5, 2, 12, 7, 1, 4, 9, 6]
    return [" ".join(WORDS[int(torch.randint(50, (), generator=generator))] for _ in range(n)) for n in lengths]
