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
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import digests, locks
from polygate.errors import PolygateError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PROVENANCE = "polygate.provenance"
"""Key of the provenance (a JSON object) in the metadata of parquet and safetensors files."""


_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8}-[0-9]+)\.[a-z0-9_]{8}\.tmp")


def temporary_name(path: Path) -> dict[str, Any]:
    """How `tempfile` shall call what becomes `path`: beside it, hidden, and saying whose it is, for `sweep`."""
    return {"dir": path.parent, "prefix": f".{path.name[:80]}.{locks.me()}.", "suffix": ".tmp"}


def sweep(folder: Path) -> None:
    """Remove, from all folders below, temporary files and folders of processes that have ended.

    Those of other machines must be a day old. Nothing else is touched, and no link is followed.
    """
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            match = _TEMPORARY.fullmatch(name)
            path = Path(parent, name)
            if match is None or not locks.is_gone(match[1], path):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on failure it is removed.

    Raises `PolygateError` when the disk is full, the quota is used up or the folder can't be written.
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(**temporary_name(final))
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    except OSError as error:
        _explain(error, final)
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
    """Write `value` as indented JSON with sorted keys, atomically; an object gets its digest as one more entry."""
    value = {**value, **digests.json_placeholder()} if isinstance(value, dict) else value
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    content = text.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(digests.sealed_json(content) if isinstance(value, dict) else content)


def read_json(path: str | Path) -> Any:
    """Read a JSON file; `PolygateError` when it is absent, broken or damaged. The digest of ours is left out.

    A file that somebody else wrote holds no digest, and is read all the same.
    """
    content = _bytes(path)
    try:
        value = json.loads(content.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolygateError(f"not valid JSON ({error})", where=path, do=digests.REDO) from None
    if isinstance(value, dict) and value.pop(digests.WHOLE, None) is not None:
        digests.check_json(path, content)
    return value


def write_csv(path: str | Path, text: str) -> None:
    """Write the text of a table, atomically, and its digest beside it (see `digests.beside`)."""
    path = Path(path)
    # Killed in between, it has none, and is read all the same.
    digests.beside(path).unlink(missing_ok=True)
    write_text(path, text)
    write_text(digests.beside(path), digests.of_bytes(text.encode("utf-8")))


def read_csv(path: str | Path) -> str:
    """The text of a table, line ends as they are; `PolygateError` when it is absent, damaged or no UTF-8."""
    content = _bytes(path)
    digests.check_beside(Path(path), content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolygateError(f"not UTF-8 ({error.reason})", where=path, do=digests.REDO) from None


def _bytes(path: str | Path) -> bytes:
    """A file's bytes; `PolygateError` when it is absent or can't be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except OSError as error:
        raise PolygateError(f"the file can't be read ({error.strerror})", where=path) from None


def expect(path: str | Path, metadata: Mapping[str, str], **wanted: object) -> None:
    """`PolygateError` unless a file is of what it was asked for: model, language, arm, budget, prompts …

    `metadata` is the file's, `wanted` what it should say; what is None or empty, there or here, is not compared.
    """
    for what, value in wanted.items():
        found = metadata.get(what)
        if found and value not in (None, "") and found != str(value):
            raise PolygateError(f"holds {what} {found}, expected {value}", where=path, do=digests.REDO)


@contextmanager
def understood(path: str | Path, what: str) -> Iterator[None]:
    """Say that a file is not `what` where its contents lack a part or have one that makes no sense."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise PolygateError(f"not {what} ({type(error).__name__}: {error})", where=path, do=digests.REDO) from None


def write_parquet(
    path: str | Path,
    table: pa.Table,
    provenance: Mapping[str, Any] | None = None,
    of: Mapping[str, object] | None = None,
) -> None:
    """Write a pyarrow table, atomically, with its provenance, and what it is `of`, in the schema's metadata."""
    import pyarrow.parquet as pq

    metadata = dict(table.schema.metadata or {})
    metadata.update({key.encode(): str(value).encode() for key, value in (of or {}).items() if value not in (None, "")})
    if provenance is not None:
        metadata[PROVENANCE.encode()] = json.dumps(provenance, sort_keys=True).encode()
    table = table.replace_schema_metadata(metadata)
    with atomic_path(path) as temporary:
        options: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(digests.parquet_metadata())
        digests.seal_parquet(temporary)


def read_parquet(path: str | Path, columns: list[str] | None = None, do: str = digests.REDO) -> pa.Table:
    """Read a parquet file; `PolygateError` when it is absent, damaged, not parquet, or lacks a column.

    A file that somebody else wrote holds no digest, and is read all the same; `do` is what to do where it is no
    parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = _bytes(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        missing = [name for name in columns or [] if name not in file.schema_arrow.names]
        if not missing:
            table: pa.Table = file.read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise PolygateError(f"truncated or not a parquet file ({reason})", where=path, do=do) from None
    sealed = digests.check_parquet(path, content)
    if missing:
        raise PolygateError(f"column {missing[0]!r} is missing", where=path, do=digests.REDO)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != digests.WHOLE.encode()}
    if PROVENANCE.encode() in metadata and not sealed:
        raise PolygateError("a table without digest, not written by this version", where=path, do=digests.REDO)
    return table.replace_schema_metadata(metadata)


def parquet_metadata(table: pa.Table) -> dict[str, str]:
    """The metadata of a table that was read, as text."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Provenance of a parquet or safetensors file, {} when it carries none."""
    parquet = str(path).endswith(".parquet")
    metadata = parquet_metadata(read_parquet(path)) if parquet else safetensors_metadata(path)
    return dict(json.loads(metadata.get(PROVENANCE, "{}")))


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    of: Mapping[str, object] | None = None,
) -> None:
    """Write numpy arrays as safetensors, atomically. Metadata values are text; provenance is stored as JSON.

    `of` says what the file is of; what is None or empty is left out.
    """
    import numpy as np
    from safetensors.numpy import save_file

    header = {**(metadata or {}), **{key: str(value) for key, value in (of or {}).items() if value not in (None, "")}}
    if provenance is not None:
        header[PROVENANCE] = json.dumps(provenance, sort_keys=True)
    header.update(digests.placeholders(tensors))
    with atomic_path(path) as temporary:
        with disk_errors():
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary, header)
        digests.seal(temporary)


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors and the metadata of a safetensors file; not of bf16, which `polygate.representation.store` reads.

    Raises `PolygateError` when the file is absent, damaged or foreign.
    """
    from safetensors import safe_open

    with _readable(path):
        expected, metadata = _header(path)
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, values in tensors.items():
        if digests.of_array(values) != expected.get(name):
            raise digests.damaged(path, f"tensor {name}")
    return tensors, metadata


def safetensors_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors."""
    with _readable(path):
        return _header(path)[1]


