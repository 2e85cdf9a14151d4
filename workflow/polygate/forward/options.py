"""What of a model's settings decides the numbers it gives. Imports nothing heavy."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from polygate.errors import PolygateError


class ModelSettings(Protocol):
    """The part of a model's settings that loading and batching read; `settings.Model` and `Options` both fit."""

    @property
    def dtype(self) -> str:
        """float32, bfloat16 or float16."""

    @property
    def quantisation(self) -> str:
        """8bit, 4bit or none: how weights are rounded when they are loaded."""

    @property
    def attention(self) -> str:
        """eager or sdpa."""

    @property
    def chat_template(self) -> Path | None:
        """A Jinja file that replaces the tokenizer's own template."""

    @property
    def template_arguments(self) -> Mapping[str, Any]:
        """JSON values by the names that the chat template knows them by."""

    @property
    def batch_tokens(self) -> int | Literal["auto"]:
        """Upper limit of padded tokens in one batch; auto: as the machine wants it."""

    @property
    def revision(self) -> str | None:
        """Commit of the hub repository that the folder came from."""


@dataclass(frozen=True)
class Options:
    """`ModelSettings` as plain values."""

    dtype: str = "float32"
    attention: str = "sdpa"
    chat_template: Path | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    batch_tokens: int | Literal["auto"] = "auto"
    revision: str | None = None
    quantisation: str = "none"

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> Options:
        """From the JSON of a model's settings; keys that don't decide its numbers are left out."""
        template = model.get("chat_template")
        return cls(
            dtype=str(model["dtype"]),
            attention=str(model["attention"]),
            chat_template=None if template is None else Path(template),
            template_arguments=dict(model.get("template_arguments", {})),
            batch_tokens="auto" if model["batch_tokens"] == "auto" else int(model["batch_tokens"]),
            revision=model.get("revision"),
            quantisation=str(model.get("quantisation", "none")),
        )


def read_template(path: Path) -> str:
    """A chat template's text, in UTF-8 or, with a byte order mark, UTF-16; `PolygateError` when it can't be read."""
    try:
        content = path.read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise PolygateError(f"chat template can't be read ({error.strerror})", where=path) from None
    except UnicodeDecodeError:
        raise PolygateError("chat template is neither UTF-8 nor UTF-16", where=path, do="save it as UTF-8") from None
