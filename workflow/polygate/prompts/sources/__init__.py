"""Where prompts are from: one module per origin, called as the settings call it.

PolyRefuse and the user's own languages serve the section `prompts`; a module of an origin of `datasets` is an `Origin`.
Adding one is a module here and its name in `settings.types.Origin`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from polygate.prompts.sources.published import Published
from polygate.prompts.table import Prompt
from polygate.settings.types import Dataset, Organism


class Origin(Protocol):
    """What a module of this folder offers."""

    PUBLISHED: Published | None
    """What `download` fetches, None where it fetches nothing."""

    def languages(self, dataset: Dataset, organism: Organism) -> Sequence[str]:
        """Languages that the data set has: of its local folder where one is given, else as they are published.

        Raises `PolygateError` for a folder that doesn't hold the data set.
        """
        ...

    def is_task(self, dataset: Dataset) -> bool:
        """Whether it asks for one of some options, rather than for an answer in words."""
        ...

    def files(self, folder: Path, language: str) -> list[Path]:
        """The files of a folder that hold the prompts of a language."""
        ...

    def read(self, folder: Path | None, language: str, dataset: Dataset, organism: Organism) -> list[Prompt]:
        """The test prompts of a language, their ids the same in every language; `folder` is None for the organisms.

        Raises `PolygateError` naming file and row.
        """
        ...


def of(dataset: Dataset) -> Origin:
    """The module of a data set's origin."""
    return cast(Origin, importlib.import_module(f"{__name__}.{dataset.source}"))
