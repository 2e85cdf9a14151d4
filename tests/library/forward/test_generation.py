"""Greedy text is the prompt's own: the same alone and in any batch, whatever is done to the other rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from library.forward.steered import ablated, added, arm, as_completion, mixture, names_of, single
from library.forward.tiny import ARCHITECTURES
from polygate.errors import PolygateError
from polygate.forward import hooks, passes
from polygate.forward.edits import edits
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention, nothing
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise

NEW = 10
ACTIONS = ("none", "add", "ablate")


@pytest.fixture
def vector(loaded: LoadedModel) -> NDArray[np.float64]:
    """Strong enough, at 20 times its length, to change most texts."""
    return np.random.default_rng(0).normal(size=loaded.width)


@pytest.fixture
def logits(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[torch.Tensor]]:
    """The logits of every step, by the prompt's name, as generation sees them."""
    seen: dict[str, list[torch.Tensor]] = {}

    real = passes.greedy

    def look(found: torch.Tensor, names: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
        for row, name in enumerate(names):
            seen.setdefault(name, []).append(found[row].clone())
        return real(found, names)

    monkeypatch.setattr(passes, "greedy", look)
    return seen


@pytest.mark.parametrize("action", ACTIONS)
def test_the_slow_twin_agrees(
    loaded: LoadedModel, prompts: list[str], vector: NDArray[np.float64], action: str
) -> None:
    intervention = arm(action, vector, loaded.layers, len(prompts))
    expected = [
        as_completion(loaded, prompt, single(loaded, prompt, intervention, row, NEW)[0])
        for row, prompt in enumerate(tokenise(loaded.tokenizer, prompts))
    ]
    assert generate(loaded, prompts, intervention, max_new_tokens=NEW) == expected


EAGER = "gemma2"
"""Its attention is computed in float32, whatever the model's dtype."""
PRECISIONS = [(name, "float32") for name in ARCHITECTURES] + [(n, "float64") for n in ARCHITECTURES if n != EAGER]


@pytest.fixture(params=PRECISIONS, ids="-".join)
def precise(
    request: pytest.FixtureRequest, loaded_model: Callable[[str], LoadedModel]
) -> Iterator[tuple[LoadedModel, float]]:
    """A model in a precision, and how far its logits may be off, relative to the largest.

    Rounding falls by eight orders of magnitude in float64; a mistake stays. In float32 the largest of these mixtures
    came to 1.3e-5 in one run and to .9e-5 in another.
    """
    name, dtype = request.param
    loaded = loaded_model(name)
    try:
        loaded.model.to(getattr(torch, dtype))
        yield loaded, {"float32": 3e-5, "float64": 1e-12}[dtype]
    finally:
        loaded.model.to(torch.float32)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("batch_tokens", [70, 100_000])
def test_in_any_mixture_of_interventions_each_prompt_is_as_it_is_alone(
    precise: tuple[LoadedModel, float],
    prompts: list[str],
    logits: dict[str, list[torch.Tensor]],
    seed: int,
    batch_tokens: int,
) -> None:
    """Text and logits: in the batch, alone in one, and by the twin that has neither batch nor cache."""
    (loaded, tolerance), count, new = precise, 8, 6
    random = np.random.default_rng([seed, batch_tokens])
    texts, names = [prompts[row] for row in random.permutation(len(prompts))[:count]], names_of(count)
    intervention = mixture(random, loaded, count)
    together = generate(
        dataclasses.replace(loaded, batch_tokens=batch_tokens, written_tokens=batch_tokens),
        texts,
        intervention,
        max_new_tokens=new,
    )
    mixed = dict(logits)
    logits.clear()
    for row, (name, prompt) in enumerate(zip(names, tokenise(loaded.tokenizer, texts), strict=True)):
        own, text = intervention.rows([row]), texts[row : row + 1]
        assert generate(loaded, text, own, max_new_tokens=new, names=[name]) == [together[row]]
        tokens, expected = single(loaded, prompt, intervention, row, new)
        assert as_completion(loaded, prompt, tokens) == together[row]
        for found in (mixed[name], logits[name]):
            differing = (torch.stack(found[: len(tokens)]) - expected).abs().max()
            assert float(differing) < tolerance * float(expected.abs().max())


def test_what_is_left_alone_in_a_mixture_keeps_its_bits(
    loaded: LoadedModel, prompts: list[str], logits: dict[str, list[torch.Tensor]]
) -> None:
    """The same batch without the others' edits: every bit of the logits of prompts that nothing is done to."""
    count = 8
    intervention = mixture(np.random.default_rng(4), loaded, count)
    idle = [row for row in range(count) if all(part.coefficients[row] == 0 for part in intervention.parts)]
    assert 0 < len(idle) < count
    generate(loaded, prompts[:count], intervention, max_new_tokens=1)
    steered = {name: found[0] for name, found in logits.items()}
    logits.clear()
    generate(loaded, prompts[:count], max_new_tokens=1)
    for row, name in enumerate(names_of(count)):
        assert torch.equal(steered[name], logits[name][0]) == (row in idle)


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


def mixed(vector: NDArray[np.float64], layers: int, count: int) -> Intervention:
    """Every third prompt left alone, added to, and ablated."""
    turn = np.arange(count) % 3
    return Intervention(
        tuple(names_of(count)), (added(vector, 20.0 * (turn == 1)), ablated(vector, turn == 2, range(layers)))
    )


@pytest.mark.parametrize("batch_tokens", [1, 70, 100_000])
def test_mixed_rows_are_selections_of_separate_runs(
    loaded: LoadedModel, prompts: list[str], vector: NDArray[np.float64], batch_tokens: int
) -> None:
    """What licences routed arms by selection."""
    count = len(prompts)
    arms = [
        generate(loaded, prompts, arm(action, vector, loaded.layers, count), max_new_tokens=NEW) for action in ACTIONS
    ]
    sized = dataclasses.replace(loaded, batch_tokens=batch_tokens, written_tokens=batch_tokens)
    found = generate(sized, prompts, mixed(vector, loaded.layers, count), max_new_tokens=NEW)
    assert found == [arms[row % 3][row] for row in range(count)]
    changed = [arms[1][row] != arms[0][row] for row in range(count)]
    assert sum(changed) > count / 2, "steering does something here"


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


def test_a_prompt_given_twice_is_answered_twice(
    loaded: LoadedModel, prompts: list[str], vector: NDArray[np.float64]
) -> None:
    count = len(prompts)
    half = Intervention(tuple(names_of(2 * count)), (added(vector, [0.0] * count + [20.0] * count),))
    both = generate(loaded, prompts + prompts[::-1], half, max_new_tokens=NEW)
    assert both[:count] == generate(loaded, prompts, max_new_tokens=NEW)
    all_added = generate(loaded, prompts, arm("add", vector, loaded.layers, count), max_new_tokens=NEW)
    assert both[count:] == all_added[::-1]


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


def test_no_steering_is_no_hook(
    loaded: LoadedModel, prompts: list[str], vector: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(prompts)
    plain = generate(loaded, prompts, max_new_tokens=NEW)
    monkeypatch.setattr(hooks.Attached, "see_block", None)
    for idle in (nothing(names_of(count)), arm("add", vector, loaded.layers, count, alpha=0.0)):
        assert generate(loaded, prompts, idle, max_new_tokens=NEW) == plain


def test_a_part_is_one_edit_whatever_its_layers_and_parts_of_one_kind_share_it(vector: NDArray[np.float64]) -> None:
    everywhere = ablated(vector, [1, 1, 0, 0], range(3))
    other, third = ablated(-2 * vector[::-1], [0, 0, 1, 0], range(3)), ablated(vector + 1, [1, 0, 0, 0], range(3))
    (single_edit,) = edits(Intervention(tuple(names_of(4)), (everywhere,)))
    assert single_edit[0].layers == (0, 1, 2)
    assert single_edit[1].vectors.shape == vector.shape, "no copy per row or layer"  # type: ignore[union-attr]
    assert len(edits(Intervention(tuple(names_of(4)), (everywhere, other)))) == 1
    assert len(edits(Intervention(tuple(names_of(4)), (everywhere, third, other)))) == 2
    between = added(vector, [0, 0, 3, 0])
    order = edits(Intervention(tuple(names_of(4)), (everywhere, between, other)))
    assert len(order) == 3, "what acts between two parts on one prompt stays between them"


def test_what_does_not_fit_is_one_line(loaded: LoadedModel, prompts: list[str], vector: NDArray[np.float64]) -> None:
    count = len(prompts)
    fine = arm("add", vector, loaded.layers, count)
    for bad, said in (
        (arm("add", vector, loaded.layers, count, layer=99), "up to layer 99"),
        (arm("ablate", vector[1:], loaded.layers, count), f"width {loaded.width - 1}"),
        (fine.rows(range(count - 1)), "other prompts"),
        (fine.rows([1, 0, *range(2, count)]), "'0' where '1' is meant"),
    ):
        with pytest.raises(PolygateError, match=said):
            generate(loaded, prompts, bad, max_new_tokens=1)


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
