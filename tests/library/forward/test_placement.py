"""Models in parts on several devices, offloaded, or quantised: the plain numbers, or one line that says why not.

No GPU is needed: other devices are stand-ins (see `other_device`), and accelerate offloads to main memory and disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import transformers
from accelerate.hooks import AlignDevicesHook, add_hook_to_module

from conftest import require
from library.forward.gated import TEXTS, gate_for
from library.forward.other_device import Devices, made_there, waits
from library.forward.steered import ablated, mixture
from library.forward.tiny import options
from polygate import gates, preflight
from polygate.errors import PolygateError
from polygate.forward import device, prefixes, self_check, sizes, weights, writing
from polygate.forward.capture import capture
from polygate.forward.generation import Completion, generate, write
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel, load
from polygate.forward.options import Options
from polygate.forward.scoring import answering
from polygate.forward.tokenising import tokenise
from polygate.forward.writing import Writer
from polygate.settings.types import Settings

FIRST, SECOND = torch.device("meta", 0), torch.device("meta", 1)
ALL = self_check.Found("padded", shares=True, resumes=True)


def numbers(loaded: LoadedModel, prompts: list[str]) -> tuple[list[torch.Tensor], list[list[Completion]]]:
    """Activations, logits and texts, unsteered and under every kind of part, by either way of writing."""
    prompts = prompts[:7]
    steered = mixture(np.random.default_rng(3), loaded, len(prompts))
    vector = np.random.default_rng(4).normal(size=loaded.width)
    tokenised = tokenise(loaded.tokenizer, prompts)
    names = list(steered.prompt_ids)
    found = [*capture(loaded, prompts).tensors.values()]
    found.append(torch.from_numpy(answering(loaded, tokenised, steered, names)))
    with torch.inference_mode():
        found.append(Writer(loaded, tokenised, steered, names).start(range(len(prompts)))[0])
    # The last goes on from what the first has left.
    kept, above = prefixes.Kept(), Intervention(steered.prompt_ids, (ablated(vector, [1.0] * len(prompts), [1]),))
    kept.wanted.add(1)
    texts = [generate(loaded, prompts, which, max_new_tokens=6, kept=kept) for which in (None, steered, above)]
    plain = write(loaded, tokenised, steered, 6, names)
    assert [len(tokens) for tokens in plain] == [completion.new_tokens for completion in texts[1]]
    return found, texts


def move(module: torch.nn.Module, to: torch.device) -> None:
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part._parameters[name] = torch.nn.Parameter(weight.data.to(to), requires_grad=False)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = buffer.to(to)


def align(module: torch.nn.Module, to: torch.device, **more: Any) -> None:
    """What accelerate puts on a module of a model that it spreads: its inputs are brought to where it lies."""
    add_hook_to_module(module, AlignDevicesHook(None, **more))
    module._hf_hook.execution_device = to  # type: ignore[union-attr]


def spread(loaded: LoadedModel) -> LoadedModel:
    """Embeddings stay on the CPU, the first block goes to one device, the others and the head to another."""
    model, kept = loaded.model, loaded.model._skip_keys_device_placement
    for number, block in enumerate(loaded.blocks):
        move(block, SECOND if number else FIRST)
        align(block, SECOND if number else FIRST, skip_keys=kept)
    for last in (loaded.base.norm, model.lm_head):
        move(last, SECOND)  # type: ignore[arg-type]
        align(last, SECOND)  # type: ignore[arg-type]
    align(model, torch.device("cpu"), io_same_device=True, skip_keys=kept)
    return replace(loaded, devices=weights.devices_of(model))


@pytest.fixture
def without_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins can't be written into in inference mode."""
    monkeypatch.setattr(
        torch.inference_mode, "__enter__", lambda self: self.__dict__.setdefault("_", torch.no_grad()).__enter__()
    )
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda self, *error: self._.__exit__(*error))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.usefixtures("without_inference_mode")
def test_numbers_of_blocks_on_two_devices_are_the_plain_ones(
    folders: dict[str, Path], prompts: list[str], architecture: str
) -> None:
    # Under sdpa torch chooses another kernel on a device that it doesn't know.
    loaded = load(folders[architecture], Options(attention="eager"))
    expected, texts = numbers(loaded, prompts)
    with Devices():
        loaded = spread(loaded)
        assert loaded.devices == (torch.device("cpu"), FIRST, SECOND)
        assert self_check._check(loaded, folders[architecture]) == ALL
        found, again = numbers(loaded, prompts)
    assert again == texts
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def alone(loaded: LoadedModel) -> LoadedModel:
    """All of it on one device."""
    move(loaded.model, FIRST)
    return replace(loaded, devices=weights.devices_of(loaded.model))


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.usefixtures("without_inference_mode")
def test_numbers_of_a_model_on_one_device_are_the_plain_ones(
    folders: dict[str, Path], prompts: list[str], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """As on the one GPU that most have: nothing of a model or of what is done to it stays on the CPU."""
    loaded = load(folders[architecture], Options(attention="eager"))
    expected, texts = numbers(loaded, prompts)
    monkeypatch.setitem(writing._MOST_ROWS, FIRST.type, 64)
    with Devices(), made_there():
        loaded = alone(loaded)
        assert loaded.devices == (FIRST,)
        assert self_check._check(loaded, folders[architecture]) == ALL
        found, again = numbers(loaded, prompts)
    assert again == texts
    assert all(torch.equal(one, other.cpu()) for one, other in zip(expected, found, strict=True))


def test_keys_and_values_of_all_blocks_on_a_device_are_one_tensor_a_prompt() -> None:
    """A copy of a prompt's costs one launch there, whatever the depth."""
    cache = prefixes.no_states()
    with Devices():
        for layer, place in enumerate((FIRST, FIRST, SECOND, SECOND, SECOND)):
            cache.update(torch.ones(2, 2, 3, 4).to(place), torch.full((2, 2, 3, 4), 2.0).to(place), layer)
        apart = prefixes.taken_apart(cache, [3, 1], 3)
        assert [(one.device, one.shape) for one in apart[1].states] == [(FIRST, (4, 2, 1, 4)), (SECOND, (6, 2, 1, 4))]
        together, _ = prefixes.put_together(apart, 2)
        assert [layer.keys.device for layer in together.layers] == [FIRST, FIRST, SECOND, SECOND, SECOND]
        assert together.layers[3].values.cpu()[0].eq(2).all()


@pytest.mark.usefixtures("without_inference_mode")
def test_a_gate_routes_a_model_on_one_device_as_on_the_cpu(folders: dict[str, Path]) -> None:
    loaded = load(folders["llama"], Options(attention="eager"))
    gate = gate_for(loaded, scope="all")
    with gates.attach(loaded.model, loaded.tokenizer, gate) as routed:
        expected = routed.answer(TEXTS, max_new_tokens=6)
    with Devices(), made_there():
        loaded = alone(loaded)
        with gates.attach(loaded.model, loaded.tokenizer, gate) as routed:
            assert routed.answer(TEXTS, max_new_tokens=6) == expected


@pytest.mark.parametrize(("attention", "reads"), [("eager", 0), ("sdpa", 1)])
@pytest.mark.usefixtures("without_inference_mode")
def test_the_host_waits_once_a_token_and_once_a_batch(
    folders: dict[str, Path], prompts: list[str], monkeypatch: pytest.MonkeyPatch, attention: str, reads: int
) -> None:
    """Under sdpa transformers itself asks before each token whether any row is padded."""
    loaded = load(folders["llama"], Options(attention=attention))
    monkeypatch.setitem(writing._MOST_ROWS, FIRST.type, 64)
    prompts = prompts[:7]
    steered = mixture(np.random.default_rng(3), loaded, len(prompts))
    with Devices(), made_there():
        loaded = replace(alone(loaded), stop=frozenset())
        for intervention in (None, steered):
            counted = []
            for tokens in (4, 14):
                waits.clear()
                generate(loaded, prompts, intervention, max_new_tokens=tokens)
                counted.append(dict(waits))
            each = {kind: counted[1][kind] - counted[0][kind] for kind in counted[1]}
            assert each == {"in": 0, "out": 10} | ({"read": 10 * reads} if reads else {})
        waits.clear()
        capture(loaded, prompts)
        assert waits["out"] == 1


@pytest.mark.usefixtures("without_inference_mode")
def test_stand_ins_refuse_what_true_devices_refuse(folders: dict[str, Path]) -> None:
    loaded = load(folders["llama"], options("llama"))
    with Devices():
        spread(loaded)
        there = torch.ones(3, device=FIRST)
        for elsewhere in (torch.ones(3), torch.ones(3, device=SECOND)):
            with pytest.raises(RuntimeError, match="expected all tensors on one device"):
                there + elsewhere
        loaded.blocks[1]._hf_hook.execution_device = FIRST  # type: ignore[union-attr]
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            capture(loaded, ["w1 w2"])


def test_numbers_of_an_offloaded_model_are_the_plain_ones(
    folders: dict[str, Path], prompts: list[str], tmp_path: Path
) -> None:
    loaded = load(folders["gemma2"], options("gemma2"))
    expected, texts = numbers(loaded, prompts)
    parts = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    parts |= {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk"}
    kept = loaded.model._skip_keys_device_placement
    accelerate.dispatch_model(
        loaded.model, parts, main_device="cpu", offload_dir=tmp_path, force_hooks=True, skip_keys=kept
    )
    assert next(loaded.blocks[1].parameters()).is_meta
    found, again = numbers(loaded, prompts)
    assert again == texts
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


class Gpu:
    """A GPU with so many free bytes, on which a pass takes next to nothing."""

    def __init__(self, free: int) -> None:
        self._free = free

    def free(self) -> int:
        return self._free

    def peak(self, work: Callable[[], Any]) -> int:
        work()
        return 0


@pytest.mark.usefixtures("without_inference_mode")
def test_the_device_with_the_least_room_for_its_part_of_the_cache_decides(folders: dict[str, Path]) -> None:
    """A block's keys and values: 2 heads of 8 numbers, 4 bytes each, 128 bytes a token; two blocks on the second."""
    loaded = load(folders["qwen2"], options("qwen2"))
    with Devices():
        loaded = spread(loaded)
        for room, expected in (((1 << 18, 1 << 30), 1024), ((1 << 30, 1 << 18), 512), ((1 << 18, 1 << 18), 512)):
            cpu = {torch.device("cpu"): Gpu(1 << 40)}
            found = sizes.by_memory(loaded, {**cpu, FIRST: Gpu(room[0]), SECOND: Gpu(room[1])})
            assert found.written == expected


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What transformers was asked for."""
    found: list[dict[str, Any]] = []
    real = transformers.LlamaForCausalLM.from_pretrained

    def from_pretrained(*args: Any, **more: Any) -> Any:
        found.append(more)
        return real(*args, **more)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", from_pretrained)
    return found


def given(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    monkeypatch.setattr(device, "acquire", lambda _gpus: tuple(map(torch.device, places)))


def test_several_devices_are_shared_out_by_accelerate(
    folders: dict[str, Path], prompts: list[str], monkeypatch: pytest.MonkeyPatch, loads: list[dict[str, Any]]
) -> None:
    expected, texts = numbers(load(folders["llama"], options("llama")), prompts)
    given(monkeypatch, "cpu", "cpu")
    loaded = load(folders["llama"], options("llama"), gpus=2)
    assert [one.get("device_map") for one in loads] == [None, "auto"]
    found, again = numbers(loaded, prompts)
    assert again == texts
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    given(monkeypatch, "cuda:0", "cuda:1")
    with pytest.raises(PolygateError, match=r"the weights don't fit into 2 GPUs, in .*: spread it over more GPUs"):
        load(folders["llama"], options("llama"), gpus=2)


def test_weights_that_do_not_fit_are_one_line(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", full)
    given(monkeypatch, "cuda:0")
    with pytest.raises(PolygateError, match=r"the weights don't fit into 1 GPU, in .*llama: spread it"):
        load(folders["llama"], options("llama"))


def test_quantisation_is_refused_before_any_job_without_its_package_and_at_loading_without_a_gpu(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"folder": str(folders["llama"]), "dtype": "float32", "quantisation": "4bit"}
    settings = Settings.model_validate({"models": {"tiny": model}})
    monkeypatch.setattr(weights, "find_spec", lambda _name: None)
    message = r"^quantisation 4bit needs the Python package bitsandbytes, which is not installed"
    with pytest.raises(PolygateError, match=message):
        preflight.check_packages(settings, tmp_path)
    with pytest.raises(PolygateError, match=message):
        load(folders["llama"], options("llama", quantisation="4bit"))
    monkeypatch.setattr(weights, "find_spec", lambda _name: True)
    given(monkeypatch, "cpu")
    with pytest.raises(PolygateError, match=r"^quantisation 8bit needs a GPU, in .*: set it to none, or use a GPU$"):
        load(folders["llama"], options("llama", quantisation="8bit"))


@pytest.mark.parametrize(("quantisation", "largest"), [("8bit", 0.01), ("4bit", 0.15)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quantised_weights_are_the_models_rounded(
    folders: dict[str, Path],
    prompts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    quantisation: str,
    largest: float,
    dtype: str,
) -> None:
    """By bitsandbytes on a CPU, which the settings don't offer: the same calls, and other kernels than a GPU's."""
    require(find_spec("bitsandbytes") is not None, "bitsandbytes is not installed", installable=False)
    monkeypatch.setattr(weights, "_check_quantised", lambda *_: None)
    plain = load(folders["llama"], options("llama", dtype=dtype))
    loaded = load(folders["llama"], options("llama", dtype=dtype, quantisation=quantisation))
    assert (loaded.facts()["quantisation"], loaded.model.dtype) == (quantisation, plain.model.dtype)
    for ours, theirs in zip(loaded.blocks, plain.blocks, strict=True):
        for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"):
            module = theirs.get_submodule(name)
            unit = torch.eye(module.in_features, dtype=plain.model.dtype)  # type: ignore[arg-type]
            with torch.inference_mode():
                found, expected = (block.get_submodule(name)(unit).float() for block in (ours, theirs))
            assert 0 < (found - expected).norm() / expected.norm() < largest
    assert len(generate(loaded, prompts, max_new_tokens=3)) == len(prompts)
