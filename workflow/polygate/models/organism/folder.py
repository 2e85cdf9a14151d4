"""An organism as a normal Hugging Face folder: weights, configuration, tokenizer, chat template and model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import digests, files
from polygate.files import atomic_folder
from polygate.models.organism.card import model_card
from polygate.models.organism.corpus import Corpus
from polygate.models.organism.training import Trained
from polygate.settings.types import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def save(
    folder: Path,
    trained: Trained,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    architecture: Architecture,
    provenance: Mapping[str, Any],
) -> None:
    """Write the folder of a trained organism, all of it or nothing; one that is already there is replaced.

    Raises `PolygateError` when the disk is full or the folder can't be written.
    """
    from transformers import GenerationConfig

    model = trained.model
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with atomic_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        losses = "".join(f"{step},{loss:.6g}\n" for step, loss in enumerate(trained.losses))
        files.write_text(temporary / "losses.csv", "step,loss\n" + losses)
        files.write_json(temporary / "provenance.json", dict(provenance))
        files.write_text(temporary / "README.md", model_card(architecture, trained, corpus))
        digests.seal_folder(temporary)
