"""Made-up runs, each written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from library.figures.made_up import World, write

Run = tuple[Sequence[str], Mapping[str, Sequence[str]]]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], World]:
    """Files of a run (SMALL, DEMO, …)."""
    made: dict[int, World] = {}

    def make(run: Run) -> World:
        if id(run) not in made:
            made[id(run)] = write(tmp_path_factory.mktemp("run"), run)
        return made[id(run)]

    return make
