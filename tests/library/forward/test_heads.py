"""Multiplying by a wide head gives what it gives in float64, however many rows there are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from library.forward.tiny import build_folder, options
from polygate.forward import heads
from polygate.forward.loading import load


def model_of(head: Any) -> SimpleNamespace:
    return SimpleNamespace(get_output_embeddings=lambda: head)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call that oneDNN is given."""
    seen: list[int] = []
    real = torch.ops.mkldnn._linear_pointwise

    def counted(states: torch.Tensor, *args: Any) -> torch.Tensor:
        seen.append(states[..., 0].numel())
        found: torch.Tensor = real(states, *args)
        return found

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (24, 1), (2, 5), (128, 1), (129, 1), (300,)])
@torch.inference_mode()
def test_a_quick_head_multiplies_as_any(shape: tuple[int, ...], bias: bool, calls: list[int]) -> None:
    torch.manual_seed(0)
    head = nn.Linear(48, 9000, bias=bias)
    states = torch.randn(*shape, 48)
    expected = states.double() @ head.weight.double().T + (head.bias.double() if bias else 0)
    heads.quicken(model_of(head))
    torch.testing.assert_close(head(states).double(), expected, rtol=1e-5, atol=1e-5)
    rows = states[..., 0].numel()
    assert calls == ([rows] if rows <= 128 else [])


@torch.inference_mode()
def test_other_dtypes_heads_and_devices_are_left_to_torch(calls: list[int]) -> None:
    half = nn.Linear(8, 9000).to(torch.bfloat16)
    small = nn.Linear(8, 100)
    moved = nn.Linear(8, 9000)
    hooked = nn.Linear(8, 9000)
    add_hook_to_module(hooked, AlignDevicesHook("cpu"))
    theirs = hooked.forward
    for head in (half, small, moved, hooked):
        heads.quicken(model_of(head))
    assert half(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert small(torch.ones(2, 8)).shape == (2, 100)
    assert moved.to("meta")(torch.ones(2, 8, device="meta")).device.type == "meta"
    for other in (None, nn.Identity()):
        heads.quicken(model_of(other))
        with heads.as_loaded(model_of(other)):
            pass
    assert not calls
    with heads.as_loaded(model_of(hooked)):
        assert hooked.forward is theirs


@torch.inference_mode()
def test_the_check_at_loading_is_by_the_head_as_it_was(calls: list[int]) -> None:
    head = nn.Linear(8, 9000)
    heads.quicken(model_of(head))
    with heads.as_loaded(model_of(head)):
        head(torch.ones(2, 8))
    assert not calls
    head(torch.ones(2, 8))
    assert calls == [2]


def test_a_loaded_models_head_is_quick_where_its_vocabulary_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    folder = build_folder(tmp_path / "model", "qwen2")
    load(folder, options("qwen2"))
    assert not calls
    monkeypatch.setattr(heads, "_LEAST_TOKENS", 10)
    load(folder, options("qwen2"))
    assert calls
