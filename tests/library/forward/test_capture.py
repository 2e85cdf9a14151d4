"""A prompt's activations are the prompt's: not its batch's, not its neighbours', not the final norm's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from polygate.errors import PolygateError
from polygate.forward.batching import left_pad, length_sorted, position_ids
from polygate.forward.blocks import decoder_blocks
from polygate.forward.capture import POSITIONS, Activations, capture
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise


def one_by_one(loaded: LoadedModel, prompts: list[str], position: str, layer: int) -> Tensor:
    """The slow twin: no batch, no padding, a hook that keeps what the block returns."""
    rows = []
    for prompt in tokenise(loaded.tokenizer, prompts):
        kept: list[Tensor] = []
        handle = loaded.blocks[layer].register_forward_hook(
            lambda _module, _args, output, kept=kept: kept.append(output if isinstance(output, Tensor) else output[0])
        )
        try:
            with torch.inference_mode():
                loaded.base(input_ids=torch.tensor([prompt.input_ids]))
        finally:
            handle.remove()
        hidden = kept[0][0]
        assert len(hidden) == len(prompt)
        if position == "mean":
            rows.append((sum(token.double() for token in hidden) / len(hidden)).to(hidden.dtype))
        else:
            rows.append(hidden[prompt.position(position)])
    return torch.stack(rows)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_activations_are_those_of_a_batch_of_one(loaded: LoadedModel, prompts: list[str], batch_tokens: int) -> None:
    found = capture(dataclasses.replace(loaded, batch_tokens=batch_tokens), prompts)
    for position in POSITIONS:
        for layer in range(loaded.layers):
            expected = one_by_one(loaded, prompts, position, layer)
            assert relative(found.tensors[layer, position], expected) < 1e-5


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_what_is_left_in_float64_is_rounding(
    loaded_model: Callable[[str], LoadedModel], architecture: str, prompts: list[str]
) -> None:
    """In float64 batched and single agree eight orders of magnitude better: noise falls, a defect would stay.

    Not for Gemma 2, whose eager attention takes its softmax in float32 whatever the model's dtype.
    """
    loaded = loaded_model(architecture)
    wide = dataclasses.replace(loaded, model=loaded.model.double())
    try:
        batched, single = capture(wide, prompts), capture(dataclasses.replace(wide, batch_tokens=1), prompts)
        assert all(relative(batched.tensors[key], single.tensors[key]) < 1e-12 for key in single.tensors)
    finally:
        loaded.model.float()


def test_rows_are_in_the_order_given_and_of_every_layer(loaded: LoadedModel, prompts: list[str]) -> None:
    forward, backward = capture(loaded, prompts), capture(loaded, prompts[::-1])
    assert set(forward.tensors) == {(layer, name) for layer in range(loaded.layers) for name in POSITIONS}
    for key, tensor in forward.tensors.items():
        assert tensor.shape == (len(prompts), loaded.width)
        assert relative(backward.tensors[key].flip(0), tensor) < 1e-5
    assert forward.token_count.tolist() == [len(prompt.split()) for prompt in prompts]
    assert forward.token_count.dtype == np.int32


def test_a_mean_in_half_precision_is_rounded_once(loaded: LoadedModel, prompts: list[str]) -> None:
    """Summed in bfloat16 it would be off by far more than the half of a last place."""
    model = copy.deepcopy(loaded.model).bfloat16()
    half = dataclasses.replace(loaded, model=model, base=model.base_model, blocks=decoder_blocks(model))
    found = capture(half, prompts[:1], ["mean", "t_inst"], layers=[0])
    assert found.tensors[0, "mean"].dtype == torch.bfloat16
    for position in ("mean", "t_inst"):
        assert torch.equal(found.tensors[0, position], one_by_one(half, prompts[:1], position, 0))


def test_the_head_is_never_run(loaded: LoadedModel, prompts: list[str]) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the head ran")

    handle = loaded.model.lm_head.register_forward_hook(fail)
    try:
        assert isinstance(capture(loaded, prompts), Activations)
    finally:
        handle.remove()


def test_some_layers_and_positions(loaded: LoadedModel, prompts: list[str]) -> None:
    whole = capture(loaded, prompts)
    part = capture(loaded, prompts, ["t_post_inst"], layers=[1])
    assert list(part.tensors) == [(1, "t_post_inst")]
    assert torch.equal(part.tensors[1, "t_post_inst"], whole.tensors[1, "t_post_inst"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_name_prompt_and_layer(
    loaded: LoadedModel, prompts: list[str], bad: float
) -> None:
    names = [f"harmful-test-{i:04d}" for i in range(len(prompts))]
    word = prompts[4].split()[-1]
    clean = [p if i == 4 else p.replace(word, "w0" if word != "w0" else "w1") for i, p in enumerate(prompts)]
    row = loaded.tokenizer.convert_tokens_to_ids(word)
    weight = loaded.model.get_input_embeddings().weight
    kept = weight[row].clone()
    try:
        weight[row] = bad
        with pytest.raises(PolygateError, match=r"prompt harmful-test-0004 after block 0"):
            capture(loaded, clean, names=names)
    finally:
        weight[row] = kept


def test_progress_adds_up(loaded: LoadedModel, prompts: list[str]) -> None:
    told: list[float] = []
    capture(dataclasses.replace(loaded, batch_tokens=50), prompts, advance=told.append)
    assert sum(told) == len(prompts)
    assert len(told) > 1


def test_batches_hold_every_prompt_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 200).tolist()
    for budget, extra in ((1, 0), (100, 0), (500, 12)):
        batches = length_sorted(lengths, budget, extra)
        assert sorted(i for batch in batches for i in batch) == list(range(200))
        for batch in batches:
            padded = len(batch) * (max(lengths[i] for i in batch) + extra)
            assert padded <= budget or len(batch) == 1
    assert length_sorted([], 10) == []


def test_left_padding_puts_every_last_token_in_the_last_column(loaded: LoadedModel, prompts: list[str]) -> None:
    tokenised = tokenise(loaded.tokenizer, prompts)
    ids, mask = left_pad(tokenised, loaded.pad, loaded.device)
    positions = position_ids(mask)
    for row, prompt in enumerate(tokenised):
        assert ids[row, -1] == prompt.input_ids[-1]
        assert positions[row, -1] == len(prompt) - 1 == mask[row].sum() - 1
