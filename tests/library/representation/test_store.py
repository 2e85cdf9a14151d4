"""What is read from an activation store is what was captured, or one line that says why not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from library.flipping import flipped
from polygate.errors import PolygateError
from polygate.files import read_provenance
from polygate.representation.store import ActivationStore, tensor_name, write_store

IDS = ["harmful-train-0000", "harmless-train-0000", "harmful-val-0001"]
POSITIONS = ("t_inst", "t_post_inst")


def tensors(dtype: torch.dtype = torch.float32) -> dict[tuple[int, str], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        (layer, name): (torch.randn(3, 5, generator=generator) * 100).to(dtype)
        for layer in range(2)
        for name in POSITIONS
    }


def written(path: Path, dtype: torch.dtype = torch.float32) -> ActivationStore:
    write_store(path, tensors(dtype), IDS, [4, 7, 1], "yo", {"who": "test"})
    return ActivationStore.open(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_comes_back_as_float32_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    store = written(tmp_path / "yo.safetensors", dtype)
    for (layer, position), tensor in tensors(dtype).items():
        found = store.read(layer, position)
        assert found.dtype == np.float32
        assert np.array_equal(found, tensor.float().numpy())
        assert np.array_equal(store.read(layer, position, [2, 0]), tensor.float().numpy()[[2, 0]])
        assert np.array_equal(store.read(layer, position, np.array([], dtype=int)), np.zeros((0, 5)))


def test_special_bfloat16_values(tmp_path: Path) -> None:
    values = torch.tensor([[0.0, -0.0, float("inf"), 1e-40, 3.3895e38]], dtype=torch.bfloat16)
    write_store(tmp_path / "s.safetensors", {(0, "t_inst"): values}, ["a"], [1], "yo")
    found = ActivationStore.open(tmp_path / "s.safetensors").read(0, "t_inst")
    assert found.tobytes() == values.float().numpy().tobytes()


def test_what_the_store_says_of_itself(tmp_path: Path) -> None:
    store = written(tmp_path / "yo.safetensors", torch.bfloat16)
    assert (store.prompt_ids, store.positions, store.layers, store.width) == (tuple(IDS), POSITIONS, 2, 5)
    assert (store.language, store.dtype, len(store)) == ("yo", "BF16", 3)
    assert store.token_count.tolist() == [4, 7, 1]
    assert store.tensor_name(1, "t_inst") == tensor_name(1, "t_inst") == "layer.01.t_inst"
    assert read_provenance(store.path) == {"who": "test"}


def test_other_tools_read_it_as_safetensors(tmp_path: Path) -> None:
    store = written(tmp_path / "yo.safetensors", torch.bfloat16)
    found = load_file(store.path)
    assert torch.equal(found["layer.00.t_post_inst"], tensors(torch.bfloat16)[0, "t_post_inst"])


def test_the_same_activations_are_the_same_bytes(tmp_path: Path) -> None:
    """From torch or numpy, and each time: safetensors itself writes metadata in random order."""
    arrays = {key: value.numpy() for key, value in tensors().items()}
    for i in range(8):
        write_store(tmp_path / f"{i}", tensors() if i % 2 else arrays, IDS, [4, 7, 1], "yọ", {"b": "ẹ", "a": 1})
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(8)}) == 1
    assert np.array_equal(ActivationStore.open(tmp_path / "0").read(1, "t_inst"), arrays[1, "t_inst"])


@pytest.mark.parametrize("left", [0, 5, 8, 40, -1, -60])
def test_a_truncated_store_is_one_line(tmp_path: Path, left: int) -> None:
    path = tmp_path / "yo.safetensors"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: left % len(whole)])
    with pytest.raises(PolygateError, match=r"truncated.*delete the file and rerun"):
        ActivationStore.open(path)


@pytest.mark.parametrize("content", [b"<html>" * 40, b"\x10\0\0\0\0\0\0\0" + b"not json at all!", b""])
def test_a_foreign_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "yo.safetensors"
    path.write_bytes(content)
    with pytest.raises(PolygateError, match="safetensors file"):
        ActivationStore.open(path)


def test_another_safetensors_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "yo.safetensors"
    save_file({"layer.00.t_inst": np.zeros((3, 5), np.float32)}, path)
    with pytest.raises(PolygateError, match="not an activation store"):
        ActivationStore.open(path)
    with pytest.raises(PolygateError, match="not found"):
        ActivationStore.open(tmp_path / "nowhere")


def test_what_is_not_stored_is_named(tmp_path: Path) -> None:
    store = written(tmp_path / "yo.safetensors")
    with pytest.raises(PolygateError, match=r"no activations of layer 2 at t_inst.*layers 0 to 1 at t_inst, t_post"):
        store.read(2, "t_inst")


def test_activations_of_other_prompts_are_refused(tmp_path: Path) -> None:
    store = written(tmp_path / "yo.safetensors")
    store.check_matches(IDS)
    with pytest.raises(PolygateError, match=r"row 1 holds activations of harmless-train-0000, .* harmful-val-0001"):
        store.check_matches([IDS[0], IDS[2], IDS[1]])
    with pytest.raises(PolygateError, match=r"of 3 prompts, but the prompt table has 2"):
        store.check_matches(IDS[:2])


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "yo.safetensors"
    with pytest.raises(ValueError, match="2 ids"):
        write_store(path, tensors(), IDS[:2], [4, 7, 1], "yo")
    with pytest.raises(ValueError, match="every layer"):
        write_store(path, {(1, "t_inst"): torch.zeros(3, 5)}, IDS, [4, 7, 1], "yo")
    assert not path.exists()


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    store = written(tmp_path / "yo.safetensors", torch.bfloat16)
    code = (
        "import sys; from polygate.representation.store import ActivationStore;"
        f"print(ActivationStore.open({str(store.path)!r}).read(1, 't_inst').sum(), 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, imported = result.stdout.split()
    assert float(total) == pytest.approx(float(tensors(torch.bfloat16)[1, "t_inst"].float().sum()), rel=1e-5)
    assert imported == "False"


def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    """Numbers, header, ids and counts, by reading or by what gives a kernel the name of a tensor to map."""
    path = tmp_path / "yo.safetensors"
    written(path, torch.bfloat16)
    whole = path.read_bytes()
    for _, content in flipped(whole):
        path.write_bytes(content)
        with pytest.raises(PolygateError, match=r"yo\.safetensors: delete the file and rerun"):
            ActivationStore.open(path).check_whole()


def test_a_damaged_tensor_reaches_neither_reader_nor_kernel(tmp_path: Path) -> None:
    path = tmp_path / "yo.safetensors"
    store = written(path)
    content = bytearray(path.read_bytes())
    content[-70] ^= 1  # within the last float tensor, before the twelve bytes of the counts or after
    path.write_bytes(content)
    names = [(layer, position) for layer in range(2) for position in POSITIONS]

    def damaged(ask: Callable[[int, str], object]) -> list[str]:
        found = []
        for layer, position in names:
            try:
                ask(layer, position)
            except PolygateError as error:
                found.append(str(error))
        return found

    reopened = ActivationStore.open(path)
    (line,) = damaged(reopened.tensor_name)
    assert re.fullmatch(r"the file is damaged \(tensor layer\.\d\d\.t_\w+\), in .*: delete the file and rerun", line)
    assert damaged(reopened.read) == [line]
    assert damaged(store.read) == [line], "what was checked before the file changed is checked again"
