"""A sentence encoder for tests: deterministic, tiny, knows the words of a text whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WIDTH = 24
FACTS = {"encoder": "a/b", "prefix": ""}
"""What its embeddings say of it."""
WORDS = ("kato", "mira", "selu", "pona", "tivo", "raku", "lemi", "dosa", "harm", "ease", ".")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """The mean of a random vector per word, of unit length, float32 [n, WIDTH]."""
    vectors = np.stack(
        [np.mean([np.random.default_rng(crc32(w.encode())).normal(size=WIDTH) for w in t.split()], 0) for t in texts]
    )
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def folder(path: Path) -> Path:
    """The same kind of thing in Hugging Face's format: an untrained BERT of two small layers, a word tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {name: i for i, name in enumerate(("[PAD]", "[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
    )
    BertModel(config).save_pretrained(path)
    tokens.save_pretrained(path)
    return path
