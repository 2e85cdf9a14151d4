"""Global-MMLU: questions of school and university with four options, in forty-two languages, for measuring utility.

Singh et al. 2024 (arXiv 2412.03304), CohereLabs/Global-MMLU on the Hugging Face hub, Apache-2.0. A folder holds the
hub's layout, `{language}/test-….parquet`, or one `{language}.csv`, `.jsonl` or `.parquet` per language.

An item is known by its `sample_id`, of which its number is a hash: the same in every language, whatever order or items
a language's file has. So the first items are a sample of all subjects. Without `sample_id` rows are numbered in order.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.prompts.sources import plain
from polygate.prompts.sources.plain import Columns
from polygate.prompts.sources.published import Published
from polygate.prompts.table import LETTERS, Prompt, prompt_id
from polygate.settings.types import Dataset, Organism

REPOSITORY = "CohereLabs/Global-MMLU"
REVISION = "a843ae0caca7e660d0342ecd570478fcfcdd5cb7"
LANGUAGES = (
    *("am", "ar", "bn", "cs", "de", "el", "en", "es", "fa", "fil", "fr", "ha", "he", "hi", "id", "ig", "it", "ja"),
    *("ko", "ky", "lt", "mg", "ms", "ne", "nl", "ny", "pl", "pt", "ro", "ru", "si", "sn", "so", "sr", "sv", "sw"),
    *("te", "tr", "uk", "vi", "yo", "zh"),
)
"""The languages of the hub's repository."""
PUBLISHED: Published | None = None
"""Its files come from the hub, one language at a time (`fetch`)."""
OPTIONS = ("option_a", "option_b", "option_c", "option_d")
COLUMNS = Columns(("question", *OPTIONS, "answer"), ("subject", "sample_id"))


def languages(dataset: Dataset, _organism: Organism) -> Sequence[str]:
    """The languages that its folder has a file of, or the hub's."""
    if dataset.folder is None:
        return LANGUAGES
    names = {path.stem if path.is_file() else path.name for path in dataset.folder.iterdir()}
    return sorted(name for name in names if _found(dataset.folder, name))


def is_task(_dataset: Dataset) -> bool:
    """It asks for one of four options."""
    return True


def files(folder: Path, language: str) -> list[Path]:
    """The files of a language."""
    found = _found(folder, language)
    if not found:
        raise PolygateError(f"there are no questions in {language} in it", where=folder)
    return found


def _found(folder: Path, language: str) -> list[Path]:
    inner = folder / language
    parts = sorted(inner.glob("test*")) if inner.is_dir() else [plain.find(folder, language)]
    return [part for part in parts if part is not None and part.suffix in plain.SUFFIXES]


def read(folder: Path | None, language: str, _dataset: Dataset, _organism: Organism) -> list[Prompt]:
    """Its questions in a language, as they are asked: the options below the question, the answer to follow.

    Reference: the letter of the right option. Category: the subject.
    """
    prompts: dict[str, Prompt] = {}
    for path in files(folder or Path(), language):
        for row, place in plain.rows(path, COLUMNS):
            prompt = _prompt(row, place, path, len(prompts))
            if prompt.prompt_id in prompts:
                raise PolygateError(f"{place} has the sample_id of another row", where=path, do="keep one of them")
            prompts[prompt.prompt_id] = prompt
    return list(prompts.values())


def _prompt(row: dict[str, Any], place: str, path: Path, number: int) -> Prompt:
    for name in COLUMNS.required:
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise PolygateError(f"{place} has no text in column {name!r}", where=path, do="complete the file")
    options = tuple(row[name].strip() for name in OPTIONS)
    letter = row["answer"].strip()
    if letter not in tuple(LETTERS[: len(options)]):
        raise PolygateError(f"{place} has answer {letter!r}", where=path, do="answers are A, B, C or D")
    identity = str(row.get("sample_id") or "")
    return Prompt(
        prompt_id("harmless", "test", _number(identity) if identity else number),
        asked(row["question"].strip(), options),
        category=str(row.get("subject") or ""),
        source=", ".join(filter(None, (f"{path.name} {place}", identity))),
        reference=letter,
        options=options,
        answer=LETTERS.index(letter),
    )


def asked(question: str, options: Sequence[str]) -> str:
    """A question with its options, as the model is asked it."""
    lettered = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question}\n\n{lettered}\n\nAnswer:"


def _number(identity: str) -> int:
    """Of twelve digits at most: that two of 14,042 items share one has a chance of one in ten thousand."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") % 10**12


def fetch(language: str, output: Path) -> None:
    """Fetch a language's test files from the hub, at the pinned revision, into the new folder `output`.

    Raises `PolygateError` when the hub can't be reached or has no such file.
    """
    from huggingface_hub import snapshot_download

    from polygate.prompts.sources.download import folder_when_complete

    with folder_when_complete(output) as folder:
        hub = folder / "hub"
        try:
            snapshot_download(
                REPOSITORY,
                repo_type="dataset",
                revision=REVISION,
                allow_patterns=f"{language}/test-*.parquet",
                local_dir=hub,
            )
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise PolygateError(
                f"can't download Global-MMLU ({reason})",
                where=REPOSITORY,
                do="check the network, or point the data set's folder to a local copy",
            ) from None
        parts = sorted((hub / language).glob("test-*.parquet"))
        if not parts:
            raise PolygateError(f"no questions in {language} at revision {REVISION[:12]}", where=REPOSITORY)
        (folder / language).mkdir()
        for part in parts:
            part.rename(folder / language / part.name)
        shutil.rmtree(hub)
