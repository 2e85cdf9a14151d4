"""Digests: a file of ours says what its bytes were, and whoever reads it compares.

A safetensors file holds the CRC-32 of every tensor under `polygate.digests` and of its header under
`polygate.digest`; a parquet file holds that of the whole file under `polygate.digest`, beside the checksums of its
pages. Each is eight hexadecimal digits that take the place of zeros once the file is finished: the digest of a header
or of a parquet file is that of its bytes with the zeros there.

A JSON object holds that of the whole file under the same name. A CSV table stays what people and programs open: its
digest lies beside it in a hidden file, `.refusal.csv.crc32`. A model's folder holds those of its files in `.crc32`.

A CRC-32 changes with every single bit and every run of up to 32 bits. It is meant for accidents, not for forgers: it
is the fastest check there is where the processor multiplies without carry.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate.errors import PolygateError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHOLE, TENSORS = "polygate.digest", "polygate.digests"
"""Keys of the digests in a file's metadata."""
REDO = "delete the file and rerun"
_REDO_FOLDER = "delete the model's folder and rerun"
_ZEROS = "0" * 8
_IN_HEADER = f'"{WHOLE}":"'.encode()
# In parquet's encoding (thrift, compact) a value of eight bytes follows its key after these two.
_IN_PARQUET = WHOLE.encode() + b"\x18\x08"
_IN_JSON = f'"{WHOLE}": "'.encode()
_BESIDE = ".crc32"


def damaged(path: str | Path, part: str = "") -> PolygateError:
    """The error for a file whose bytes are not those that were written."""
    return PolygateError(f"the file is damaged{part and f' ({part})'}", where=path, do=REDO)


def placeholders(names: Iterable[str]) -> dict[str, str]:
    """Metadata that keeps the place of the digests in a safetensors file with tensors of these names."""
    return {TENSORS: json.dumps(dict.fromkeys(sorted(names), _ZEROS)), WHOLE: _ZEROS}


def seal(path: Path) -> None:
    """Finish a safetensors file in place: its header in order, and digests where `placeholders` kept their place.

    The library writes metadata in random order: without this the same tensors would be other bytes each time.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
        start = 8 + length
        digests = {name: of_span(path, start + first, last - first) for name, (first, last) in sorted(spans.items())}
        header["__metadata__"] = dict(sorted({**header["__metadata__"], TENSORS: json.dumps(digests)}.items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) > length:
            raise ValueError("a header grew by being sorted")
        file.seek(8)
        file.write(_sealed(ordered.ljust(length), _IN_HEADER))


def seal_parquet(path: Path) -> None:
    """Put the digest of a finished parquet file in its place, in place."""
    path.write_bytes(_sealed(path.read_bytes(), _IN_PARQUET))


def parquet_metadata() -> dict[str, str]:
    """Metadata that keeps the place of the digest in a parquet file."""
    return {WHOLE: _ZEROS}


def _sealed(content: bytes, marker: bytes) -> bytes:
    at = content.rindex(marker) + len(marker)
    return content[:at] + _with_zeros(content, at).encode() + content[at + len(_ZEROS) :]


def _with_zeros(content: bytes, at: int) -> str:
    view = memoryview(content)
    crc = zlib.crc32(view[at + len(_ZEROS) :], zlib.crc32(_ZEROS.encode(), zlib.crc32(view[:at])))
    return f"{crc:08x}"


def _holds(content: bytes, marker: bytes) -> bool | None:
    """Whether the digest after `marker` is that of `content`; None when there is none."""
    found = content.rfind(marker)
    if found < 0:
        return None
    at = found + len(marker)
    return content[at : at + len(_ZEROS)] == _with_zeros(content, at).encode()


def check_header(path: str | Path, header: bytes, metadata: Mapping[str, str]) -> dict[str, str]:
    """Digests of the tensors by name, once the header's own is right.

    `header` is the header of a safetensors file as it stands there. Raises `PolygateError` when it is damaged or
    holds no digests.
    """
    if not (WHOLE in metadata and TENSORS in metadata):
        raise PolygateError("a safetensors file without digests, not written by this version", where=path, do=REDO)
    if not _holds(header, _IN_HEADER):
        raise damaged(path, "its header")
    return {str(name): str(digest) for name, digest in json.loads(metadata[TENSORS]).items()}


def check_parquet(path: str | Path, content: bytes) -> bool:
    """Check a whole parquet file; False when it holds no digest. Raises `PolygateError` when it is damaged."""
    found = _holds(content, _IN_PARQUET)
    if found is False:
        raise damaged(path)
    return found is not None


def json_placeholder() -> dict[str, str]:
    """What keeps the place of the digest in a JSON object."""
    return {WHOLE: _ZEROS}


def sealed_json(content: bytes) -> bytes:
    """A JSON object with its digest where `json_placeholder` kept its place."""
    return _sealed(content, _IN_JSON)


def check_json(path: str | Path, content: bytes) -> None:
    """Check a JSON object that holds a digest. Raises `PolygateError` when it is damaged."""
    if not _holds(content, _IN_JSON):
        raise damaged(path)


def beside(path: Path) -> Path:
    """Where the digest of a file of plain text lies."""
    return path.with_name(f".{path.name}{_BESIDE}")


def of_bytes(content: bytes) -> str:
    """Digest of bytes in memory."""
    return f"{zlib.crc32(content):08x}"


def check_beside(path: Path, content: bytes) -> None:
    """Check what a file of plain text holds, where its digest lies beside it. Raises `PolygateError` when damaged.

    One that has come here without its digest, or was written by somebody else, is taken as it is.
    """
    try:
        expected = beside(path).read_bytes()
    except FileNotFoundError:
        return
    if expected != of_bytes(content).encode():
        raise PolygateError("the file is damaged, or was changed by hand", where=path, do=REDO)


def seal_folder(folder: Path) -> None:
    """Put the digests of a finished folder's files into it, of those that are not hidden."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    lines = [f"{of_span(folder / name, 0, (folder / name).stat().st_size)}  {name}\n" for name in names]
    content = "".join(lines).encode()
    (folder / _BESIDE).write_bytes(content + f"{of_bytes(content)}\n".encode())


