"""What of a model's settings decides the numbers it gives. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class ModelSettings(Protocol):
    """The part of a model's settings that loading and batching read; `settings.Model` and `Options` both fit."""

    @property
    def dtype(self) -> str:
        """float32, bfloat16 or float16."""

    @property
    def attention(self) -> str:
        """eager or sdpa."""

    @property
    def chat_template(self) -> Path | None:
        """A Jinja file that replaces the tokenizer's own template."""

    @property
    def batch_tokens(self) -> int:
        """Upper limit of padded tokens in one batch."""

    @property
    def revision(self) -> str | None:
        """Commit of the hub repository that the folder came from."""


@dataclass(frozen=True)
class Options:
    """`ModelSettings` as plain values."""

    dtype: str = "float32"
    attention: str = "sdpa"
    chat_template: Path | None = None
    batch_tokens: int = 16384
    revision: str | None = None

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Options:
        """From the JSON of a model's settings; keys that don't decide its numbers are left out."""
        template = model.get("chat_template")
        return cls(
            dtype=str(model["dtype"]),
            attention=str(model["attention"]),
            chat_template=None if template is None else Path(template),
            batch_tokens=int(model["batch_tokens"]),
            revision=model.get("revision"),
        )
