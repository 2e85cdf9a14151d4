"""What others published: files pinned by their checksums, and finding them in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from polygate.errors import PolygateError


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
