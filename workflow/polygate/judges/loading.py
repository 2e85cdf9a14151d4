"""From settings to a judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from polygate.errors import PolygateError
from polygate.judges import phrases
from polygate.judges.api import ApiJudge
from polygate.judges.guards import Adapter
from polygate.judges.interface import Judge
from polygate.judges.rules import MultilingualJudge, OrganismJudge
from polygate.settings.types import RULES, Judging


def load(judging: Judging, metadata: Mapping[str, str], language: str = "en", name: str | None = None) -> Judge:
    """The judge called `name`, the first of `judging` when None, for prompts in `language`.

    `metadata` is that of their table's schema, decoded: with `refusals` and `openings` (JSON, language → phrase), as
    the organisms' tables have, the rules are those of the invented languages; without, the refusal phrases of real
    languages, the user's own for `language`. Raises `PolygateError` for an unknown judge, for a guard, whose answers
    are another job's (`polygate.judges.guards`), and where the rules have no phrases for the language.
    """
    name = name or judging.judge
    if name in judging.apis:
        return ApiJudge(name, judging.apis[name])
    if name in judging.guards:
        raise PolygateError(f"judge {name} is a guard: its answers are needed", do="give --framing and --answers")
    if name != RULES:
        raise PolygateError(f"no judge is called {name!r}", do="name one of judging.judges")
    if "refusals" in metadata:
        return OrganismJudge(json.loads(metadata["refusals"]), json.loads(metadata.get("openings", "{}")))
    if phrases.without([language], judging.phrases):
        raise phrases.no_phrases([language])
    return MultilingualJudge(phrases.load(phrases.own_file(judging.phrases, language)))


def languages_of(judging: Judging, name: str, languages: Sequence[str]) -> list[str]:
    """Those of `languages` that a judge judges; a subtag of script or region is no language of its own."""
    if name in judging.guards:
        supported: Sequence[str] | None = Adapter.of(judging.guards[name]).languages
    else:
        supported = judging.apis[name].languages if name in judging.apis else None
    if supported is None:
        return list(languages)
    return [language for language in languages if phrases.language_of(language, supported) in supported]
