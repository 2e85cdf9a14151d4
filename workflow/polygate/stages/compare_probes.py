"""Every probe for every target language, budget and draw, at the chosen layer of one model."""

from __future__ import annotations

import argparse

from polygate.settings.types import stage_settings
from polygate.stages.recoverability import configure, write

__all__ = ["configure", "run"]


def run(args: argparse.Namespace) -> None:
    """Read, compute, write."""
    from polygate.decision.probes.comparison import Comparison

    settings = stage_settings(args.settings)
    write(
        args,
        "compare_probes",
        lambda languages: Comparison(languages, settings.gate, settings.pivot, settings.seed).run(),
    )
