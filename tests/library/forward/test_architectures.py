"""Whatever a model keeps of the tokens so far, and however it is wrapped: its texts and streams are its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from library.forward.steered import ablated, added, arm, as_completion, single
from library.forward.tiny import SHAPE, WORDS, build_any
from polygate.errors import PolygateError
from polygate.forward.batching import length_sorted
from polygate.forward.capture import capture
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel, load
from polygate.forward.options import Options
from polygate.forward.prefixes import Kept
from polygate.forward.tokenising import tokenise

NEW = 20
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA = {name: value for name, value in SHAPE.items() if not name.startswith(("num_att", "num_key", "inter", "head"))}
SELECTIVE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
CACHES: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {**SHAPE, **LINEAR},
    "lfm2": {**SHAPE, "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
    "granitemoehybrid": {
        **SHAPE,
        **SELECTIVE,
        "layer_types": ["mamba", "attention"] * 2,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "shared_intermediate_size": 16,
    },
    "jamba": {
        **SHAPE,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 2,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "nemotron_h": {
        **SHAPE,
        "hybrid_override_pattern": "M*M-",
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "mamba": {**MAMBA, "state_size": 8},
    "falcon_mamba": {**MAMBA, "state_size": 8},
    "recurrent_gemma": {
        **SHAPE,
        "lru_width": 32,
        "attention_window_size": 6,
        "block_types": ["recurrent", "attention"],
    },
    "minimax": {
        **SHAPE,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "num_local_experts": 2,
        "block_size": 8,
    },
}
"""Key-value caches mixed with convolution and recurrent states, states alone, and caches of a model's own."""
PARALLEL = {
    **SHAPE,
    "intermediate_size": [48] * 4,
    "vocab_size_per_layer_input": 57,
    "hidden_size_per_layer_input": 8,
    "altup_num_inputs": 4,
    "altup_active_idx": 1,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 6,
    "activation_sparsity_pattern": [0.0] * 4,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {
            **SHAPE,
            "sliding_window": 6,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        "vision_config": {**VISION, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
        "tie_word_embeddings": False,
    },
    "mistral3": {
        "text_config": {**SHAPE, "model_type": "mistral"},
        "vision_config": {**VISION, "model_type": "pixtral", "head_dim": 8},
    },
    "llava": {
        "text_config": {**SHAPE, "model_type": "llama"},
        "vision_config": {**VISION, "model_type": "clip_vision_model", "projection_dim": 32},
    },
    "qwen2_5_vl": {
        "text_config": {
            **SHAPE,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
        },
        "vision_config": {
            "depth": 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 14,
            "fullatt_block_indexes": [1],
        },
    },
}
"""Chat models inside a model that also sees: the vision tower has as many blocks as the language model."""


@pytest.fixture(scope="module")
def get(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    """Load a model by its type, once; in batches small enough that there are several."""
    made: dict[str, LoadedModel] = {}
    every = {**CACHES, **WRAPPERS, "gemma3n_text": PARALLEL}

    def load_once(kind: str) -> LoadedModel:
        if kind not in made:
            folder = build_any(tmp_path_factory.mktemp("any") / kind, kind, **every[kind])
            made[kind] = load(folder, Options(attention="eager", batch_tokens=400))
        return made[kind]

    return load_once


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Prompts of seven lengths, two of them many times."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, length)) for length in (3, 11, 1, 5, 7, 5, 5, 2, 5, 3, 5, 3)]


def as_transformers(loaded: LoadedModel, texts: list[str]) -> list[str]:
    """What transformers' own generate writes after each prompt alone."""
    written = []
    for prompt in tokenise(loaded.tokenizer, texts):
        ids = torch.tensor([prompt.input_ids])
        found = loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=sorted(loaded.stop),
            pad_token_id=0,
        )
        written.append(loaded.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))
    return written


@pytest.mark.parametrize("kind", [*CACHES, *WRAPPERS, "gemma3n_text"])
def test_texts_are_those_of_transformers_though_rows_end_at_different_steps(
    get: Callable[[str], LoadedModel], texts: list[str], kind: str
) -> None:
    loaded = dataclasses.replace(get(kind), stop=frozenset(range(0, 57, 6)))
    found = generate(loaded, texts, max_new_tokens=NEW)
    assert [one.text for one in found] == as_transformers(loaded, texts)
    assert len({one.new_tokens for one in found}) > 2, "rows do end at different steps"


@pytest.mark.parametrize("kind", [*CACHES, *WRAPPERS, "gemma3n_text"])
def test_activations_are_those_of_the_prompt_alone(
    get: Callable[[str], LoadedModel], texts: list[str], kind: str
) -> None:
    loaded = get(kind)
    together = capture(loaded, texts)
    alone = capture(dataclasses.replace(loaded, batching="single"), texts)
    for place, expected in alone.tensors.items():
        assert torch.allclose(together.tensors[place], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["qwen3_5_text", "lfm2", "mamba", "minimax", "gemma3", "qwen2_5_vl"])
