"""A planted run as a workflow leaves it, for commands that read finished runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from library.tables import run as planted
from library.tables.run import BUDGETS, RANKS
from polygate import files
from polygate.prompts.table import PromptTable

DATASET = "organism"


@dataclass
class Placed(planted.Run):
    """A planted run whose files lie as a workflow's do, under the name of their data set; `other` are changed words."""

    settings: Mapping[str, Any] = None  # type: ignore[assignment]
    other: Mapping[str, str] = None  # type: ignore[assignment]

    def path(self, name: str) -> Path:
        parts = name.split("/")
        if parts[0] == "prompts" or {"judgements", "completions", "gate_scores"} & set(parts):
            parts.insert(-1, DATASET)
        return super().path("/".join(parts))

    def prompts(self, language: str) -> PromptTable:
        found = super().prompts(language)
        words = self.other or {}
        texts = [words.get(name, text) for name, text in zip(found.ids, found.texts, strict=True)]
        return replace(found, texts=tuple(texts))

    def finish(self) -> Placed:
        self.write()
        content = {
            "run": self.folder.name,
            "languages": {tier: list(names) for tier, names in self.languages.items()},
            "gate": {"rank": RANKS[-1], "ranks": list(RANKS), "budgets": list(BUDGETS), "draws": 3},
            "models": {name: {} for name in self.models},
            "prompts": {"source": DATASET},
            "statistics": {"resamples": 200},
            **(self.settings or {}),
        }
        files.write_text(self.folder / "report/config.yaml", yaml.safe_dump(content))
        return self
