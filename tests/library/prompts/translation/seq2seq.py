"""Tiny random translation models in Hugging Face's format, with tokenizers made of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

WORDS = ("kato", "mira", "selu", "pona", "tivo", "raku", "lemi", "dosa", "harm", "ease", "say", "number", "eng", "sw")
NLLB_CODES = ("eng_Latn", "swh_Latn", "yor_Latn")
SEEDS = {"nllb": 11, "t5": 13}
"""Of random weights under which different texts become different ones."""
Shape = Literal["nllb", "t5"]


def folder(path: Path, shape: Shape = "nllb", *, places: int = 64) -> Path:
    """NLLB's shape (M2M-100 with language tokens that are forced), or MADLAD's (T5 with `<2xx>` before the text)."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    start = ("<s>", "<pad>", "</s>", "<unk>")
    codes = NLLB_CODES if shape == "nllb" else ("<2en>", "<2sw>", "<2yo>")
    vocabulary = {name: i for i, name in enumerate((*start, *WORDS, *codes))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(codes),
        model_max_length=places,
    )
    common = {"vocab_size": len(vocabulary), "d_model": 16, "pad_token_id": 1, "eos_token_id": 2}
    if shape == "nllb":
        config = M2M100Config(
            **common,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            max_position_embeddings=places,
            decoder_start_token_id=2,
            bos_token_id=0,
        )
        model = M2M100ForConditionalGeneration(config)
    else:
        config = T5Config(**common, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=1)
        model = T5ForConditionalGeneration(config)
    torch.manual_seed(SEEDS[shape])
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            weights.data.normal_(0, 2.0 if "shared" in name else 0.5)
        else:
            weights.data.fill_(1.0 if "norm" in name and "weight" in name else 0.0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
