"""Sweeps: every point is exactly its edit, on its own prompts, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from library.forward.steered import hook_output
from polygate.errors import PolygateError
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise
from polygate.steering import sweeps
from polygate.steering.sweeps import Point

TEXTS = {"harmful-test-0000": "w1 w2 w3", "harmful-test-0001": "w9 w4", "harmful-val-0000": "w7 w8 w9 w1 w5"}
ASKED = {"layer": ["harmful-test-0000", "harmful-test-0001"], "strength": ["harmful-val-0000"]}
TOKENS, GAP = 6, 12.0


def vectors(loaded: LoadedModel) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    found = {}
    for name in sweeps.DIRECTIONS:
        drawn = random.normal(size=(loaded.layers, loaded.width))
        found[name] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return found


def twin(loaded: LoadedModel, text: str, point: Point, given: dict[str, np.ndarray]) -> list[int]:
    """The definition, token by token without cache: ablate at every block, or add at one from the last token on."""
    (prompt,) = tokenise(loaded.tokenizer, [text])
    u = torch.tensor(given[point.direction][point.layer], dtype=torch.float64)
    u = u / u.norm() if point.kind == "layer" else u

    def hook(layer: int) -> Callable[..., torch.Tensor]:
        def change(_module: object, _args: object, hidden: torch.Tensor) -> torch.Tensor:
            wide = hidden.double()
            if point.kind == "layer":
                wide = wide - (wide @ u)[..., None] * u
            elif layer == point.layer:
                wide[:, len(prompt) - 1 :] += point.strength * GAP * u
            return wide.to(hidden.dtype)

        return hook_output(change)

    ids = list(prompt.input_ids)
    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(loaded.blocks)]
    try:
        for _ in range(TOKENS):
            with torch.inference_mode():
                ids.append(int(loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] in loaded.stop:
                break
    finally:
        for handle in handles:
            handle.remove()
    return ids[len(prompt) :]


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2"])
def test_every_point_has_the_text_of_its_definition(
    loaded_model: Callable[[str], LoadedModel], architecture: str
) -> None:
    loaded = loaded_model(architecture)
    given = vectors(loaded)
    points = sweeps.layer_points(loaded.layers) + sweeps.strength_points(1, [0.0, 1.0, 2.5])
    swept = sweeps.intervention(ASKED, points, given, GAP)  # type: ignore[arg-type]
    assert len(swept) == 2 * 2 * loaded.layers + 3
    prompts = [TEXTS[name.partition("@")[0]] for name in swept.prompt_ids]
    written = generate(loaded, prompts, swept, max_new_tokens=TOKENS, names=swept.prompt_ids)
    texts = set()
    for name, text, found in zip(swept.prompt_ids, prompts, written, strict=True):
        tokens = twin(loaded, text, Point.of(name.partition("@")[2]), given)
        assert found.text == loaded.tokenizer.decode(tokens, skip_special_tokens=True)
        texts.add((text, found.text))
    assert len(texts) > len(TEXTS) + 3


def test_a_sweep_read_back_is_the_same_and_small(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    wide = {name: random.normal(size=(40, 512)).astype(np.float32) for name in sweeps.DIRECTIONS}
    swept = sweeps.intervention(ASKED, sweeps.layer_points(40), wide, GAP)  # type: ignore[arg-type]
    swept.save(tmp_path / "sweep.safetensors", {})
    again = Intervention.load(tmp_path / "sweep.safetensors")
    assert again.digest() == swept.digest()
    assert again.is_swept
    assert again.prompt_ids == swept.prompt_ids
    # One row a part stands for its forty layers.
    assert (tmp_path / "sweep.safetensors").stat().st_size < 80 * (4 * 512 + 8 * len(swept)) + 100_000


def test_points_are_named_and_read_back() -> None:
    for point in [*sweeps.layer_points(2), *sweeps.strength_points(3, [0, 0.25])]:
        assert Point.of(point.name) == point
    for name in ("", "layer:v_en:1", "layer:v_xx:1:0.0", "other:v_en:1:0.0", "layer:v_en:one:0.0"):
        with pytest.raises(PolygateError, match="is no point of a sweep"):
            Point.of(name)
