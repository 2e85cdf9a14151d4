"""Prompt tables with a split set aside, and a tiny random model to align."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from library.forward.tiny import build_folder
from library.prompts import upstream
from polygate.prompts.sources import polyrefuse
from polygate.prompts.table import PromptTable
from polygate.settings.types import Prompts

LANGUAGES = ("en", "de", "yo")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, PromptTable]:
    """Twelve train prompts per class and language, of which the last five are set aside."""
    folder = upstream.write(tmp_path / "polyrefuse", LANGUAGES)
    return {name: polyrefuse.read(folder, name, Prompts(align=5)) for name in LANGUAGES}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as a Hugging Face folder."""
    return build_folder(tmp_path_factory.mktemp("base") / "llama", "llama")
