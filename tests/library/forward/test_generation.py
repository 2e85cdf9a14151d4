"""Greedy text is the prompt's own: the same alone and in any batch, whatever is done to the other rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from polygate.errors import PolygateError
from polygate.forward.generation import Completion, generate
from polygate.forward.loading import LoadedModel
from polygate.forward.steering import ACTIONS, SCOPES, Action, Steering
from polygate.forward.tokenising import Tokenised, tokenise

NEW = 10


@pytest.fixture
def steering(loaded: LoadedModel) -> Steering:
    """Strong enough to change most texts."""
    return Steering(np.random.default_rng(0).normal(size=loaded.width), 1, 20.0, "all")


def single(
    loaded: LoadedModel, prompt: Tokenised, action: Action, steering: Steering, max_new_tokens: int = NEW
) -> list[int]:
    """The slow twin: one prompt, no padding, no cache; every step runs the whole text again.

    Its hooks know places by counting tokens, and share no code with the library's.
    """
    unit = torch.tensor(steering.vector, dtype=torch.float32)
    ablated = {"all": range(loaded.layers), "layer": [steering.layer], "none": []}
    layers = ablated[steering.scope] if action == "ablate" else [steering.layer]

    def change(_module: object, _args: object, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.clone()
        if action == "add":
            hidden[:, len(prompt) - 1 :] += steering.alpha * unit
        if action == "ablate":
            hidden -= (hidden @ unit)[..., None] * unit
        return hidden

    ids = list(prompt.input_ids)
    handles = [loaded.blocks[layer].register_forward_hook(change) for layer in layers]
    try:
        for _ in range(max_new_tokens):
            with torch.inference_mode():
                logits = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(logits.argmax()))
            if ids[-1] in loaded.stop:
                break
    finally:
        for handle in handles:
            handle.remove()
    return ids[len(prompt) :]


def as_completion(loaded: LoadedModel, prompt: Tokenised, tokens: list[int]) -> Completion:
    text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    return Completion(text, len(prompt), len(tokens), tokens[-1] in loaded.stop)


@pytest.mark.parametrize("action", ["none", "add", "ablate"])
@pytest.mark.parametrize("scope", SCOPES)
def test_the_slow_twin_agrees(
    loaded: LoadedModel, prompts: list[str], steering: Steering, action: Action, scope: str
) -> None:
    steering = dataclasses.replace(steering, scope=scope)  # type: ignore[arg-type]
    expected = [
        as_completion(loaded, prompt, single(loaded, prompt, action, steering))
        for prompt in tokenise(loaded.tokenizer, prompts)
    ]
    assert generate(loaded, prompts, steering, [action] * len(prompts), max_new_tokens=NEW) == expected


def test_unsteered_text_is_that_of_transformers(loaded: LoadedModel, prompts: list[str]) -> None:
    found = generate(loaded, prompts, max_new_tokens=NEW)
    for prompt, completion in zip(tokenise(loaded.tokenizer, prompts), found, strict=True):
        ids = torch.tensor([prompt.input_ids])
        tokens = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=sorted(loaded.stop),
            pad_token_id=loaded.pad,
        )[0, len(prompt) :]
        assert as_completion(loaded, prompt, tokens.tolist()) == completion


def mixed_actions(count: int) -> list[Action]:
    return [ACTIONS[i % 3] for i in range(count)]


@pytest.mark.parametrize("batch_tokens", [1, 70, 100_000])
def test_mixed_rows_are_selections_of_separate_runs(
    loaded: LoadedModel, prompts: list[str], steering: Steering, batch_tokens: int
) -> None:
    """What licences routed arms by selection."""
    count = len(prompts)
    arms = {action: generate(loaded, prompts, steering, [action] * count, max_new_tokens=NEW) for action in ACTIONS}
    actions = mixed_actions(count)
    sized = dataclasses.replace(loaded, batch_tokens=batch_tokens)
    mixed = generate(sized, prompts, steering, actions, max_new_tokens=NEW)
    assert mixed == [arms[action][row] for row, action in enumerate(actions)]
    changed = [arms["add"][row] != arms["none"][row] for row in range(count)]
    assert sum(changed) > count / 2, "steering does something here"


def test_every_row_may_have_its_own_vector_layer_strength_and_scope(loaded: LoadedModel, prompts: list[str]) -> None:
    generator = np.random.default_rng(3)
    steerings = [
        Steering(
            generator.normal(size=loaded.width),
            int(generator.integers(loaded.layers)),
            float(generator.uniform(5, 30)),
            SCOPES[generator.integers(len(SCOPES))],
        )
        for _ in prompts
    ]
    actions = mixed_actions(len(prompts))
    together = generate(loaded, prompts, steerings, actions, max_new_tokens=NEW)
    for row, prompt in enumerate(prompts):
        assert [together[row]] == generate(loaded, [prompt], steerings[row], [actions[row]], max_new_tokens=NEW)


def test_text_does_not_depend_on_when_others_finish(loaded: LoadedModel, prompts: list[str]) -> None:
    """Rows that end early leave the batch; a token that some rows write early is made to end answers."""
    texts = generate(loaded, prompts, max_new_tokens=NEW)
    words = [word for completion in texts for word in completion.text.split()[:4]]
    early = loaded.tokenizer.convert_tokens_to_ids(max(set(words), key=words.count))
    stopping = dataclasses.replace(loaded, stop=loaded.stop | {early})
    together = generate(stopping, prompts, max_new_tokens=NEW)
    assert together == [generate(stopping, [prompt], max_new_tokens=NEW)[0] for prompt in prompts]
    lengths = {completion.new_tokens for completion in together}
    assert len(lengths) > 1
    assert {completion.finished for completion in together} == {True, False}


def test_a_prompt_given_twice_is_answered_twice(loaded: LoadedModel, prompts: list[str], steering: Steering) -> None:
    actions: list[Action] = [*["none"] * len(prompts), *["add"] * len(prompts)]  # type: ignore[list-item]
    both = generate(loaded, prompts + prompts[::-1], steering, actions, max_new_tokens=NEW)
    assert both[: len(prompts)] == generate(loaded, prompts, max_new_tokens=NEW)
    added = generate(loaded, prompts, steering, ["add"] * len(prompts), max_new_tokens=NEW)
    assert both[len(prompts) :] == added[::-1]


def test_limits_are_kept_and_said(loaded: LoadedModel, prompts: list[str]) -> None:
    for completion, longer in zip(
        generate(loaded, prompts, max_new_tokens=1), generate(loaded, prompts, max_new_tokens=NEW), strict=True
    ):
        assert completion.new_tokens == 1
        assert longer.text.startswith(completion.text)
        assert longer.finished or longer.new_tokens == NEW
    assert generate(loaded, [], max_new_tokens=NEW) == []


def test_progress_adds_up_to_the_prompts(loaded: LoadedModel, prompts: list[str]) -> None:
    told: list[float] = []
    generate(loaded, prompts, max_new_tokens=NEW, advance=told.append)
    assert sum(told) == pytest.approx(len(prompts))


def test_no_steering_is_no_hook(loaded: LoadedModel, prompts: list[str], steering: Steering) -> None:
    plain = generate(loaded, prompts, max_new_tokens=NEW)
    assert generate(loaded, prompts, steering, ["none"] * len(prompts), max_new_tokens=NEW) == plain
    zero = dataclasses.replace(steering, alpha=0.0)
    assert generate(loaded, prompts, zero, ["add"] * len(prompts), max_new_tokens=NEW) == plain


def test_what_can_not_be_asked_for(loaded: LoadedModel, prompts: list[str], steering: Steering) -> None:
    with pytest.raises(ValueError, match="action per prompt"):
        generate(loaded, prompts, steering, max_new_tokens=1)
    with pytest.raises(ValueError, match="without steering"):
        generate(loaded, prompts[:1], None, ["add"], max_new_tokens=1)
    with pytest.raises(ValueError, match="1 actions"):
        generate(loaded, prompts, steering, ["add"], max_new_tokens=1)
    with pytest.raises(ValueError, match="blocks of width"):
        generate(loaded, prompts[:1], dataclasses.replace(steering, layer=99), ["add"], max_new_tokens=1)
    for vector in (np.zeros(4), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="norm"):
            Steering(vector, 0, 1.0, "layer")


def test_logits_that_are_not_numbers_name_the_prompt(
    loaded_model: Callable[[str], LoadedModel], prompts: list[str]
) -> None:
    loaded = loaded_model("qwen2")
    weight = loaded.model.lm_head.weight
    kept = weight[3].clone()
    try:
        weight[3] = float("nan")
        with pytest.raises(PolygateError, match="NaN logits of prompt p0"):
            generate(loaded, prompts[:1], max_new_tokens=2, names=["p0"])
    finally:
        weight[3] = kept
