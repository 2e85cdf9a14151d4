"""Where a run's numbers and the paper's are not of the same thing, though model, language and method are.

The paper's completions were judged by gpt-4o-mini and cut off after 128 tokens; its prompts in languages that
PolyRefuse lacks are its own translations, which aren't published; its directions are of ten high-resource languages,
and its means over the languages of its tiers; its weights are in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polygate.prompts.sources import plain, polyrefuse
from polygate.report.published import ANY, MODELS, Key, names_in_run
from polygate.settings.types import TIERS, Languages, Settings

JUDGE, TOKENS, DTYPE = "gpt-4o-mini", 128, "bfloat16"
"""The paper's."""
JUDGED = ("unsteered refusal", "routing", "layer sweep", "judge against people")
"""Experiments in which somebody says what a completion is."""
BY_ONE = ("layer sweep",)
"""Those of them that the first judge alone judges."""
OF_NO_SOURCES = ("unsteered refusal", "judge against people")
"""Experiments without a direction or gate of the high-resource languages."""
REASONS = ("judge", "truncation", "prompts", "languages", "weights")
"""Why numbers may not be comparable, in the words of the table's column `unlike`."""


@dataclass(frozen=True)
class Run:
    """What is other in a run than in the paper; empty where nothing is.

    `judge` and `truncation` say what they are instead; `papers_judge` is the paper's judge where it stands beside the
    first, and then judges what is compared, but for `BY_ONE`. `prompts`: language → whose they are instead ("" for
    what holds of all), `datasets` the same of other data sets; `languages`: tier → those it has instead; `weights`: the
    paper's model → how they are rounded instead.
    """

    judge: str
    truncation: str
    prompts: Mapping[str, str]
    datasets: Mapping[str, str]
    languages: Mapping[str, Sequence[str]]
    weights: Mapping[str, str]
    papers_judge: str = ""

    def unlike(self, key: Key) -> list[str]:
        """Reasons, of `REASONS`, why a number of this run may differ from the published one of `key`."""
        if key.model == ANY:
            return []
        paper = Languages().model_dump()
        sources = [] if key.experiment in OF_NO_SOURCES else ["high"]
        tiers = {*sources, *([] if key.language else [key.tier])}
        of = [key.language, *(name for tier in tiers for name in paper.get(tier, []))]
        models = [key.model] if key.model in MODELS else list(MODELS)
        holds = {
            "judge": self.judge and key.experiment in (BY_ONE if self.papers_judge else JUDGED),
            "truncation": self.truncation and key.experiment in JUDGED,
            "prompts": key.dataset in self.datasets or any(name in self.prompts for name in {"", *of}),
            "languages": any(name in self.languages for name in tiers),
            "weights": any(name in self.weights for name in models),
        }
        return [reason for reason in REASONS if holds[reason]]

    def told(self) -> Iterator[tuple[str, str]]:
        """Each reason that there is, with what is other in this run."""
        if self.judge:
            some = " of the layer sweep" if self.papers_judge else ""
            yield "judge", f"{self.judge} judges completions{some}; in the paper {JUDGE} did"
        if self.truncation:
            yield "truncation", f"completions are cut off after {self.truncation} tokens; the paper's after {TOKENS}"
        whose: dict[str, list[str]] = {}
        for name, what in [*self.prompts.items(), *self.datasets.items()]:
            whose.setdefault(what, []).append(name)
        for what, names in whose.items():
            yield "prompts", f"{what}{f' ({listed})' if (listed := ', '.join(filter(None, names))) else ''}"
        for tier, theirs in self.languages.items():
            yield "languages", f"{tier}-resource ones are {', '.join(theirs) or 'none'}, which are not the paper's"
        for model, how in self.weights.items():
            yield "weights", f"those of {model} are in {how}; the paper's in {DTYPE}"


def of_run(settings: Settings) -> dict[str, Any]:
    """The fields of a `Run`, as plain values."""
    judging, prompts = settings.judging, settings.prompts
    papers = [name for name in judging.judges if name in judging.apis and judging.apis[name].model.startswith(JUDGE)]
    limits = {name: limit for name, limit in prompts.limit.model_dump().items() if limit is not None}
    changed = [
        *(["without final punctuation"] if prompts.normalise != "none" else []),
        *(f"at most {limit} {name} prompts a class" for name, limit in limits.items()),
        *([f"{prompts.align} train prompts a class set aside"] if prompts.align else []),
    ]
    others = {"": f"they are {', '.join(changed)}"} if changed else {}
    for language in settings.languages.all():
        if prompts.extra is not None and plain.find(prompts.extra, language):
            others[language] = "files of this run's user, where the paper's are PolyRefuse's or its own translations"
        elif language not in polyrefuse.LANGUAGES:
            others[language] = "other translations than the paper's, which are not published"
    paper, weights = Languages(), {}
    hubs = {name: model.hub or "" for name, model in settings.models.items()}
    for published, name in names_in_run(hubs).items():
        model = settings.models[name]
        how = model.dtype if model.quantisation == "none" else f"{model.quantisation} ({model.dtype})"
        if how != DTYPE:
            weights[published] = how
    return {
        "judge": "" if judging.judge in papers else judging.judge,
        "papers_judge": "" if judging.judge in papers else next(iter(papers), ""),
        "truncation": "" if (most := settings.generation.max_new_tokens) == TOKENS else str(most),
        "prompts": others,
        "datasets": {
            name: f"at most {dataset.limit} a class" for name, dataset in settings.datasets.items() if dataset.limit
        },
        "languages": {
            tier: getattr(settings.languages, tier)
            for tier in TIERS
            if set(getattr(settings.languages, tier)) != set(getattr(paper, tier))
        },
        "weights": weights,
    }
