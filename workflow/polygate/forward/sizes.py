"""How large a model's batches are, where the settings leave it to the machine (`batch_tokens: auto`).

Two sizes, both in padded tokens. A prefill is bound by arithmetic: beyond some hundred tokens a CPU gains nothing
and loses its caches, so a short trial finds where it is fastest. Rows that are being written are bound by reading the
weights, once for all rows: there, more is better, as long as it fits. On a GPU both follow from the memory that the
weights have left: what the model's cache takes per token, and the measured peak of a prefill.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from polygate import files
from polygate.errors import PolygateError
from polygate.forward.batching import position_ids

if TYPE_CHECKING:
    import torch

    from polygate.forward.loading import LoadedModel

_TINY = 2e7
"""Below as many parameters every size is fast, and a trial would take longer than it saves."""
_ROW = 64
"""Tokens of a prompt of a trial."""
_CANDIDATES = (256, 512, 1024, 2048)
_TRIAL_SECONDS = 4.0
_GAIN = 1.03
"""A larger batch must be as much faster to be taken."""
_LARGEST = 65536


KEPT_BYTES = 1 << 29
"""How much of prompts' keys and values is kept on a CPU, and where the settings give the batches' size."""


@dataclass(frozen=True)
class Sizes:
    """Most padded tokens of one pass over prompts, and of all rows that are being written at a time.

    `kept` is how many bytes of prompts' keys and values may wait for who needs them again.
    """

    prefill: int
    written: int
    kept: int = KEPT_BYTES


_ON_CPU = Sizes(512, 8192)
_TINY_ON_CPU = Sizes(4096, 16384)


class Memory(Protocol):
    """What a GPU says of its memory, in bytes."""

    def free(self) -> int:
        """What a process may still take."""

    def peak(self, work: Callable[[], Any]) -> int:
        """The most that `work` took beyond what was taken before it."""


class DeviceMemory:
    """`Memory` of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def free(self) -> int:
        """As the driver says, with what torch keeps for itself."""
        import torch

        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + kept

    def peak(self, work: Callable[[], Any]) -> int:
        """As torch's allocator counts."""
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return int(torch.cuda.max_memory_allocated(self.device)) - before


def find(loaded: LoadedModel, cache: Path | None = None) -> Sizes:
    """The sizes for this model on this machine; on a CPU what a trial found is kept in `cache`, by model and machine.

    A trial takes a few seconds at most, and there is none for a tiny model.
    """
    if loaded.device.type == "cuda":
        return by_memory(loaded, {device: DeviceMemory(device) for device in loaded.devices})
    if sum(weight.numel() for weight in loaded.model.parameters()) < _TINY:
        return _TINY_ON_CPU
    record = None if cache is None or not loaded.fingerprint else cache / "sizes" / f"{_key(loaded)}.json"
    if record is not None and record.is_file():
        try:
            known = files.read_json(record)
            return Sizes(int(known["prefill"]), int(known["written"]))
        except (PolygateError, KeyError, TypeError, ValueError):
            pass  # A damaged record is made again.
    found = by_trial(lambda tokens: _pass(loaded, tokens))
    if record is not None:
        files.write_json(record, asdict(found))
    return found


def by_trial(run: Callable[[int], None], clock: Callable[[], float] = time.perf_counter) -> Sizes:
    """The smallest size at which tokens go through about as fast as at any; `run` passes so many through the model.

    Sizes are tried from small to large, until one is slower or time is up; where the first takes all of it, the
    default stands.
    """
    run(_ROW)
    begun = clock()
    best, rate = _ON_CPU.prefill, 0.0
    for tokens in _CANDIDATES:
        before = clock()
        run(tokens)
        now = clock()
        found = tokens / max(now - before, 1e-9)
        if found > _GAIN * rate:
            best, rate = tokens, found
        elif found < rate / _GAIN:
            break
        if now - begun + 2 * (now - before) > _TRIAL_SECONDS:
            return _ON_CPU if tokens == _CANDIDATES[0] else Sizes(best, _ON_CPU.written)
    return Sizes(best, _ON_CPU.written)


def by_memory(loaded: LoadedModel, memories: Mapping[torch.device, Memory]) -> Sizes:
    """What fits beside the weights: a quarter of the free memory for a prefill, half for rows that are written.

    An eighth is for what is kept. Of several devices each holds the cache of its own blocks; the one with the least
    room decides. Batches are powers of 2, so that they don't follow every byte that another process takes.
    """
    few, many = 4 * _ROW, 16 * _ROW
    held = _pass(loaded, few, cached=True)
    per_token = dict.fromkeys(memories, 0.0)
    for layer in held.layers:
        if layer.is_initialized:
            per_token[layer.keys.device] += (layer.keys.nbytes + layer.values.nbytes) / few
    del held
    found = []
    for device, memory in memories.items():
        slope = (memory.peak(lambda: _pass(loaded, many)) - memory.peak(lambda: _pass(loaded, few))) / (many - few)
        free = memory.free()
        prefill = _power_below(free / 4 / max(slope, per_token[device], 1.0))
        written = max(prefill, _power_below(free / 2 / max(per_token[device], 1.0)))
        found.append((prefill, written, int(free / 8 * sum(per_token.values()) / max(per_token[device], 1.0))))
    return Sizes(*(min(of_devices) for of_devices in zip(*found, strict=True)))


def _power_below(tokens: float) -> int:
    return 1 << max(_ROW, min(_LARGEST, int(tokens))).bit_length() - 1


def _pass(loaded: LoadedModel, tokens: int, cached: bool = False) -> Any:
    """Prompts of `_ROW` tokens, as many together, through the model; its cache where that is asked for."""
    import torch
    from transformers import DynamicCache

    ids = torch.full((max(1, tokens // _ROW), min(tokens, _ROW)), loaded.pad, device=loaded.device)
    mask = torch.ones_like(ids)
    given: dict[str, Any] = {"past_key_values": DynamicCache()} if cached else {}
    with torch.inference_mode():
        loaded.base(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=cached, **given)
    return given.get("past_key_values")


def _key(loaded: LoadedModel) -> str:
    import torch

    described = [
        loaded.fingerprint,
        loaded.dtype,
        loaded.quantisation,
        loaded.attention,
        _processor(),
        torch.get_num_threads(),
        metadata.version("torch"),
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


def _processor() -> str:
    """The processor's name and instruction sets, as Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
