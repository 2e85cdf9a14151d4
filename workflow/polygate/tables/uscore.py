"""uscore.csv: how far prompts lie nearer to their translation than to other prompts, by layer.

The U-Score of a `language` beside the pivot, or (language "") its mean over the languages of a tier, at each layer, of
the prompts of a `split`: `train` prompts choose OMNIGuard's layer (`read`: the one where the mean over the
high-resource languages is highest; the mid-resource ones where there are none beside the pivot), `test` prompts are the
report. `pairs` and `apart` are the two mean cosines that it is the difference of. The interval is that of sampling
prompts, normal on the scale of the log odds between −2 and 2 ("linearised"; see `representation.uscore`): prompts are
clusters across languages.

On test rows at the layer that is read stands the `difference` to the mean over the high-resource languages, on the
prompts that a language shares with all of them, its p Holm-corrected over the languages of a model, and over its tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from scipy.special import ndtri
from scipy.stats import t as student

from polygate import files
from polygate.measurement.statistics import CONSTANT, FEWEST, SAME, Interval, holm, logit_ends
from polygate.representation import uscore
from polygate.settings.types import TIERS, Statistics
from polygate.tables.cells import Cell
from polygate.tables.writing import interval, told, write

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("model", "tier", "language", "split", "layer", "read", "estimate", "low", "high", "n", "method", "pairs", "apart"),
    *("difference", "difference_low", "difference_high", "p", "p_holm"),
)
BOUNDS = (-2.0, 2.0)
TOO_FEW = "none: fewer than six prompts of a class"