def _header(path: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the tensors and metadata of a safetensors file, its header checked."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        metadata = dict(file.metadata() or {})
    with Path(path).open("rb") as raw:
        header = raw.read(int.from_bytes(raw.read(8), "little"))
    return digests.check_header(path, header, metadata), metadata


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Say in one line what keeps a safetensors file from being read."""
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise PolygateError(
            f"truncated or not a safetensors file ({error})", where=path, do="delete the file and rerun"
        ) from None


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
        temporary = Path(tempfile.mkdtemp(**temporary_name(folder)))
        yield temporary
        _flush(temporary)
        temporary.chmod(folder.parent.stat().st_mode & 0o777)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except Exception as error:
        _explain(error, folder)
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


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there; `PolygateError` when that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _explain(error, folder)
        raise


def check_replaceable(folder: Path, names: Collection[str], what: str) -> None:
    """`PolygateError` when something is at `folder` that is no earlier `what`: one whose files are all among `names`.

    `atomic_folder` replaces what is there: whoever writes to a folder that a person names asks here first.
    """
    if not folder.exists():
        return
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    if not folder.is_dir() or not set(found) <= set(names):
        raise PolygateError(f"is there already, and no {what}", where=folder, do="name another folder with --output")


def _explain(error: Exception, path: Path) -> None:
    """Raise what a person can mend in one line: a full disk, no permission, a file where a folder should be."""
    if _is_full(error):
        raise PolygateError(
            "no space left on the disk", where=path, do="free some space and run the same command again"
        ) from error
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EROFS, errno.EPERM):
        raise PolygateError("can't write", where=path, do="check the folder's permissions") from error
    if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        raise PolygateError("can't write: a file is where a folder should be, or a folder where a file", where=path)


def _is_full(error: Exception) -> bool:
    """Whether the disk or the quota is used up; safetensors reports it in words of its own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error) or "quota exceeded" in str(error)
