"""An exported control vector does in llama.cpp what its gate's steering does here, at every token."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from numpy.typing import NDArray

from conftest import require
from library.commands.test_export import made
from library.models.tiny_gguf import BLOCKS, WIDTH, write
from polygate.decision import export
from polygate.forward.edits import edits
from polygate.forward.hooks import attached
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel, load
from polygate.forward.options import Options
from polygate.models.gguf import convert

IDS = [7, 30, 41, 52, 63, 74, 85]
"""Tokens of a prompt; any will do."""


def vector(path: Path) -> NDArray[np.float32]:
    """The file as llama.cpp's loader hands it to the model: direction.1 first, float32 [blocks - 1, d]."""
    found = np.zeros((BLOCKS - 1, WIDTH), np.float32)
    for tensor in GGUFReader(path).tensors:
        prefix, _, number = tensor.name.partition(".")
        assert prefix == "direction"
        found[int(number) - 1] += tensor.data
    return found


def in_llama_cpp(path: Path, directions: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Logits of IDS, float32 [tokens, vocabulary]."""
    import llama_cpp

    @llama_cpp.llama_log_callback
    def silent(*_: Any) -> None:
        """Nothing."""

    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 64
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(IDS), 0, 1)
    try:
        if directions is not None:
            pointer = directions.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            assert llama_cpp.llama_set_adapter_cvec(context, pointer, directions.size, WIDTH, 1, BLOCKS) == 0
        batch.n_tokens = len(IDS)
        for place, token in enumerate(IDS):
            batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(IDS), size)).copy()
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@torch.inference_mode()
def here(loaded: LoadedModel, layer: int, added: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The same of our own forward path, `added` to every token after the block."""
    parts = () if added is None else (Part((layer,), added[None], "add", "every", np.ones(1)),)
    with attached(loaded.base, loaded.blocks, edits(Intervention(("0",), parts)), len(IDS)):
        logits: NDArray[np.float32] = loaded.model(input_ids=torch.tensor([IDS])).logits[0].numpy()
    return logits


def test_llama_cpp_applies_direction_n_after_block_n_as_the_gate_does(tmp_path: Path) -> None:
    require(find_spec("llama_cpp") is not None, "llama-cpp-python is not installed", installable=False)
    path = tmp_path / "tiny.gguf"
    write(path, "llama")
    convert(path, tmp_path / "tiny")
    loaded = load(tmp_path / "tiny", Options(attention="eager"))
    unsteered = in_llama_cpp(path, None)
    np.testing.assert_allclose(unsteered, here(loaded, 0, None), atol=1e-3 * np.abs(unsteered).max())
    for layer in range(1, BLOCKS):
        v = np.random.default_rng(layer).normal(size=WIDTH)
        gate = made(v=(v / np.linalg.norm(v)).astype(np.float32), layer=layer)
        export.to_gguf(gate, tmp_path / "vector")
        found = in_llama_cpp(path, vector(tmp_path / "vector" / export.VECTOR))
        apart = [float(np.abs(found - here(loaded, at, export.steering(gate))).max()) for at in range(BLOCKS)]
        effect = float(np.abs(found - unsteered).max())
        assert apart[layer] < 1e-3 * effect, apart
        assert min(apart[:layer] + apart[layer + 1 :]) > 0.1 * effect, apart


def test_the_file_that_llama_cpp_reads_names_the_gates_block(tmp_path: Path) -> None:
    """Its loader takes direction.N for block N, 0-based, and has none for block 0: this needs no llama.cpp to hold."""
    for layer in range(1, BLOCKS):
        v = np.random.default_rng(layer).normal(size=WIDTH)
        gate = made(v=(v / np.linalg.norm(v)).astype(np.float32), layer=layer)
        export.to_gguf(gate, tmp_path / "vector")
        (tensor,) = GGUFReader(tmp_path / "vector" / export.VECTOR).tensors
        assert tensor.name == f"direction.{layer}"
        assert tensor.tensor_type.name == "F32"
        assert tensor.shape.tolist() == [WIDTH]
        np.testing.assert_array_equal(tensor.data, export.steering(gate))
