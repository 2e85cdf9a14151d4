"""OMNIGuard (Verma et al. 2025, arXiv 2505.23856): a small network on the mean over a prompt's tokens.

It reads the layer of the best U-Score (`representation.uscore`) and learns from the high- and mid-resource languages
without the target. Three ways of giving it the target's b + b examples:

- `omniguard`: not at all, they set its threshold alone;
- `omniguard_budgeted`: they join the rows that it is trained on, from the start;
- `omniguard_fine_tuned`: `omniguard` trained on by them alone, 20 epochs at half the rate.

Every network is trained from several seeds, and estimates are means over draws and seeds; thresholds as in
`calibrated`. As the layer is one for all targets, a high-resource target's train prompts took part in choosing it, as
translations: which of them are harmful did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from polygate.decision.calibration import Objective
from polygate.decision.probes.calibrated import Scored, cells
from polygate.decision.probes.estimates import Collector, Probe
from polygate.decision.probes.features import Group
from polygate.decision.probes.networks import Networks, Rows, Schedule, train, tune
from polygate.decision.probes.rows import Language, Setup
from polygate.settings.types import Omniguard

SOURCES = "high+mid"
TRAINING, TUNING = Schedule(40, 1e-4), Schedule(20, 5e-5)
FULL, BUDGETED, FINE_TUNED = "omniguard", "omniguard_budgeted", "omniguard_fine_tuned"


def compare(
    languages: Sequence[Language],
    settings: Omniguard,
    objective: Objective,
    seed: int,
    device: torch.device | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Estimates by fit and their means (`estimates.DRAWS`, `estimates.MEANS`); a draw is one of a draw and a seed.

    Empty where there is no high- or no mid-resource language to learn from.
    """
    collected = Collector()
    found: dict[str, list[Scored]] = {FULL: [], BUDGETED: [], FINE_TUNED: []}
    for target, group, trained in _trained(languages, settings, seed, device or torch.device("cpu")):
        for name, scored in _variants(target, group, trained, settings, seed).items():
            found[name].append(scored)
    for name, scored in found.items():
        if scored:
            collected.add(Probe(name, SOURCES), cells(scored, objective))
    return collected.tables()
