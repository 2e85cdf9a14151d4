"""An aligned model as a normal Hugging Face folder, in the dtype of the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from polygate import digests, files
from polygate.models.alignment.card import model_card
from polygate.models.alignment.examples import Chosen
from polygate.models.alignment.training import Aligned
from polygate.settings.types import Alignment


def save(
    folder: Path, aligned: Aligned, tokenizer: Any, chosen: Chosen, alignment: Alignment, made: Mapping[str, Any]
) -> None:
    """Write the folder, all of it or nothing: weights, tokenizer with its chat template, losses, provenance, card.

    Raises `PolygateError` when the disk is full or the folder can't be written.
    """
    with files.atomic_folder(folder) as temporary:
        aligned.model.to(getattr(torch, made["dtype"])).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        losses = "".join(f"{step},{loss:.6g}\n" for step, loss in enumerate(aligned.losses))
        files.write_text(temporary / "losses.csv", "step,loss\n" + losses)
        files.write_json(temporary / "provenance.json", dict(made))
        files.write_text(temporary / "README.md", model_card(aligned, chosen, alignment, made))
        digests.seal_folder(temporary)
