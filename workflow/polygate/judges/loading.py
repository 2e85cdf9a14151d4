"""From settings to a judge."""

from __future__ import annotations

import json
from collections.abc import Mapping

from polygate.errors import PolygateError
from polygate.judges import phrases
from polygate.judges.interface import Judge
from polygate.judges.rules import MultilingualJudge, OrganismJudge
from polygate.settings.types import Judging


def load(judging: Judging, metadata: Mapping[str, str], language: str = "en") -> Judge:
    """The judge that `judging` names, for prompts in `language` whose table carries `metadata` (schema's, decoded).

    With `refusals` and `openings` (JSON, language → phrase) in the metadata, as the organisms' tables have, the rules
    are those of the invented languages; without, the refusal phrases of real languages, the user's own for `language`.
    Raises `PolygateError` for a language without phrases.
    """
    if judging.judge != "rules":
        raise PolygateError(f"no judge is called {judging.judge!r}", do="set judging.judge to rules")
    if "refusals" in metadata:
        return OrganismJudge(json.loads(metadata["refusals"]), json.loads(metadata.get("openings", "{}")))
    if phrases.without([language], judging.phrases):
        raise phrases.no_phrases([language])
    return MultilingualJudge(phrases.load(phrases.own_file(judging.phrases, language)))
