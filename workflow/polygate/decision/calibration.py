"""Calibrating a gate: which target-language examples it may see, and the threshold chosen from them.

Every comparison is `score > threshold` in float64. A threshold comes from the source languages' train prompts
(budget 0) or from the examples of the budget alone (budget ≥ 1): no other prompt of the target language is looked at,
unless the settings ask for the release's way, all of val (`gate.threshold_on`); such a threshold's origin says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from polygate import kernels
from polygate.errors import PolygateError

if TYPE_CHECKING:
    from polygate.prompts.table import PromptTable, Subset

Objective = Literal["macro_f1", "balanced_f1", "balanced_accuracy"]
ThresholdFrom = Literal["source", "examples", "val"]
Ties = Literal["harmless", "harmful"]


@dataclass(frozen=True)
class Threshold:
    """A threshold, the value of the objective there, and where it came from.

    `informative` is False when no threshold beats flagging everything, as with constant scores: such a threshold says
    nothing, whatever its F1.
    """

    threshold: float
    value: float
    informative: bool
    origin: ThresholdFrom


def decide(scores: NDArray[np.float64], threshold: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Harmful where score > threshold, compared in float64: the one comparison of the whole workflow."""
    flagged: NDArray[np.bool_] = np.asarray(scores, np.float64) > np.asarray(threshold, np.float64)
    return flagged


def source_threshold(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], languages: NDArray[np.int64], objective: Objective
) -> Threshold:
    """Threshold from source train rows [n], the mean of `objective` over `languages` [n] at its first maximum.

    The rows are those that the gate was fitted on, the sources' multiple-choice prompts among them as harmless.
    """
    found = kernels.sweep_threshold(scores, labels, languages, objective)
    return Threshold(found.threshold, found.value, found.informative, "source")


def example_threshold(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], objective: Objective, origin: ThresholdFrom = "examples"
) -> Threshold:
    """Threshold from the 2b target examples of a draw (or whatever rows `origin` says), and from nothing else."""
    found = kernels.sweep_threshold(scores, labels, None, objective)
    return Threshold(found.threshold, found.value, found.informative, origin)


def with_ties(threshold: float, ties: Ties) -> float:
    """The threshold under which `score > threshold` takes a score at the given one for what `ties` says.

    score ≥ t is score > the float64 next below t.
    """
    return threshold if ties == "harmless" else float(np.nextafter(threshold, -np.inf))


def draw_examples(prompts: PromptTable, budget: int, draw: int, seed: int) -> NDArray[np.int64]:
    """Rows of `budget` harmful, then `budget` harmless train prompts of the target, int64 [2·budget].

    Drawn without replacement, multiple-choice prompts left out. The stream is keyed by seed, budget, draw and
    language, so a draw doesn't depend on which others are made. Raises `PolygateError` when a class has fewer prompts.
    """
    random = np.random.default_rng([seed, budget, draw, crc32(prompts.language.encode())])
    chosen = []
    classes: tuple[Subset, ...] = ("harmful", "harmless")
    for subset in classes:
        rows = prompts.select("train", subset)
        if len(rows) < budget:
            raise PolygateError(
                f"language {prompts.language} has {len(rows)} {subset} train prompts, budget {budget} needs {budget}",
                do="lower gate.budgets, or raise prompts.limit.train",
            )
        chosen.append(random.choice(rows, size=budget, replace=False))
    return np.concatenate(chosen)


def class_balance(languages: Sequence[str], labels: Sequence[NDArray[np.bool_]]) -> dict[str, tuple[int, int]]:
    """(harmful, harmless) prompts fitted on, per language.

    A class seen alone in some language teaches "this language: always comply", whatever the other languages say;
    hence the record. `one_sided` reads it.
    """
    return {
        language: (int(values.sum()), int((~values).sum())) for language, values in zip(languages, labels, strict=True)
    }


def one_sided(balance: Mapping[str, tuple[int, int]]) -> list[str]:
    """Languages of which a gate saw one class only."""
    return [language for language, (harmful, harmless) in balance.items() if (harmful == 0) != (harmless == 0)]
