"""Planted decisions of rules of calibration: conformal thresholds on scores that are as likely as the test prompts'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from polygate.decision import conformal
from polygate.stages.conformal import SCHEMA

if TYPE_CHECKING:
    from library.tables.run import Run

ALPHAS = (0.05, 0.2)
BUDGETS = (1, 4, 16)
DRAWS = 5


def decisions(run: Run, salt: int, broken: str = "", *, encoded: bool = False) -> pa.Table:
    """Decisions of "paper", "conformal_miss" and "parallel"; the surface flags everything.

    With `encoded` they are those of an encoder alone: by thresholds one lower. In the language `broken` the examples
    lie far above the prompts to come, which no promise survives.
    """
    rows: list[dict[str, Any]] = []
    for tier, language in run.all():
        prompts = run.prompts(language)
        test = prompts.select("test")
        scores = run.latent(prompts, test, salt)
        common = {"tier": tier, "language": language, "prompts": prompts.fingerprint()}
        for what, thresholds in _rules(run, np.random.default_rng([salt, *language.encode()]), language == broken):
            for scorer, lower in (("semantic", 1.0),) if encoded else (("gate", 0.0), ("surface", np.inf)):
                row = {**common, **what, "scorer": scorer}
                if not thresholds:
                    rows.append({**row, "draw": None, "flagged": None})
                for draw, threshold in enumerate(thresholds):
                    flagged = scores > threshold - lower
                    rows.append({**row, "draw": draw, "flagged": flagged.tolist()})
    return pa.Table.from_pylist(rows, SCHEMA)


def _rules(run: Run, random: np.random.Generator, broken: bool) -> Iterator[tuple[dict[str, Any], list[float]]]:
    yield {"rule": "paper", "alpha": None, "budget": 0}, [run.gap / 2]
    for budget in BUDGETS:
        yield {"rule": "paper", "alpha": None, "budget": budget}, [run.gap / 2] * DRAWS
        for rule, alpha in (*(("conformal_miss", alpha) for alpha in ALPHAS), ("parallel", 0.2)):
            if rule == "parallel" and budget != BUDGETS[-1]:
                continue
            rank = conformal.conformal_rank(budget, alpha)
            drawn = random.normal(run.gap + 2 * broken, 1, (DRAWS, budget))
            found = [conformal.threshold_at("miss", row, rank) for row in drawn]
            yield {"rule": rule, "alpha": alpha, "budget": budget}, [value for value in found if value is not None]
