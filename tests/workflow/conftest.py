"""One finished tiny run, made once; tests copy it before they touch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Checkout

from conftest import made_once

TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="session")
def tiny_settings() -> dict[str, Any]:
    """The settings of the tiny run."""
    return dict(yaml.safe_load(TINY.read_text()))


@pytest.fixture(scope="session")
def finished_tiny(tmp_path_factory: pytest.TempPathFactory, tiny_settings: dict[str, Any]) -> Checkout:
    """A checkout in which the tiny run has ended. Not to be changed: use `finished`."""

    def run(fresh: Checkout) -> None:
        fresh.snakemake("--configfile", fresh.configure(tiny_settings))

    return made_once(tmp_path_factory, "tiny", run)


@pytest.fixture
def finished(finished_tiny: Checkout, tmp_path: Path) -> Checkout:
    """A copy of the finished tiny run that a test may change."""
    return finished_tiny.copy(tmp_path / "checkout")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Checkout]:
    """Makes a checkout in which nothing has run."""
    return lambda: Checkout.fresh(tmp_path / "fresh")
