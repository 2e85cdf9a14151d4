"""A model that would not write what transformers' own generate writes is refused when it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from library.forward.tiny import ARCHITECTURES, options
from polygate.errors import PolygateError
from polygate.forward import capture, passes, prefixes, resuming, self_check
from polygate.forward.loading import LoadedModel, load


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_ordinary_models_pass_in_every_dtype(folders: dict[str, Path], architecture: str, dtype: str) -> None:
    assert load(folders[architecture], options(architecture, dtype=dtype)).batching == "padded"


def spoil(monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[Any], Any]) -> None:
    """Our generation, not transformers', gives other logits."""
    real = passes.last_logits
    monkeypatch.setattr(passes, "last_logits", lambda *args: spoilt(real(*args)))


def test_other_texts_are_refused_in_one_line(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda logits: -logits)
    with pytest.raises(PolygateError, match="Qwen2ForCausalLM: greedy texts differ from those of transformers'"):
        load(folders["qwen2"], options("qwen2"))


def test_a_tie_is_no_difference(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda logits: logits + 1e-6 * torch.randn(logits.shape))
    assert load(folders["qwen2"], options("qwen2")).batching == "padded"


def test_other_activations_are_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = capture.read

    def wrong_block(*args: Any) -> tuple[dict[int, torch.Tensor], Any]:
        found, cache = real(*args)
        return {layer: found[(layer + 1) % len(found)] for layer in found}, cache

    monkeypatch.setattr(capture, "read", wrong_block)
    with pytest.raises(PolygateError, match="activations differ from those of transformers'"):
        load(folders["qwen2"], options("qwen2"))


def test_a_preamble_read_wrongly_is_not_shared(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = prefixes.behind

    def shifted(*args: Any) -> prefixes.Behind:
        found = real(*args)
        for layer in found.cache.layers:
            layer.keys.copy_(layer.keys.roll(1, dims=-1))
        return found

    monkeypatch.setattr(capture, "behind", shifted)
    assert not load(folders["qwen2"], options("qwen2")).shares


def test_blocks_that_go_on_wrongly_are_run_from_the_first(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(folders["qwen2"], options("qwen2")).resumes
    real = resuming.last_columns
    monkeypatch.setattr(resuming, "last_columns", lambda *args: real(*args).roll(1, dims=-1))
    loaded = load(folders["qwen2"], options("qwen2"))
    assert (loaded.shares, loaded.resumes) == (True, False)


def test_a_cache_that_keeps_the_wrong_rows_means_one_prompt_at_a_time(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes.Cache, "keep", lambda cache, rows: cache.states.reorder_cache(rows - 1))
    assert load(folders["llama"], options("llama")).batching == "single"


def test_it_is_looked_for_once_per_model_and_settings(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    real = self_check._check

    def counting(loaded: LoadedModel, folder: Path) -> Any:
        runs.append(loaded.dtype)
        return real(loaded, folder)

    monkeypatch.setattr(self_check, "_check", counting)

    def once(**more: Any) -> str:
        return load(folders["qwen2"], options("qwen2", **more), "abc", tmp_path).batching

    assert once() == once() == "padded"
    assert runs == ["float32"]
    once(dtype="bfloat16")
    assert runs == ["float32", "bfloat16"]
    records = sorted(path for path in (tmp_path / "checked").iterdir())
    assert len(records) == 2
    for record in records:
        record.write_text("{")
    assert once() == "padded"
    assert len(runs) == 3, "a damaged record is made again"
    assert "padded" in [json.loads(path.read_text())["batching"] for path in records if path.read_text() != "{"]
