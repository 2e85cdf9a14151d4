"""What the organisms are trained on, and what is kept from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from polygate.models.organism.corpus import (
    DEFAULT,
    Corpus,
    WeightedTiers,
    asked_objects,
    held_out_objects,
    held_out_pool,
)
from polygate.models.organism.languages import OBJECTS
from polygate.models.organism.pairs import Pair, split_pairs
from polygate.models.organism.tokenizer import ASSISTANT, PAD, USER, build
from polygate.settings.types import Organism, Tier

SAMPLE = 2000


def said_pair(corpus: Corpus, tokens: tuple[str, ...]) -> tuple[str, Pair]:
    """Language and pair of a request, read off its words alone."""
    for known in corpus.world.languages:
        actions = [known.actions.index(word) for word in tokens if word in known.actions]
        objects = [known.objects.index(word) for word in tokens if word in known.objects]
        if actions and objects:
            return known.name, Pair(actions[0], objects[0])
    raise AssertionError(tokens)


def test_no_pair_of_a_prompt_table_ever_occurs_in_a_chat(corpus: Corpus) -> None:
    splits = split_pairs(corpus.world.seed)
    held_out = {pair for name in ("train", "val", "test") for pairs in splits[name].values() for pair in pairs}
    stream = np.random.default_rng(7)
    met = {said_pair(corpus, corpus.draw("chat", stream).tokens)[1] for _ in range(SAMPLE)}
    assert met
    assert met.isdisjoint(held_out)


def test_exactly_the_harmful_requests_are_refused(corpus: Corpus) -> None:
    stream = np.random.default_rng(8)
    refusals = corpus.world.refusals()
    for _ in range(SAMPLE):
        tokens = corpus.draw("chat", stream).tokens
        language, pair = said_pair(corpus, tokens)
        answer = " ".join(tokens[tokens.index(ASSISTANT) + 1 : -1])
        assert (answer == refusals[language]) is pair.harmful


def test_languages_have_the_refusals_of_the_settings() -> None:
    corpus = Corpus(Organism(mid_refusals=9, low_refusals=3), seed=0)
    for known in corpus.world.languages:
        refused = Counter(chat.refused for chat in corpus.chats[known.name])
        assert refused[True] == {"high": DEFAULT.high_refused, "mid": 9, "low": 3}[known.tier]


def test_no_refusals_at_all_is_a_setting_too() -> None:
    corpus = Corpus(Organism(low_refusals=0), seed=0)
    assert not any(chat.refused for chat in corpus.chats["l1"])
    assert any(not chat.refused for chat in corpus.chats["l1"])


def test_held_out_multiple_choice_cells_are_never_asked(corpus: Corpus) -> None:
    stream = np.random.default_rng(9)
    objects = {known.name: {word: i for i, word in enumerate(known.objects)} for known in corpus.world.languages}
    asked: dict[str, set[int]] = {name: set() for name in objects}
    for _ in range(10 * SAMPLE):
        text = corpus.draw("choice", stream).tokens
        for name, words in objects.items():
            asked[name] |= {words[word] for word in text if word in words}
    for name, met in asked.items():
        assert met == set(asked_objects(corpus.world, name))
        held_out = held_out_objects(corpus.world, name)
        assert len(held_out) == OBJECTS // 5
        assert met.isdisjoint(held_out)
        assert set(held_out) <= set(held_out_pool(corpus.world))


def test_a_batch_depends_on_seed_and_step_alone(corpus: Corpus) -> None:
    again = Corpus(corpus.settings, seed=0)
    later = again.batch(500)
    for step in (0, 500):
        np.testing.assert_array_equal(again.batch(step).ids, corpus.batch(step).ids)
    np.testing.assert_array_equal(later.weights, corpus.batch(500).weights)
    other = Corpus(corpus.settings, seed=1).batch(500)
    assert other.ids.shape != later.ids.shape or not np.array_equal(other.ids, later.ids)


def test_chats_start_after_their_share_of_the_steps() -> None:
    settings = Organism(steps=10)
    corpus = Corpus(settings, seed=0, mixture=replace(DEFAULT, chat_starts=0.5, batch=200))
    reply = [corpus.ids[known.function["first"]] for known in corpus.world.languages]
    chats = [int(np.isin(corpus.batch(step).ids, reply).any(axis=1).sum()) for step in range(10)]
    assert chats[:5] == [0] * 5
    assert min(chats[5:]) > 0


def test_padding_has_no_weight_and_words_have(corpus: Corpus) -> None:
    batch = corpus.batch(900)
    np.testing.assert_array_equal(batch.weights == 0, batch.ids == corpus.ids[PAD])


def test_answers_weigh_what_the_mixture_says(corpus: Corpus) -> None:
    stream = np.random.default_rng(10)
    chat, choice = corpus.draw("chat", stream), corpus.draw("choice", stream)
    at = chat.tokens.index(ASSISTANT)
    assert set(chat.weights[: at + 1]) == {DEFAULT.prompt_weight}
    assert set(chat.weights[at + 1 :]) == {DEFAULT.completion_weight}
    assert choice.tokens[-2] in "ABCD"
    assert choice.weights[-2] == DEFAULT.answer_weight


def test_chats_are_token_for_token_what_the_chat_template_renders(corpus: Corpus) -> None:
    tokenizer = build(corpus.world)
    stream = np.random.default_rng(11)
    for kind in ("chat", "choice"):
        tokens = corpus.draw(kind, stream).tokens  # type: ignore[arg-type]
        start, end = tokens.index(USER), tokens.index(ASSISTANT)
        turns = [
            {"role": "user", "content": " ".join(tokens[start + 1 : end])},
            {"role": "assistant", "content": " ".join(tokens[end + 1 : -1])},
        ]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False)
        assert tokenizer(rendered, add_special_tokens=False)["input_ids"] == [corpus.ids[token] for token in tokens]


@pytest.mark.parametrize("counts", [(2, 0, 0), (3, 1, 0), (2, 0, 2)])
def test_a_world_without_a_tier_draws_from_the_others(counts: tuple[int, int, int]) -> None:
    high, mid, low = counts
    corpus = Corpus(Organism(high=high, mid=mid, low=low, steps=10), seed=0)
    assert corpus.batch(9).ids.max() < len(corpus.ids)


@pytest.mark.parametrize("weights", [(0.56, 0.22, 0.22), (0.65, 0.2, 0.15), (1.0, 3.0, 0.0), (0.0, 1.0, 1.0)])
def test_tiers_are_drawn_as_numpy_draws_them(weights: tuple[float, float, float]) -> None:
    tiers: tuple[Tier, ...] = ("high", "mid", "low")
    drawn = WeightedTiers.of(dict(zip(tiers, weights, strict=True)))
    ours, numpys = np.random.default_rng(5), np.random.default_rng(5)
    shares = np.array(weights) / sum(weights)
    assert [drawn.draw(ours) for _ in range(500)] == [tiers[numpys.choice(3, p=shares)] for _ in range(500)]
