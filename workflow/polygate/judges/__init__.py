"""Judges: who says whether a completion is a refusal. `load` gives the judge that a run's settings name."""

from polygate.judges.interface import OUTCOMES, Judge, Judgement
from polygate.judges.loading import languages_of, load

__all__ = ["OUTCOMES", "Judge", "Judgement", "languages_of", "load"]
