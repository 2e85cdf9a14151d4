"""The prompt table of a data set that is only ever tested on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from polygate.errors import PolygateError
from polygate.prompts import normalise, table
from polygate.prompts.checks import SHARED_SHARE
from polygate.prompts.normalise import Normalise
from polygate.prompts.table import Prompt, PromptTable


def build(
    dataset: str, language: str, prompts: Sequence[Prompt], limit: int | None = None, how: Normalise = "none"
) -> PromptTable:
    """The table of a data set in a language: at most `limit` prompts of each class, by number, normalised as `how`.

    Questions of a task are asked as they are. Raises `PolygateError` for a prompt of another split than test, and as
    `table.build` does.
    """
    ordered: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda prompt: int(prompt.prompt_id.rpartition("-")[2])):
        subset, split, *_ = prompt.prompt_id.split("-")
        if split != "test":
            raise PolygateError(
                f"language {language}: {prompt.prompt_id} ({prompt.source}) is of split {split}",
                do=f"data set {dataset} is only tested on: all its prompts are of split test",
            )
        ordered[subset].append(prompt)
    kept = [
        prompt if prompt.options else replace(prompt, text=normalise.apply(prompt.text, how))
        for cell in ordered.values()
        for prompt in cell[:limit]
    ]
    task = any(prompt.options for prompt in kept)
    found = table.build(language, kept, normalise="none" if task else how)
    return replace(found, dataset=dataset, tested=True)


def check_apart(tested: PromptTable, fitted: PromptTable) -> list[str]:
    """Ids of tested prompts that stand among the prompts that were fitted or chosen on, without case and white space.

    Raises `PolygateError` when these are more than a few in a hundred: what is tested must not have been learnt.
    """
    learnt = {_key(text) for text, split in zip(fitted.texts, fitted.split, strict=True) if split != "test"}
    both = [name for name, text in zip(tested.ids, tested.texts, strict=True) if _key(text) in learnt]
    if len(both) > SHARED_SHARE * len(tested):
        raise PolygateError(
            f"language {tested.language}: {len(both)} of {len(tested)} prompts of data set {tested.dataset} are train "
            f"or validation prompts of {fitted.dataset} (the first: {both[0]})",
            do="a prompt that is tested must not have been learnt: take them out of one of the two",
        )
    return both


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
