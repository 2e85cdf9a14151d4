"""What low-dimensional probes read: inner products of rows with the mean differences of the source languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polygate.decision.probes.parallel import single
from polygate.decision.probes.rows import Language

Wide = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The source languages of one target: `names` among all languages, and their train rows."""

    names: tuple[str, ...]
    harmful: NDArray[np.bool_]
    languages: NDArray[np.int64]

    @classmethod
    def of(cls, languages: Sequence[Language]) -> Group:
        """Of the languages given."""
        return cls(
            tuple(language.name for language in languages),
            np.concatenate([language.harmful for language in languages]),
            np.repeat(np.arange(len(languages)), [len(language.train) for language in languages]),
        )


@dataclass(frozen=True)
class _Coordinates:
    """Inner products of rows with the mean difference of every language, float64: `train` [n, s], `test` [m, s]."""

    train: Wide
    test: Wide


class Differences:
    """The mean differences of `languages`, and the train and test rows of all of them along each.

    `order` numbers the languages; `inner` float64 [s, s] are the inner products of their unit mean differences.
    """

    def __init__(self, languages: Sequence[Language], pivot: str) -> None:
        self.pivot = pivot
        differences = np.stack([language.difference() for language in languages])
        self.order = {language.name: column for column, language in enumerate(languages)}
        with single():
            self.inner = differences @ differences.T
            self.along = {
                language.name: _Coordinates(
                    language.train.astype(np.float64) @ differences.T,
                    language.test().astype(np.float64) @ differences.T,
                )
                for language in languages
            }

    # Features: [n, r] of the group's train rows, the target's train rows and its test rows.

    def bank(self, target: Language, group: Group) -> tuple[Wide, Wide, Wide]:
        """Along the mean difference of every source."""
        columns = self._columns(group)
        source = np.concatenate([self.along[name].train[:, columns] for name in group.names])
        own = self.along[target.name]
        return source, own.train[:, columns], own.test[:, columns]

    def subspace(self, target: Language, group: Group) -> tuple[Wide, Wide, Wide]:
        """Coordinates on right singular vectors V of the stack D of differences, from those on D itself.

        V = Dᵀ·U·S⁻¹, and U, S² are the eigenvectors and eigenvalues of D·Dᵀ.
        """
        columns = self._columns(group)
        inner = self.inner[np.ix_(columns, columns)]
        squares, vectors = np.linalg.eigh(inner)
        kept = [i for i in range(len(squares) - 1, -1, -1) if squares[i] > 1e-10 * squares[-1]]
        mixing = vectors[:, kept] / np.sqrt(squares[kept])
        towards = self.pivot if self.pivot in group.names else group.names[0]
        # Signs as in `subspace.orient`: positive along the pivot's difference.
        along = inner[group.names.index(towards)] @ mixing
        mixing *= np.where(along < 0, -1.0, 1.0)
        source, own, test = self.bank(target, group)
        return source @ mixing, own @ mixing, test @ mixing

    def _columns(self, group: Group) -> list[int]:
        return [self.order[name] for name in group.names]
