"""Downloading PolyRefuse and other published data sets: every file at a pinned commit, compared with its checksum.

The files come one by one over https, without git; `polyrefuse.sha256` beside this module lists those of PolyRefuse's
pinned commit. A copy made some other way (a clone of the repository, say) is used through `prompts.folder`, or through
the data set's `folder`.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts.sources.polyrefuse import CELLS, LANGUAGES, flat_name, upstream_path
from polygate.prompts.sources.published import Published
from polygate.settings.types import POLYREFUSE_REVISION

REPOSITORY = "mainlp/Multilingual-Refusal"
BASE = f"https://raw.githubusercontent.com/{REPOSITORY}"
CHECKSUMS = Path(__file__).with_name("polyrefuse.sha256")
ATTEMPTS = 3
WORKERS = 4
TIMEOUT = 60.0
"""Seconds without an answer after which an attempt is given up."""


def checksums() -> dict[str, str]:
    """sha256 (64 hex digits) of every file of the pinned commit, by upstream path."""
    lines = CHECKSUMS.read_text(encoding="ascii").splitlines()
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}


def polyrefuse(
    output: Path, revision: str, *, base: str = BASE, expected: dict[str, str] | None = None, pause: float = 2.0
) -> list[str]:
    """Download PolyRefuse at `revision` into the new flat folder `output`, with a `SHA256SUMS`; returns notices.

    At the pinned revision every listed file must be there with its checksum. At another revision files may differ
    and be absent: what differs is returned, and the reader reports what is missing. The folder appears when it is
    complete.

    Raises `PolygateError` when the network fails or a file isn't the pinned one.
    """
    known = checksums() if expected is None else expected
    pinned = revision == POLYREFUSE_REVISION
    paths = list(known) if pinned else [upstream_path(*cell, name) for name in LANGUAGES for cell in CELLS]
    notices: list[str] = []
    with folder_when_complete(output) as folder:
        with ThreadPoolExecutor(WORKERS) as pool:
            contents = list(pool.map(lambda path: fetch(f"{base}/{revision}/{path}", pause), paths))
        found = dict(zip(paths, contents, strict=True))
        sums = {path: hashlib.sha256(content).hexdigest() for path, content in found.items() if content is not None}
        for path in paths:
            if sums.get(path) != known.get(path):
                notices.append(_difference(path, sums.get(path), revision, pinned=pinned))
        if not sums:
            raise PolygateError(f"no file of PolyRefuse at revision {revision}", where=f"{base}/{revision}")
        for path, content in found.items():
            if content is not None:
                (folder / flat_name(path)).write_bytes(content)
        listed = sorted((flat_name(path), digest) for path, digest in sums.items())
        (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in listed), encoding="ascii")
    return notices


def published(output: Path, of: Published, *, pause: float = 2.0, setting: str = "the data set's folder") -> None:
    """Download a published data set into the new flat folder `output`, with a `SHA256SUMS`.

    `setting` is what may name a copy instead. Raises `PolygateError` when the network fails, or a file is missing or
    isn't the pinned one.
    """
    with folder_when_complete(output) as folder:
        for path, digest in of.files.items():
            content = fetch(f"{of.base}/{path}", pause, of.title, setting)
            found = None if content is None else hashlib.sha256(content).hexdigest()
            if content is None or found != digest:
                what = "is missing" if content is None else f"has another checksum ({found and found[:12]}…)"
                raise PolygateError(
                    f"{path} {what} at {of.title}'s pinned revision",
                    where=of.base,
                    do=f"try again, or point {setting} to a copy that you trust",
                )
            (folder / PurePosixPath(path).name).write_bytes(content)
        listed = sorted((PurePosixPath(path).name, digest) for path, digest in of.files.items())
        (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in listed), encoding="ascii")


def _difference(path: str, digest: str | None, revision: str, *, pinned: bool) -> str:
    what = f"{path} is missing" if digest is None else f"{path} has another checksum ({digest[:12]}…)"
    if pinned:
        raise PolygateError(
            f"{what} at PolyRefuse's pinned revision {revision[:12]}",
            where=REPOSITORY,
            do="try again, or point prompts.folder to a copy that you trust",
        )
    return f"{what} at revision {revision[:12]} than at the pinned {POLYREFUSE_REVISION[:12]}" if digest else what


def fetch(url: str, pause: float, title: str = "PolyRefuse", setting: str = "prompts.folder") -> bytes | None:
    """Content behind `url`, None for "not found"; tries again after `pause` seconds, then twice that."""
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            reason: object = f"status {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause * 2**attempt)
    raise PolygateError(
        f"can't download {title} ({reason})",
        where=url,
        do=f"check the network, or point {setting} to a local copy or clone of the repository",
    )


@contextmanager
def folder_when_complete(output: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `output` that becomes `output` on success and vanishes on failure."""
    temporary: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(**files.temporary_name(output)))
        yield temporary
        temporary.chmod(0o755)
        if output.is_dir():
            shutil.rmtree(output)
        temporary.rename(output)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PolygateError(
                "no space left on the disk", where=output, do="free some space and run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise PolygateError("can't write", where=output, do="check the folder's permissions") from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
