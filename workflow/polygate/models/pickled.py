"""Weights that are published as pickles (pytorch_model.bin), rewritten as safetensors; nothing in them is run.

Some models of note have no others on the hub: NLLB, M2M-100, mBART-50. torch reads them with `weights_only`, which
makes tensors and refuses whatever else a pickle may ask for (pickle itself calls any function that it names). What is
written holds each tensor once, under the first of its names, since safetensors takes no two that share memory;
transformers ties the others to it again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import files
from polygate.errors import PolygateError

if TYPE_CHECKING:
    from torch import Tensor

PATTERNS = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
"""One file, or shards of it: what is to be fetched where a model has no safetensors."""
_INDEX = "model.safetensors.index.json"


def found(folder: Path) -> list[Path]:
    """A folder's files of pickled weights, in order of their shards."""
    return sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})


def convert(pickles: Sequence[Path], output: Path) -> None:
    """Write the weights of `pickles` into the folder `output`, a safetensors file each, and their index if several.

    Raises `PolygateError` for a file that is damaged, or that holds anything but tensors by name.
    """
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    size = 0
    for path in pickles:
        weights = _once(_read(path))
        name = path.with_suffix(".safetensors").name.replace("pytorch_model", "model")
        save_file(weights, output / name, metadata={"format": "pt"})
        places |= dict.fromkeys(weights, name)
        size += sum(weight.nbytes for weight in weights.values())
    if len(pickles) > 1:
        files.write_json(output / _INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def _read(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        try:
            # Shards are as large as memory, some of them.
            weights: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError) as error:
            if "mmap" not in str(error):
                raise
            weights = torch.load(path, map_location="cpu", weights_only=True)  # As torch wrote them before 2020.
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:120]
        raise PolygateError(
            f"weights that are no plain tensors, or damaged ({reason})", where=path.name, do="choose another model"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise PolygateError("weights that are no tensors by name", where=path.name, do="choose another model")
    return weights


def _once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor of a file under the first of its names, in memory of its own."""
    kept, seen = {}, set[Hashable]()
    for name, weight in weights.items():
        place = (weight.untyped_storage().data_ptr(), weight.storage_offset(), weight.shape, weight.stride())
        if weight.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = weight.contiguous().clone()
    return kept
