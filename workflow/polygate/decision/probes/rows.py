"""The rows that probes are fitted, calibrated and tested on: activations of one layer, language by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polygate.decision import calibration
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import SUBSETS, PromptTable
from polygate.representation.directions import POSITION, open_matching, unit
from polygate.representation.store import ActivationStore
from polygate.settings.types import Probes, Tier

Setup = tuple[int, int]
"""Budget and draw; (0, 0) uses no example."""


@dataclass(frozen=True)
class Language:
    """Train rows of one language in memory, its test rows in the store.

    `train` float32 [n, d], the multiple-choice prompts among them; `harmful` bool [n]; `choice` bool [n], true for
    multiple-choice prompts, which fits use as harmless rows and directions don't; `test_harmful` bool [m]; `test_ids`
    [m]; `examples`: for each (budget, draw) the 2·budget train rows drawn, harmful ones first.
    """

    name: str
    tier: Tier
    train: NDArray[np.float32]
    harmful: NDArray[np.bool_]
    choice: NDArray[np.bool_]
    test_ids: tuple[str, ...]
    test_harmful: NDArray[np.bool_]
    examples: Mapping[Setup, NDArray[np.int64]]
    store: ActivationStore
    layer: int
    _test_rows: NDArray[np.int64] = field(repr=False)
    position: str = POSITION

    @classmethod
    def load(
        cls,
        tier: Tier,
        prompts: PromptTable,
        store: ActivationStore,
        layer: int,
        budgets: Sequence[int],
        draws: int,
        seed: int,
        position: str = POSITION,
    ) -> Language:
        """Read a language at a token position of the store of its `prompts`.

        Budgets beyond its train prompts are left out.

        The draws are those of `calibration.draw_examples`, so they are the examples of the gates. `PolygateError`
        when a train class is empty or an activation is not finite.
        """
        rows, test = prompts.select("train", multiple_choice=True), prompts.select("test")
        train = store.read(layer, position, rows)
        store.check_finite(train, layer, rows)
        place = {row: position for position, row in enumerate(rows.tolist())}
        counts = [len(prompts.select("train", subset)) for subset in SUBSETS]
        if min(counts) == 0:
            raise PolygateError(
                f"language {prompts.language} has {counts[0]} harmful and {counts[1]} harmless train prompts, "
                "a probe needs both",
                do="add them, or take the language out of the settings",
            )
        examples = {
            (budget, draw): np.array(
                [place[row] for row in calibration.draw_examples(prompts, budget, draw, seed).tolist()], np.int64
            )
            for budget in budgets
            if 0 < budget <= min(counts)
            for draw in range(draws)
        }
        return cls(
            prompts.language,
            tier,
            train,
            prompts.harmful[rows],
            prompts.multiple_choice[rows],
            tuple(prompts.ids[row] for row in test.tolist()),
            prompts.harmful[test],
            examples,
            store,
            layer,
            test,
            position,
        )

    def test(self) -> NDArray[np.float32]:
        """Test activations, float32 [m, d], read anew at each call."""
        return self.store.read(self.layer, self.position, self._test_rows)

    @property
    def tested(self) -> bool:
        """Whether the test prompts hold both classes."""
        return bool(self.test_harmful.any() and not self.test_harmful.all())

    @property
    def setups(self) -> list[Setup]:
        """Budget 0, then every budget and draw."""
        return [(0, 0), *self.examples]

    def labels(self, budget: int) -> NDArray[np.bool_]:
        """Labels of the examples of a budget, bool [2·budget]: the same for every draw."""
        return np.arange(2 * budget) < budget

    def difference(self) -> NDArray[np.float64]:
        """Difference in means of the train rows, without multiple choice, unit length, float64 [d]."""
        harmful = self.train[self.harmful].mean(axis=0, dtype=np.float64)
        return unit(harmful - self.train[~self.harmful & ~self.choice].mean(axis=0, dtype=np.float64))


def load_all(
    tiers: Sequence[Tier],
    prompts: Sequence[str | Path],
    activations: Sequence[str | Path],
    layer: int,
    settings: Probes,
    seed: int,
    names: Sequence[str] | None = None,
    model: str | None = None,
    position: str = POSITION,
) -> list[Language]:
    """Languages from their prompt tables and stores, in the same order, at a layer and token position.

    Raises `PolygateError` for a file of another language than `names` say, or of another model, where these are given.
    """
    wanted: list[str | None] = [None] * len(prompts) if names is None else [*names]
    tables = [table.read_to_fit(path, language=name) for name, path in zip(wanted, prompts, strict=True)]
    return [
        Language.load(
            tier, own, open_matching(store, own, model), layer, settings.budgets, settings.draws, seed, position
        )
        for tier, own, store in zip(tiers, tables, activations, strict=True)
    ]


def mean_difference_weights(language: Language, setup: Setup) -> NDArray[np.float32]:
    """Weights on the train rows whose weighted sum is the examples' mean difference, float32 [n]."""
    weights = np.zeros(len(language.train), np.float32)
    rows = language.examples[setup]
    weights[rows] = np.where(language.labels(setup[0]), 1.0, -1.0) / setup[0]
    return weights