@pytest.mark.parametrize("action", ["add", "ablate"])
def test_steering_is_that_of_the_slow_twin(
    get: Callable[[str], LoadedModel], texts: list[str], kind: str, action: str
) -> None:
    loaded = get(kind)
    some = texts[:5]
    steering = arm(action, np.random.default_rng(0).normal(size=loaded.width), loaded.layers, 5, alpha=8.0)
    expected = [
        as_completion(loaded, prompt, single(loaded, prompt, steering, row, 8)[0])
        for row, prompt in enumerate(tokenise(loaded.tokenizer, some))
    ]
    assert generate(loaded, some, steering, max_new_tokens=8) == expected
    assert generate(loaded, some, max_new_tokens=8) != expected, "steering does something"


@pytest.mark.parametrize("kind", [*CACHES, *WRAPPERS, "gemma3n_text"])
def test_what_acts_from_a_block_on_gives_the_text_of_all_blocks(
    get: Callable[[str], LoadedModel], texts: list[str], kind: str
) -> None:
    """Whether upper blocks may go on from what the lower ones left, or are found at loading to need them."""
    loaded, kept, layer = get(kind), Kept(), get(kind).layers // 2
    names, vector = tuple(map(str, range(len(texts)))), np.random.default_rng(0).normal(size=loaded.width)
    ablation = Intervention(names, (ablated(vector, [1.0] * len(texts), [layer]),))
    expected = generate(dataclasses.replace(loaded, shares=False), texts, ablation, max_new_tokens=8)
    kept.wanted.add(layer)
    generate(loaded, texts, max_new_tokens=1, kept=kept)
    assert generate(loaded, texts, ablation, max_new_tokens=8, kept=kept) == expected


def test_padding_and_rows_are_shared_only_where_that_is_exact(get: Callable[[str], LoadedModel]) -> None:
    """RecurrentGemma's states see padding and can't let go of a row; MiniMax's blocks see padding."""
    assert {get(kind).batching for kind in ("recurrent_gemma", "minimax")} == {"single"}
    assert {get(kind).batching for kind in ("qwen3_5_text", "mamba", "gemma3")} == {"padded"}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_blocks_and_end_of_text_are_the_language_models(get: Callable[[str], LoadedModel], kind: str) -> None:
    loaded = get(kind)
    language = loaded.model.get_decoder()
    assert list(loaded.blocks) == list(language.layers)
    assert 2 in loaded.stop, "text_config names it"


def test_of_several_streams_the_active_one_is_read_and_changed(
    get: Callable[[str], LoadedModel], texts: list[str]
) -> None:
    loaded = get("gemma3n_text")
    prompt = tokenise(loaded.tokenizer, texts[:1])[0]
    unit, seen = torch.zeros(loaded.width), {}
    unit[3] = 1.0

    def change(_module: object, _args: object, streams: torch.Tensor) -> torch.Tensor:
        assert streams.shape[0] == PARALLEL["altup_num_inputs"]
        seen["before"] = streams[1, 0, -1].clone()
        changed = streams.clone()
        changed[1, :, -1] += 9.0 * unit
        return changed

    handle = loaded.blocks[2].register_forward_hook(change)
    try:
        with torch.inference_mode():
            expected = int(loaded.model(torch.tensor([prompt.input_ids])).logits[0, -1].argmax())
    finally:
        handle.remove()
    found = capture(loaded, texts[:1]).tensors[2, "t_post_inst"][0]
    assert torch.allclose(found, seen["before"], rtol=1e-4, atol=1e-5)
    steering = Intervention(("0",), (added(unit.numpy(), [9.0], 2),))
    (steered,) = generate(loaded, texts[:1], steering, max_new_tokens=1)
    assert steered.text == loaded.tokenizer.decode([expected], skip_special_tokens=True)


def test_what_does_not_continue_a_text_is_refused(tmp_path: Path) -> None:
    rwkv = {**MAMBA, "attention_hidden_size": 32}
    folder = build_any(tmp_path / "rwkv", "rwkv", **rwkv)
    with pytest.raises(PolygateError, match=r"RwkvForCausalLM takes no cache.*: use another model"):
        load(folder, Options(attention="eager"))
    config = folder / "config.json"
    config.write_text('{"model_type": "t5", "num_layers": 2}')
    with pytest.raises(PolygateError, match=r"a t5 is no decoder that continues a text, in .*: take a chat model"):
        load(folder, Options())


def test_batches_hold_what_may_share_them() -> None:
    lengths = [5, 3, 5, 2, 3, 5]
    assert length_sorted(lengths, 100) == [[0, 2, 5, 1, 4, 3]]
    assert length_sorted(lengths, 100, batching="equal") == [[0, 2, 5], [1, 4], [3]]
    assert length_sorted(lengths, 10, batching="equal") == [[0, 2], [5], [1, 4], [3]]
    assert length_sorted(lengths, 100, batching="single") == [[0], [2], [5], [1], [4], [3]]
