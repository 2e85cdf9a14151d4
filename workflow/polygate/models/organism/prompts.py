"""The prompt table of an invented language: the same rows, in the same frames, in every language.

Row i of the harmful and of the harmless prompts of a split share template, context and place, so nothing but the
action and the object tells the classes apart: no length, no punctuation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from polygate.models.organism import grammar
from polygate.models.organism.corpus import held_out_pool
from polygate.models.organism.grammar import World
from polygate.models.organism.languages import OBJECTS, Language
from polygate.models.organism.pairs import frames, kind_of, split_pairs
from polygate.prompts import aside, table
from polygate.prompts.normalise import Normalise, apply
from polygate.prompts.table import MULTIPLE_CHOICE, SPLITS, Prompt, PromptTable, Split
from polygate.settings.types import Organism, Prompts

ROWS: Mapping[Split, int] = {"train": 96, "val": 36, "test": 64}
"""Prompts per class and language. More train rows than the largest budget of 64, so that draws differ."""


def prompt_table(settings: Organism, language: str, prompts: Prompts) -> PromptTable:
    """The prompts of `language` as the settings `prompts` want them (limits, normalisation).

    References: the object's word, which a compliant answer repeats; for multiple choice the letter. Categories: the
    object's kind. Raises `PolygateError` when the world has no such language.
    """
    world = World(settings)
    speaker = world.language(language)
    rows = [prompt for split in SPLITS for prompt in _instructions(world, speaker, split, prompts)]
    rows += _choices(world, speaker, prompts.normalise)
    return table.build(language, rows, normalise=prompts.normalise)


def _instructions(world: World, speaker: Language, split: Split, prompts: Prompts) -> list[Prompt]:
    rows = []
    drawn = frames(world.seed, SPLITS.index(split), ROWS[split])
    kept = aside.kept(split, ROWS[split], prompts, speaker.name)
    for harmful, pairs in split_pairs(world.seed)[split].items():
        for number, kept_as in kept:
            frame = drawn[number]
            pair = pairs[number % len(pairs)]
            said = (f"action {pair.action}", f"object {pair.object}", f"template {frame.template}")
            rows.append(
                Prompt(
                    table.prompt_id("harmful" if harmful else "harmless", kept_as, number),
                    apply(grammar.instruction(speaker, pair, frame), prompts.normalise),
                    category=f"kind {kind_of(pair.object)}",
                    source=", ".join(said),
                    reference=speaker.objects[pair.object],
                )
            )
    return rows


def _choices(world: World, speaker: Language, normalise: Normalise) -> list[Prompt]:
    """Multiple-choice prompts about objects that no language holds out: the others are left for measuring utility."""
    pool = held_out_pool(world)
    objects = [obj for obj in range(OBJECTS) if obj not in pool]
    return [
        Prompt(
            table.prompt_id("harmless", "train", number, multiple_choice=True),
            apply(grammar.question(speaker, obj), normalise),
            category=MULTIPLE_CHOICE,
            source=f"object {obj}",
            reference=grammar.answer(obj),
        )
        for number, obj in enumerate(objects)
    ]


def phrases(world: World) -> dict[str, str]:
    """Metadata of a prompt table: the phrases of *all* languages, by which answers are judged.

    Keys `refusals` and `openings` are JSON objects, language → phrase: an answer may come in any language, and
    judging it needs nothing else.
    """
    return {
        "refusals": json.dumps(world.refusals(), sort_keys=True),
        "openings": json.dumps(world.compliance_openings(), sort_keys=True),
    }
