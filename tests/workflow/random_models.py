"""Small models with random weights and a real tokenizer, in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def random_model(architecture: str, folder: Path, tokenizer: Path, template: str) -> None:
    """Write an untrained model with a real byte-level BPE tokenizer as a Hugging Face folder."""
    import torch
    from transformers import (
        AutoTokenizer,
        Gemma2Config,
        Gemma2ForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    tokens = AutoTokenizer.from_pretrained(tokenizer)
    tokens.chat_template = template
    size = {**SIZE, "vocab_size": len(tokens), "pad_token_id": tokens.pad_token_id, "eos_token_id": tokens.eos_token_id}
    torch.manual_seed(1)
    model = {
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**size)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**size)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**size, head_dim=8, query_pre_attn_scalar=8)),
    }[architecture]()
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)


def random_encoder(folder: Path, tokenizer: Path) -> None:
    """Write an untrained sentence encoder with the same tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokens = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(1)
    size = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokens), **size)).save_pretrained(folder)
    tokens.save_pretrained(folder)
