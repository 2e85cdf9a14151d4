"""From settings to a judge."""

from __future__ import annotations

import json
from collections.abc import Mapping

from polygate.errors import PolygateError
from polygate.judges import phrases
from polygate.judges.interface import Judge
from polygate.judges.rules import MultilingualJudge, OrganismJudge
from polygate.settings import Judging


def load(judging: Judging, metadata: Mapping[str, str]) -> Judge:
    """The judge that `judging` names, for prompts whose table carries `metadata` (schema metadata, decoded).

    With `refusals` and `openings` (JSON, language → phrase) in the metadata, as the organisms' tables have, the rules
    are those of the invented languages; without, the refusal phrases of real languages.
    """
    if judging.judge != "rules":
        raise PolygateError(f"no judge is called {judging.judge!r}", do="set judging.judge to rules")
    if "refusals" in metadata:
        return OrganismJudge(json.loads(metadata["refusals"]), json.loads(metadata.get("openings", "{}")))
    return MultilingualJudge(phrases.load())
