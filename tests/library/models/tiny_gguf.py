"""Tiny random models written as GGUF files, the way llama.cpp's exporter does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType
from gguf.quants import quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

BLOCKS, WIDTH, HEADS, KEY_HEADS, HEAD, INNER = 3, 64, 4, 2, 16, 96
SLIDING_WINDOW = 6
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = [
    "How do I bake a small cake?",
    "  two  spaces, a tab\tand 12.5 %\n\nof the rest",
    "Ẹ̀kọ́ 家 ก็ดี",
    "a",
    "the whole house and the other one, the house and the one there, a longer text than the window",
]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
AFTER_ATTENTION = {"llama": "ffn_norm", "gemma3": "post_attention_norm"}
"""What the file calls `post_attention_layernorm`, the norm before Llama's and after Gemma's two halves."""

Change = Callable[[GGUFWriter], None]


def write(
    path: Path, architecture: str, quantisation: str = "F32", leave_out: str = "", change: Change | None = None
) -> torch.nn.Module:
    """Write a random `llama` (byte-level BPE) or `gemma3` (SentencePiece); return the model that was written.

    Matrices are stored as `quantisation`, norms in float32; the tensor `leave_out` is not written, and `change` may
    add to the file.
    """
    writer = GGUFWriter(path, architecture)
    size = write_byte_level(writer) if architecture == "llama" else write_sentencepiece(writer)
    model = random_model(architecture, size)
    writer.add_name("tiny")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(size)
    if architecture == "llama":
        writer.add_rope_dimension_count(HEAD)
    else:
        writer.add_key_length(HEAD)
        writer.add_value_length(HEAD)
        writer.add_sliding_window(SLIDING_WINDOW)
    kind = GGMLQuantizationType[quantisation]
    for name, weight in model.state_dict().items():
        stored = name_in_file(name, architecture)
        if stored and stored != leave_out:
            values = as_exported(weight.numpy(), name, architecture)
            as_kind = kind if values.ndim == 2 else GGMLQuantizationType.F32
            writer.add_tensor(stored, quantize(values, as_kind), raw_dtype=as_kind)
    if change is not None:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def random_model(architecture: str, size: int) -> torch.nn.Module:
    """Three blocks with large random weights; Gemma's embeddings are tied, as in every Gemma."""
    shape = {
        "vocab_size": size,
        "hidden_size": WIDTH,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD,
        "intermediate_size": INNER,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
    }
    torch.manual_seed(3)
    model: torch.nn.Module
    if architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False))
    else:
        rope = {
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
        model = Gemma3ForCausalLM(Gemma3TextConfig(**shape, sliding_window=SLIDING_WINDOW, rope_parameters=rope))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def name_in_file(name: str, architecture: str) -> str:
    """llama.cpp's name of a weight, "" for a tied head."""
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    if name == "lm_head.weight":
        return "output.weight" if architecture == "llama" else ""
    _, _, block, rest = name.split(".", 3)
    part = rest.removesuffix(".weight")
    return f"blk.{block}.{NAMES.get(part, AFTER_ATTENTION[architecture])}.weight"


def as_exported(values: np.ndarray, name: str, architecture: str) -> np.ndarray:
    """Llama's queries and keys with their rotary halves interleaved, Gemma's norms with the 1 that it adds to them."""
    if architecture == "gemma3":
        return values + 1 if "norm" in name else values
    heads = HEADS if "q_proj" in name else KEY_HEADS if "k_proj" in name else 0
    if not heads:
        return values
    split = values.reshape(heads, 2, HEAD // 2, values.shape[1])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def write_byte_level(writer: GGUFWriter) -> int:
    """A byte-level BPE of 300 tokens with a chat template; returns its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    content = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(content["vocab"], key=content["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in content["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def write_sentencepiece(writer: GGUFWriter) -> int:
    """A SentencePiece vocabulary with byte fallback, as Gemma's, without template; returns its size."""
    control = ["<pad>", "<eos>", "<bos>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    letters = ["\n", "▁", *"abcdefghijklmnopqrstuvwxyzH.,?%0123456789"]
    joined = ["th", "he", "the", "▁the", "us", "er", "user", "ho", "me", "home", "▁home"]
    kinds = {
        **dict.fromkeys(control, TokenType.CONTROL),
        "<unk>": TokenType.UNKNOWN,
        **{f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)},
        **dict.fromkeys([*joined, *letters], TokenType.NORMAL),
    }
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(list(kinds))
    writer.add_token_scores([-float(rank) for rank in range(len(kinds))])
    writer.add_token_types(list(kinds.values()))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(list(kinds).index("<unk>"))
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    return len(kinds)


def add_rope_scaling(writer: GGUFWriter) -> None:
    """What the exporter writes for a model with linearly scaled positions."""
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)
