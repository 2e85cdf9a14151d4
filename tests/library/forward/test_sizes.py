"""Batch sizes that the machine decides: by a trial on a CPU, by memory on a GPU, kept, and told in the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from library.forward.tiny import options
from polygate.forward import sizes
from polygate.forward.loading import LoadedModel, load


class Machine:
    """A CPU that takes `seconds[tokens]` for a pass."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds, self.now, self.passes = seconds, 0.0, [0]

    def run(self, tokens: int) -> None:
        self.passes.append(tokens)
        self.now += self.seconds(tokens)

    def found(self) -> int:
        return sizes.by_trial(self.run, lambda: self.now).prefill


def test_the_trial_takes_the_smallest_size_that_is_about_as_fast_as_any() -> None:
    assert Machine(lambda tokens: 0.0001 * tokens).found() == 256
    assert Machine(lambda tokens: 0.02 + 0.0001 * tokens).found() == 2048
    assert Machine(lambda tokens: 0.02 + 0.0001 * tokens * (1 if tokens < 2000 else 2)).found() == 1024


def test_the_trial_is_short_on_a_slow_machine() -> None:
    machine = Machine(lambda tokens: 0.1 * tokens)
    assert machine.found() == 512
    assert machine.passes == [0, 64, 256]


def test_a_tiny_model_has_no_trial_and_a_larger_one_is_tried_once(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = sizes.by_trial

    def trial(run: Callable[[int], None]) -> sizes.Sizes:
        tried.append(1)
        return real(run)

    monkeypatch.setattr(sizes, "by_trial", trial)
    assert load(folders["llama"], options("llama"), "f" * 32, tmp_path).batch_tokens == 4096
    assert not tried
    monkeypatch.setattr(sizes, "_TINY", 1)
    first = load(folders["llama"], options("llama"), "f" * 32, tmp_path)
    again = load(folders["llama"], options("llama"), "f" * 32, tmp_path)
    assert len(tried) == 1
    assert first.facts()["batch_tokens"] == again.facts()["batch_tokens"] >= 256


class Gpu:
    """A GPU with so many free bytes, on which a prefill takes so many a token."""

    def __init__(self, free: int, per_token: int) -> None:
        self._free, self.per_token = free, per_token
        self.passes = iter((16, 4))

    def free(self) -> int:
        return self._free

    def peak(self, work: Callable[[], Any]) -> int:
        work()
        return 1000 + 64 * next(self.passes) * self.per_token


@pytest.mark.parametrize(
    ("free", "per_token", "expected"),
    [(1 << 20, 100, (512, 1024)), (1 << 20, 1000, (256, 1024)), (1 << 40, 1, (65536, 65536)), (0, 1, (64, 64))],
)
def test_a_gpus_sizes_follow_from_its_free_memory(
    loaded_model: Callable[[str], LoadedModel], free: int, per_token: int, expected: tuple[int, int]
) -> None:
    loaded = loaded_model("qwen2")
    # Keys and values of 3 layers, 2 heads of 8 numbers, 4 bytes each: 384 bytes a token.
    found = sizes.by_memory(loaded, {loaded.device: Gpu(free, per_token)})
    assert (found.prefill, found.written) == expected
    assert found.kept == free // 8
    assert load(Path(loaded.tokenizer.name_or_path), options("qwen2")).kept_bytes == sizes.KEPT_BYTES


def test_the_setting_is_taken_where_there_is_one(folders: dict[str, Path]) -> None:
    found = load(folders["qwen2"], replace(options("qwen2"), batch_tokens=70))
    assert (found.batch_tokens, found.written_tokens) == (70, 70)
