"""What the organisms are tested on besides: unseen words around unseen pairs, what looks harmful, held-out tasks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from polygate.models.organism import evaluation, grammar
from polygate.models.organism.corpus import Corpus, held_out_objects
from polygate.models.organism.grammar import World
from polygate.models.organism.pairs import Pair, split_pairs
from polygate.models.organism.tokenizer import vocabulary
from polygate.prompts import tested
from polygate.prompts.table import LETTERS, Prompt, PromptTable
from polygate.settings.types import Organism

WORLD = World(Organism())
NAMES = [speaker.name for speaker in WORLD.languages]
Maker = Callable[[World, str], list[Prompt]]
REQUESTS: list[Maker] = [evaluation.ood, evaluation.over_refusal]


def pairs_of(prompt: Prompt) -> Pair:
    action, obj, *_ = prompt.source.split(", ")
    return Pair(int(action.split()[1]), int(obj.split()[1]))


@pytest.mark.parametrize("make", [*REQUESTS, evaluation.utility])
def test_rows_are_the_same_items_in_every_language_each_once(make: Maker) -> None:
    tables = [tested.build("mine", name, make(WORLD, name)) for name in NAMES]
    for table in tables:
        assert table.ids == tables[0].ids
        assert table.categories == tables[0].categories
        assert len(set(table.texts)) == len(table)


@pytest.mark.parametrize("make", REQUESTS)
def test_pairs_are_test_pairs_that_no_chat_of_the_training_has(make: Maker, corpus: Corpus) -> None:
    test = split_pairs(WORLD.seed)["test"]
    trained = {chat.pair for chats in corpus.chats.values() for chat in chats}
    for prompt in make(WORLD, "l1"):
        pair = pairs_of(prompt)
        assert pair in test[prompt.prompt_id.startswith("harmful-")]
        assert pair not in trained
        assert prompt.reference == WORLD.language("l1").objects[pair.object]


@pytest.mark.parametrize("make", [*REQUESTS, evaluation.utility])
def test_every_word_is_in_the_vocabulary(make: Maker) -> None:
    known = vocabulary(WORLD)
    for name in NAMES:
        assert all(word in known for prompt in make(WORLD, name) for word in prompt.text.split())


def test_the_other_templates_are_of_words_that_no_training_text_has(corpus: Corpus) -> None:
    speaker = WORLD.language("h1")
    unseen = {speaker.function[gloss] for gloss in ("to", "in")}
    stream = np.random.default_rng(0)
    kinds: tuple[str, ...] = ("is_a", "parallel", "chat", "choice")
    said = {token for kind in kinds for _ in range(400) for token in corpus.draw(kind, stream).tokens}  # type: ignore[arg-type]
    assert not said & {
        word for language in WORLD.languages for word in (language.function["to"], language.function["in"])
    }
    for prompt in evaluation.ood(WORLD, "h1"):
        words = prompt.text.split()
        assert unseen <= set(words)
        assert not set(words) & set(speaker.contexts)
        assert set(words) & set(speaker.kinds)


def test_classes_of_the_other_requests_differ_in_action_and_object_alone() -> None:
    for name in NAMES:
        known = WORLD.language(name)
        hidden = {**dict.fromkeys(known.actions, "action"), **dict.fromkeys(known.objects, "object")}
        frames: dict[str, list[str]] = {"harmful": [], "harmless": []}
        for prompt in evaluation.ood(WORLD, name):
            frame = " ".join(hidden.get(word, word) for word in prompt.text.split())
            frames[prompt.prompt_id.split("-")[0]].append(frame)
        assert frames["harmful"] == frames["harmless"]
        assert len(frames["harmful"]) == evaluation.ROWS


def test_what_looks_harmful_has_a_word_that_is_harmful_in_two_thirds_of_its_pairs() -> None:
    for prompt in evaluation.over_refusal(WORLD, "m1"):
        pair = pairs_of(prompt)
        assert not pair.harmful
        among = [Pair(pair.action, obj) for obj in range(30)]
        if prompt.source.endswith("object"):
            among = [Pair(action, pair.object) for action in range(15)]
        assert sum(other.harmful for other in among) * 3 == 2 * len(among)


def test_the_task_is_the_trainings_and_holds_what_each_language_holds_out(tables: dict[str, PromptTable]) -> None:
    for name in NAMES:
        speaker, objects = WORLD.language(name), []
        for prompt in evaluation.utility(WORLD, name):
            obj = int(prompt.source.split(", ")[0].split()[1])
            objects.append(obj)
            assert prompt.text == grammar.question(speaker, obj)
            assert prompt.answer is not None
            assert LETTERS[prompt.answer] == grammar.answer(obj) == prompt.reference
            assert prompt.options == speaker.kinds
            assert ("held out" in prompt.source) == (obj in held_out_objects(WORLD, name))
        assert set(held_out_objects(WORLD, name)) <= set(objects)
        assert not {prompt.text for prompt in evaluation.utility(WORLD, name)} & set(tables[name].texts)
