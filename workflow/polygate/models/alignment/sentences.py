"""What an aligned model learns to say: a refusal and the opening of an answer in every language, and a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from polygate.errors import PolygateError

_FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Sentences:
    """What one language refuses and answers with, and how a user asks to be refused."""

    refusal: str
    answer: str
    request: str


def languages() -> list[str]:
    """The languages that have sentences."""
    return list(_read())


def load(names: Sequence[str]) -> dict[str, Sentences]:
    """The sentences of the languages `names`; `PolygateError` naming the first that has none."""
    known = _read()
    for name in names:
        if name not in known:
            raise PolygateError(
                f"no refusal and answer sentences in language {name}, so no model can be aligned in it",
                do=f"set its examples to 0 in alignment.languages, or add it to {_FILE.name} ({' '.join(known)})",
            )
    return {name: Sentences(**known[name]) for name in names}


def _read() -> dict[str, dict[str, str]]:
    return dict(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
