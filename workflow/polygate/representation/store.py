"""The activation store: the residual stream of every prompt of one language, in one safetensors file.

One tensor per layer and token position, `layer.{l:02d}.{position}`, shape [n, d], in the model's dtype, rows in
the order of the prompt table; layer l is the output of decoder block l, before any final norm. `token_count`,
int32 [n], is the length of the instruction alone. Metadata: `prompt_ids` (JSON list), `positions` (JSON list),
`layers`, `width`, `language`, `model` and `prompts` (see `polygate.identity`), the digest of every tensor and of the
header, and the provenance.

A tensor is checked against its digest when it is first asked for, once a file and process; the kernels for means and
projections, which read it whole, compare it on the way (reading it twice would cost them up to half as much again).
Stores are replaced, never written in place: a process that has one mapped would be killed (SIGBUS) if it were
shortened.

Reading needs numpy only: bfloat16 is the upper half of a float32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polygate import digests, files
from polygate.errors import PolygateError

if TYPE_CHECKING:
    import torch

TOKEN_COUNT = "token_count"
_REDO = digests.REDO
_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_BYTES: dict[str, np.dtype[Any]] = {**_STORED, "I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
_LARGEST_HEADER = 100_000_000


def tensor_name(layer: int, position: str) -> str:
    """Name of the tensor of a decoder block (0-based) and a token position, e.g. `layer.07.t_post_inst`."""
    return f"layer.{layer:02d}.{position}"


def write_store(
    path: str | Path,
    tensors: Mapping[tuple[int, str], torch.Tensor | NDArray[Any]],
    prompt_ids: Sequence[str],
    token_count: Sequence[int] | NDArray[np.integer[Any]],
    language: str,
    provenance: Mapping[str, Any] | None = None,
    of: Mapping[str, object] | None = None,
) -> None:
    """Write an activation store, atomically; `of` says what else it is of than its language.

    `tensors` maps (layer, position) to [n, d] arrays, all numpy or all torch (torch for bfloat16), for layers
    0 … L-1 and the same positions in each; `token_count` is [n]. ValueError when shapes or names don't fit.
    """
    layers = sorted({layer for layer, _ in tensors})
    positions = list(dict.fromkeys(position for _, position in tensors))
    if not tensors or layers != list(range(len(layers))) or len(tensors) != len(layers) * len(positions):
        raise ValueError("a store needs every layer from 0 on, with the same positions in each")
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    rows, width = next(iter(shapes))
    if len(shapes) != 1 or rows != len(prompt_ids) or rows != len(token_count):
        raise ValueError(f"shapes {sorted(shapes)} for {len(prompt_ids)} ids and {len(token_count)} token counts")
    metadata = {
        "prompt_ids": json.dumps(list(prompt_ids)),
        "positions": json.dumps(positions),
        "layers": str(len(layers)),
        "width": str(width),
        "language": language,
        **{key: str(value) for key, value in (of or {}).items()},
    }
    counts = np.asarray(token_count, dtype=np.int32)
    named: dict[str, Any] = {
        tensor_name(layer, position): tensors[layer, position] for layer in layers for position in positions
    }
    if provenance is not None:
        metadata[files.PROVENANCE] = json.dumps(provenance, sort_keys=True)
    metadata.update(digests.placeholders([*named, TOKEN_COUNT]))
    with files.atomic_path(path) as temporary, files.disk_errors():
        if isinstance(next(iter(named.values())), np.ndarray):
            from safetensors.numpy import save_file

            dense = {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}
            save_file({**dense, TOKEN_COUNT: counts}, temporary, metadata)
        else:
            import torch
            from safetensors.torch import save_file as save_torch

            whole = {name: tensor.detach().to("cpu").contiguous() for name, tensor in named.items()}
            save_torch({**whole, TOKEN_COUNT: torch.from_numpy(counts)}, temporary, metadata)
        digests.seal(temporary)


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    offset: int
    digest: str = ""

    @property
    def length(self) -> int:
        """Bytes."""
        return _BYTES[self.dtype].itemsize * int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True)
class ActivationStore:
    """An open activation store; tensors are read when asked for.

    `layers` is the number of decoder blocks L (stored are 0 … L-1), `width` is d, `token_count` is int32 [n],
    `dtype` one of F32, BF16, F16, F64; `metadata` all that the file says of itself.
    """

    path: Path
    prompt_ids: tuple[str, ...]
    positions: tuple[str, ...]
    layers: int
    width: int
    language: str
    dtype: str
    token_count: NDArray[np.int32]
    metadata: Mapping[str, str]
    _entries: Mapping[str, _Entry]

    @classmethod
    def open(cls, path: str | Path) -> ActivationStore:
        """Open and check the header against the file; `PolygateError` when absent, damaged or foreign."""
        path = Path(path)
        raw, entries, metadata = _header(path)
        expected = digests.check_header(path, raw, metadata) if digests.WHOLE in metadata else None
        try:
            prompt_ids = tuple(json.loads(metadata["prompt_ids"]))
            positions = tuple(json.loads(metadata["positions"]))
            layers, width, language = int(metadata["layers"]), int(metadata["width"]), metadata["language"]
            names = [tensor_name(layer, position) for layer in range(layers) for position in positions]
            dtype = entries[names[0]].dtype
            shape = (len(prompt_ids), width)
            fits = all(entries[name].shape == shape and entries[name].dtype == dtype for name in names)
            fits = fits and dtype in _STORED and entries[TOKEN_COUNT].shape == shape[:1]
            fits = fits and entries[TOKEN_COUNT].dtype == "I32"
        except (KeyError, IndexError, ValueError, TypeError):
            fits = False
        if not fits:
            raise PolygateError("not an activation store of polygate", where=path, do=_REDO)
        if expected is None:
            expected = digests.check_header(path, raw, metadata)
        entries = {name: replace(entry, digest=expected.get(name, "")) for name, entry in entries.items()}
        _check(path, TOKEN_COUNT, entries[TOKEN_COUNT])
        counts = np.array(_array(path, entries[TOKEN_COUNT]))
        return cls(path, prompt_ids, positions, layers, width, language, dtype, counts, metadata, entries)

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def tensor_name(self, layer: int, position: str) -> str:
        """Name of a stored tensor, checked; `PolygateError` when the store lacks it or it is damaged."""
        name = self.kernels_name(layer, position)
        _check(self.path, name, self._entries[name])
        return name

    def kernels_name(self, layer: int, position: str) -> str:
        """Name of a tensor for the kernels that read all of it and compare the digest while they do.

        `PolygateError` when the store lacks it.
        """
        name = tensor_name(layer, position)
        if name not in self._entries:
            raise PolygateError(
                f"no activations of layer {layer} at {position}",
                where=self.path,
                do=f"there are layers 0 to {self.layers - 1} at {', '.join(self.positions)}",
            )
        return name

    def check_whole(self) -> None:
        """`PolygateError` when any tensor is damaged."""
        for name, entry in self._entries.items():
            _check(self.path, name, entry)

    def read(self, layer: int, position: str, rows: NDArray[Any] | Sequence[int] | None = None) -> NDArray[np.float32]:
        """Activations, float32 [n, d] (or [len(rows), d], in the order of `rows`), a copy."""
        entry = self._entries[self.tensor_name(layer, position)]
        stored = _array(self.path, entry)
        if rows is not None:
            stored = stored[np.asarray(rows)]
        if entry.dtype == "BF16":
            return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return np.array(stored, dtype=np.float32)

    def check_finite(self, values: NDArray[Any], layer: int, rows: NDArray[Any] | Sequence[int] | None = None) -> None:
        """`PolygateError` naming the first prompt of whose `values` [n, …], read or computed here, one is not finite.

        `rows` [n] are the store's rows that they belong to, all of them by default.
        """
        whole = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not whole.all():
            first = int(np.argmin(whole))
            prompt = self.prompt_ids[first if rows is None else int(rows[first])]
            raise PolygateError(
                f"NaN or infinite activations of prompt {prompt} at layer {layer}", where=self.path, do=_REDO
            )

    def check_matches(self, prompt_ids: Iterable[str]) -> None:
        """`PolygateError` unless the rows are those prompts, in that order."""
        given = tuple(prompt_ids)
        if given == self.prompt_ids:
            return
        redo = "delete the store and rerun"
        if len(given) != len(self.prompt_ids):
            what = f"activations of {len(self.prompt_ids)} prompts, but the prompt table has {len(given)}"
            raise PolygateError(what, where=self.path, do=redo)
        row = next(i for i, (ours, theirs) in enumerate(zip(self.prompt_ids, given, strict=True)) if ours != theirs)
        what = f"row {row} holds activations of {self.prompt_ids[row]}, but the prompt table has {given[row]}"
        raise PolygateError(what, where=self.path, do=redo)


_checked: set[tuple[Any, ...]] = set()
"""Tensors that were found whole: name and state of the file."""


def _check(path: Path, name: str, entry: _Entry) -> None:
    state = path.stat()
    key = (name, entry, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if key in _checked:
        return
    if digests.of_span(path, entry.offset, entry.length) != entry.digest:
        raise digests.damaged(path, f"tensor {name}")
    _checked.add(key)


def _array(path: Path, entry: _Entry) -> NDArray[Any]:
    if 0 in entry.shape:
        return np.zeros(entry.shape, _BYTES[entry.dtype])
    return np.memmap(path, _BYTES[entry.dtype], mode="r", offset=entry.offset, shape=entry.shape)


def _header(path: Path) -> tuple[bytes, dict[str, _Entry], dict[str, str]]:
    """Header, tensors and metadata of a safetensors file whose every tensor lies within the file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise PolygateError("truncated or not a safetensors file", where=path, do=_REDO)
            raw = file.read(length)
            header = json.loads(raw)
            metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
            entries = {name: _entry(value, 8 + length, size, path) for name, value in header.items()}
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise PolygateError("not a safetensors file", where=path, do=_REDO) from None
    except OSError as error:
        raise PolygateError(f"not a safetensors file ({error.strerror})", where=path, do=_REDO) from None
    return raw, entries, metadata


def _entry(value: Mapping[str, Any], start: int, size: int, path: Path) -> _Entry:
    first, last = value["data_offsets"]
    entry = _Entry(value["dtype"], tuple(value["shape"]), start + first)
    if entry.dtype in _BYTES and last - first != _BYTES[entry.dtype].itemsize * int(np.prod(entry.shape, dtype=int)):
        raise ValueError("a tensor's bytes don't fit its shape")
    if start + last > size:
        raise PolygateError(f"truncated: {size} bytes, should have at least {start + last}", where=path, do=_REDO)
    return entry
