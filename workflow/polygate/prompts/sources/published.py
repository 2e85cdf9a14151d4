"""What others published: files pinned by their checksums, and finding them in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from polygate.errors import PolygateError
from polygate.settings.types import Dataset, Organism


@dataclass(frozen=True)
class Published:
    """A published data set: `title` is what it is called, `base` the address of its files at the pinned revision.

    `files` maps each file's path below `base` to its sha256, 64 hex digits.
    """

    title: str
    base: str
    files: Mapping[str, str]

    def find(self, folder: Path, *others: str) -> Path:
        """Its first file in a flat folder or a clone of upstream's repository, or one of `others` in its place.

        Raises `PolygateError` when there is none.
        """
        first = next(iter(self.files))
        for path in (first, *others):
            for candidate in (folder / PurePosixPath(path).name, folder / path):
                if candidate.is_file():
                    return candidate
        names = " and no ".join(PurePosixPath(path).name for path in (first, *others))
        raise PolygateError(f"there is no {names} in it", where=folder, do=f"name a folder with {self.title}'s files")


@dataclass(frozen=True)
class OneFile:
    """What origins of questions in words share whose prompts, in all of `published_in`, are in one file.

    `others` are files that may stand in its place. See `polygate.prompts.sources.Origin`.
    """

    published: Published
    published_in: tuple[str, ...]
    others: tuple[str, ...] = ()

    def languages(self, dataset: Dataset, _organism: Organism) -> Sequence[str]:
        """The languages it was published in; `PolygateError` for a folder without the file."""
        if dataset.folder is not None:
            self.published.find(dataset.folder, *self.others)
        return self.published_in

    def is_task(self, _dataset: Dataset) -> bool:
        """It asks for answers in words."""
        return False

    def files(self, folder: Path, _language: str) -> list[Path]:
        """The one file."""
        return [self.published.find(folder, *self.others)]

    def path(self, folder: Path | None, language: str) -> Path:
        """The file, where prompts in a language are wanted; `PolygateError` when they are not in it."""
        path = self.published.find(folder or Path(), *self.others)
        if language not in self.published_in:
            what = f"{self.published.title} is not in {language}"
            raise PolygateError(what, where=path, do=f"it is in {', '.join(self.published_in)}")
        return path
