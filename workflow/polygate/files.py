"""Writing results: a file is either whole or not there.

Every result of polygate goes through `atomic_path`: the bytes are written to a temporary file in the same
folder, flushed to the disk and renamed onto the final name, so a killed job never leaves half a result and two
writers of one file never mix. Readers turn what can be wrong with a file into one line.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate.errors import PolygateError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PROVENANCE = "polygate.provenance"
"""Key of the provenance (a JSON object) in the metadata of parquet and safetensors files."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on failure it is removed.

    Raises `PolygateError` when the disk is full, the quota is used up or the folder can't be written.
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name[:80]}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PolygateError(
                "no space left on the disk", where=final, do="free some space and run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise PolygateError("can't write", where=final, do="check the folder's permissions") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; `PolygateError` when it is absent or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PolygateError(f"not valid JSON ({error})", where=path, do="delete the file and rerun") from None


def write_parquet(path: str | Path, table: pa.Table, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a pyarrow table, atomically, with its provenance in the schema's metadata."""
    import pyarrow.parquet as pq

    metadata = dict(table.schema.metadata or {})
    if provenance is not None:
        metadata[PROVENANCE.encode()] = json.dumps(provenance, sort_keys=True).encode()
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_parquet(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file; `PolygateError` when it is absent, truncated, not parquet, or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        missing = [name for name in columns or [] if name not in file.schema_arrow.names]
        if missing:
            raise PolygateError(f"column {missing[0]!r} is missing", where=path, do="delete the file and rerun")
        table: pa.Table = file.read(columns=columns)
        return table
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PolygateError(
            f"truncated or not a parquet file ({reason})", where=path, do="delete the file and rerun"
        ) from None


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Provenance of a parquet or safetensors file, {} when it carries none."""
    name = str(path)
    if name.endswith(".parquet"):
        metadata = {k.decode(): v.decode() for k, v in (read_parquet(path).schema.metadata or {}).items()}
    else:
        metadata = safetensors_metadata(path)
    return dict(json.loads(metadata.get(PROVENANCE, "{}")))


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write numpy arrays as safetensors, atomically. Metadata values are text; provenance is stored as JSON."""
    import numpy as np
    from safetensors.numpy import save_file

    header = dict(metadata or {})
    if provenance is not None:
        header[PROVENANCE] = json.dumps(provenance, sort_keys=True)
    with atomic_path(path) as temporary:
        with disk_errors():
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, header)
        sort_header(temporary)


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors (not bf16: use `polygate.store` for activations) and the metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (SafetensorError, OSError) as error:
        raise PolygateError(
            f"truncated or not a safetensors file ({error})", where=path, do="delete the file and rerun"
        ) from None


def safetensors_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (SafetensorError, OSError) as error:
        raise PolygateError(
            f"truncated or not a safetensors file ({error})", where=path, do="delete the file and rerun"
        ) from None


def sort_header(path: Path) -> None:
    """Put the header of a safetensors file in order, in place: the library writes the metadata in random order.

    Without this the same activations would be other bytes each time.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) > length:
            raise ValueError("a header grew by being sorted")
        file.seek(8)
        file.write(ordered.ljust(length))


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise what safetensors says of a full disk as the OSError that it is, for `atomic_path` to explain."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it becomes `folder`, on failure it is removed.

    Raises `PolygateError` when the disk is full or the folder can't be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:80]}.", suffix=".tmp"))
        yield temporary
        _flush(temporary)
        temporary.chmod(folder.parent.stat().st_mode & 0o777)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except Exception as error:
        if _is_full(error):
            raise PolygateError(
                "no space left on the disk", where=folder, do="free some space and run the same command again"
            ) from error
        if isinstance(error, PermissionError):
            raise PolygateError("can't write", where=folder, do="check the folder's permissions") from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Bring every file to the disk and give all the usual permissions (safetensors leaves its own to the owner)."""
    mode = (folder.parent.stat().st_mode | 0o600) & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as written:
                os.fsync(written.fileno())
            path.chmod(mode)


def _is_full(error: Exception) -> bool:
    """Whether the disk or the quota is used up; safetensors reports it in words of its own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error) or "quota exceeded" in str(error)
