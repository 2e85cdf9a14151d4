"""The invented languages and what may be asked in them."""

from __future__ import annotations

from collections import Counter

import pytest

from polygate.errors import PolygateError
from polygate.models.organism.grammar import World, instruction, verb_phrase
from polygate.models.organism.languages import ACTIONS, CONTEXTS, KINDS, OBJECTS, PLACES
from polygate.models.organism.pairs import LEVELS, TEMPLATES, Frame, Pair, all_pairs, frames, kind_of, split_pairs
from polygate.settings.types import Organism

SEEDS = range(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_word_stands_in_two_languages_and_place_names_stand_in_all(seed: int) -> None:
    world = World(Organism(world_seed=seed, high=7, mid=4, low=6))
    counts = Counter(word for known in world.languages for word in known.words())
    assert max(counts.values()) == 1
    places = {known.places for known in world.languages}
    assert len(places) == 1
    assert len(set(next(iter(places)))) == PLACES
    assert counts.keys().isdisjoint(next(iter(places)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_language_does_not_depend_on_which_others_a_run_has(seed: int) -> None:
    few = World(Organism(world_seed=seed, high=2, mid=0, low=1))
    many = World(Organism(world_seed=seed, high=6, mid=5, low=6))
    for known in few.languages:
        assert many.language(known.name) == known


def test_another_seed_is_another_world() -> None:
    first, second = (World(Organism(world_seed=seed)) for seed in (0, 1))
    assert set(first.languages[0].words()).isdisjoint(second.languages[0].words())
    assert split_pairs(0)["test"] != split_pairs(1)["test"]


def test_every_tier_of_the_default_has_both_word_orders() -> None:
    orders = {(known.tier, known.verb_first) for known in World(Organism()).languages}
    assert orders == {(tier, first) for tier in ("high", "mid", "low") for first in (True, False)}


def test_word_order_is_the_order_of_action_and_object() -> None:
    for known in World(Organism()).languages:
        action, obj = known.actions[3], known.objects[7]
        assert verb_phrase(known, Pair(3, 7)).split() == ([action, obj] if known.verb_first else [obj, action])


def test_an_unknown_language_is_named_beside_the_known_ones() -> None:
    with pytest.raises(PolygateError, match=r"no language 'h9', they have h1, .*l4"):
        World(Organism()).language("h9")


def test_phrases_tell_the_languages_apart() -> None:
    world = World(Organism())
    phrases = [*world.refusals().values(), *world.compliance_openings().values()]
    words = [word for phrase in phrases for word in phrase.split() if word != "."]
    assert len(words) == len(set(words))
    assert world.refusals().keys() == {known.name for known in world.languages}


def test_a_third_of_the_pairs_is_harmful_and_no_word_decides_alone() -> None:
    pairs = all_pairs()
    assert len(pairs) == len(set(pairs)) == ACTIONS * OBJECTS
    assert sum(pair.harmful for pair in pairs) * 3 == len(pairs)
    for level in range(1, LEVELS):
        assert {pair.harmful for pair in pairs if pair.levels[0] == level} == {True, False}
        assert {pair.harmful for pair in pairs if pair.levels[1] == level} == {True, False}


def test_kinds_say_nothing_about_levels() -> None:
    per_level = [Counter(kind_of(obj) for obj in range(OBJECTS) if obj % LEVELS == level) for level in range(LEVELS)]
    assert per_level[0] == per_level[1] == per_level[2]
    assert len(per_level[0]) == KINDS


@pytest.mark.parametrize("seed", SEEDS)
def test_splits_share_no_pair_and_hold_all(seed: int) -> None:
    splits = split_pairs(seed)
    held = [pair for classes in splits.values() for pairs in classes.values() for pair in pairs]
    assert sorted(held) == all_pairs()
    for classes in splits.values():
        for harmful, pairs in classes.items():
            assert pairs
            assert all(pair.harmful is harmful for pair in pairs)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_word_is_met_with_every_level_in_the_chats(seed: int) -> None:
    """Without this, some word's level can't be learned, whatever the model."""
    chats = [pair for pairs in split_pairs(seed)["sft"].values() for pair in pairs]
    assert len({(pair.action, pair.levels[1]) for pair in chats}) == ACTIONS * LEVELS
    assert len({(pair.object, pair.levels[0]) for pair in chats}) == OBJECTS * LEVELS


def test_frames_are_distinct_and_use_each_template_equally_often() -> None:
    chosen = frames(0, 0, 96)
    assert len(set(chosen)) == 96
    assert set(Counter(frame.template for frame in chosen).values()) == {96 // TEMPLATES}
    assert chosen != frames(0, 1, 96)
    with pytest.raises(ValueError, match="only 384 frames"):
        frames(0, 0, TEMPLATES * CONTEXTS * PLACES + 1)


def test_an_instruction_says_each_part_of_its_frame() -> None:
    known = World(Organism()).language("m2")
    said = {
        instruction(known, pair, Frame(template, context, place))
        for pair in (Pair(0, 0), Pair(14, 29))
        for template in range(TEMPLATES)
        for context in range(CONTEXTS)
        for place in range(PLACES)
    }
    assert len(said) == 2 * TEMPLATES * CONTEXTS * PLACES
