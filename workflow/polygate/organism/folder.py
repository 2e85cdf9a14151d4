"""An organism as a normal Hugging Face folder: weights, configuration, tokenizer, chat template and model card."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import files
from polygate.errors import PolygateError
from polygate.organism.card import model_card
from polygate.organism.corpus import Corpus
from polygate.organism.training import Trained
from polygate.settings import Architecture

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


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it becomes `folder`, on failure it is removed.

    Raises `PolygateError` when the disk is full or the folder can't be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:80]}.", suffix=".tmp"))
        yield temporary
        _flush(temporary)
        temporary.chmod(folder.parent.stat().st_mode & 0o777)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except Exception as error:
        if _is_full(error):
            raise PolygateError(
                "no space left on the disk", where=folder, do="free some space and run the same command again"
            ) from error
        if isinstance(error, PermissionError):
            raise PolygateError("can't write", where=folder, do="check the folder's permissions") from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring every file to the disk and give all the usual permissions (safetensors leaves its own to the owner)."""
    mode = (folder.parent.stat().st_mode | 0o600) & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as written:
                os.fsync(written.fileno())
            path.chmod(mode)


def _is_full(error: Exception) -> bool:
    """Whether the disk or the quota is used up; safetensors reports it in words of its own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error) or "quota exceeded" in str(error)