def check_folder(folder: Path, passed_over: Iterable[str] = ()) -> None:
    """Check a folder's files that are still there, if it has digests. Raises `PolygateError` when one is damaged.

    Suffixes in `passed_over` belong to files that people may change.
    """
    try:
        content = (folder / _BESIDE).read_bytes()
    except FileNotFoundError:
        return
    listed, own = content[: -len(_ZEROS) - 1], content[-len(_ZEROS) - 1 :]
    if own != f"{of_bytes(listed)}\n".encode():
        raise PolygateError("the model's checksums are damaged", where=folder / _BESIDE, do=_REDO_FOLDER)
    for line in listed.decode().splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or path.suffix in passed_over:
            continue
        if of_span(path, 0, path.stat().st_size) != expected:
            raise PolygateError(
                "the file is damaged, or was changed by hand",
                where=path,
                do=f"{_REDO_FOLDER}, or delete {_BESIDE} in it if you meant the change",
            )


def of_array(values: NDArray[Any]) -> str:
    """Digest of an array's bytes in memory, row by row (C order)."""
    import numpy as np

    flat: NDArray[np.uint8] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return f"{zlib.crc32(flat.data):08x}"


def of_span(path: Path, start: int, length: int) -> str:
    """Digest of some bytes of a file."""
    # Not by way of `polygate.kernels`: all that writes a file would count as made by the kernels, and an edit of one
    # would rerun everything. What a CRC-32 is no edit changes.
    from polygate import _kernels

    return f"{_kernels.crc32(str(path), start, length):08x}"


def append(path: Path) -> None:
    """Put the digest of a file of another format after its end, where readers of that format overlook it."""
    digest = of_span(path, 0, path.stat().st_size)
    with path.open("ab") as file:
        file.write(digest.encode())


def check_appended(path: Path) -> None:
    """Check a file that `append` finished; `PolygateError` when it is damaged, `FileNotFoundError` when absent."""
    length = max(0, path.stat().st_size - len(_ZEROS))
    with path.open("rb") as file:
        file.seek(length)
        if file.read().decode("ascii", "replace") != of_span(path, 0, length):
            raise damaged(path)
