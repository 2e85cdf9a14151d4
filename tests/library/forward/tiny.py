"""Tiny random models of the paper's three architectures and of Gemma 3, saved as ordinary Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from polygate.forward.options import Options

ARCHITECTURES = ("qwen2", "llama", "gemma2", "gemma3")
WORDS = [f"w{i}" for i in range(50)]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SLIDING_WINDOW = 6
"""Shorter than the test prompts, so that Gemma's sliding layers do slide."""


def save_tokenizer(folder: Path) -> int:
    """A word-level tokenizer with a chat template; returns the size of its vocabulary."""
    special = ["<pad>", "<bos>", "<eos>", "<unk>", "<end>", "<user>", "<assistant>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=special[4:],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(vocabulary)


def build_folder(folder: Path, architecture: str, seed: int = 0) -> Path:
    """A random model whose greedy texts vary: large untied weights, three blocks."""
    size = save_tokenizer(folder)
    shape = {
        "vocab_size": size,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "tie_word_embeddings": False,
        "initializer_range": 0.5,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(seed)
    model: torch.nn.Module
    if architecture == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    elif architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        narrow = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": SLIDING_WINDOW}
        if architecture == "gemma2":
            model = Gemma2ForCausalLM(Gemma2Config(**shape, **narrow))
        else:
            # Every sixth block attends to everything: too far for three.
            kinds = ["sliding_attention", "full_attention", "sliding_attention"]
            model = Gemma3ForCausalLM(Gemma3TextConfig(**shape, **narrow, layer_types=kinds))
    model.save_pretrained(folder)
    return folder


SHAPE = {
    "vocab_size": 57,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "head_dim": 8,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 256,
}
"""What most architectures' configurations share."""


def build_any(folder: Path, kind: str, seed: int = 0, **config: Any) -> Path:
    """A random model of any architecture that transformers knows, by its model type."""
    assert save_tokenizer(folder) == SHAPE["vocab_size"]
    torch.manual_seed(seed)
    made = AutoConfig.for_model(kind, **config)
    causal = type(made) in AutoModelForCausalLM._model_mapping
    (AutoModelForCausalLM if causal else AutoModelForImageTextToText).from_config(made).save_pretrained(folder)
    return folder


def options(architecture: str, **more: object) -> Options:
    """Float32, with the attention implementation that the architecture wants."""
    return Options(attention="eager" if architecture == "gemma2" else "sdpa", **more)  # type: ignore[arg-type]
