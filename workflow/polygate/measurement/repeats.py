"""One training is one sample: means over trainings that differ in their seed alone, with the chance of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from polygate.measurement.statistics import Interval

METHOD = "mover over alignments"


def over_trainings(found: Sequence[Interval], confidence: float) -> Interval:
    """The mean of a number between 0 and 1 over k trainings that were measured on the same prompts, with its interval.

    It covers what other prompts and other trainings would give. On each side the reach of the prompts is the mean of
    the trainings' own (as if their errors went together, which is the most that they can add up to), that of the
    trainings Student's t with k − 1 degrees of freedom; the two are joined as squares (MOVER, Zou and Donner 2008) and
    cut at 0 and 1. The trainings' spread holds some of the prompts' already, so the interval is rather too long.

    Student's t takes trainings to scatter about one value. Where they fall in two kinds, three of them may agree by
    chance, and the interval then tells of the prompts alone: of two kinds, each half of all trainings and as unlike as
    can be, three show both in three runs of four, and no more of the intervals cover. One training alone has the
    interval of its prompts. ValueError without any.
    """
    if not found:
        raise ValueError("no training")
    if len(found) == 1:
        return found[0]
    estimates = np.array([one.estimate for one in found])
    middle = float(estimates.mean())
    error = float(estimates.std(ddof=1)) / np.sqrt(len(found))
    reach = float(stdtrit(len(found) - 1, (1 + confidence) / 2)) * error
    below = float(np.hypot(reach, np.mean([one.estimate - one.low for one in found])))
    above = float(np.hypot(reach, np.mean([one.high - one.estimate for one in found])))
    return Interval(middle, max(0.0, middle - below), min(1.0, middle + above), METHOD)
