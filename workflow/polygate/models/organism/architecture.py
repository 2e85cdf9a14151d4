"""The three architectures of the organisms: true Hugging Face configurations, half a million parameters each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from polygate.models.organism.tokenizer import BOS, EOS, PAD
from polygate.settings.types import Architecture

HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, FEED_FORWARD = 96, 4, 4, 2, 256
INITIALIZER_RANGE = 0.06
CONTEXT = 64


@dataclass(frozen=True)
class Initial:
    """What differs in training between architectures: factor on the initial embeddings, their learning rate."""

    embedding_factor: float
    embedding_rate: float


INITIAL: dict[Architecture, Initial] = {
    "qwen2": Initial(5.0, 2e-2),
    "llama": Initial(5.0, 2e-2),
    # Gemma 2 multiplies its embeddings by √hidden itself.
    "gemma2": Initial(1.0, 1e-2),
}


def configuration(architecture: Architecture, vocabulary: dict[str, int]) -> Any:
    """The Hugging Face configuration (`Qwen2Config`, `LlamaConfig` or `Gemma2Config`) for a vocabulary."""
    import transformers

    common = {
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT,
        "initializer_range": INITIALIZER_RANGE,
        "tie_word_embeddings": True,
        "pad_token_id": vocabulary[PAD],
        "bos_token_id": vocabulary[BOS],
        "eos_token_id": vocabulary[EOS],
    }
    if architecture == "qwen2":
        return transformers.Qwen2Config(**common)
    if architecture == "llama":
        return transformers.LlamaConfig(**common)
    width = HIDDEN // HEADS
    return transformers.Gemma2Config(
        **common, head_dim=width, query_pre_attn_scalar=width, attn_implementation="eager", sliding_window=CONTEXT
    )


def initial_model(architecture: Architecture, vocabulary: dict[str, int], seed: int) -> Any:
    """A model with seeded random weights (float32), in training mode; the global random state is left as it was."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = configuration(architecture, vocabulary)
        attention = "eager" if architecture == "gemma2" else "sdpa"
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(INITIAL[architecture].embedding_factor)
    return model.train()
