"""The cell cache: a model is loaded once for many jobs, and nothing is computed twice.

Each job (one model, one language, one task) has a cell, addressed by everything that its content depends on: the
model's files, dtype, attention implementation and batch size, the task and its settings, the prompts, what is done to
them, library versions and our own code. A job whose cell exists copies it to its output and ends without importing
torch. Otherwise it takes the model's lock, loads the model once, and computes its own cell and then every other
missing cell of that model in the plan whose inputs exist. One cell's failure is never another's: an own failure is
raised when the others are done, and another's failure is left for its own job to meet.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from polygate import files, locks
from polygate.errors import PolygateError
from polygate.forward import identity, loading
from polygate.forward.job import Inputs, Job
from polygate.forward.options import read_template
from polygate.forward.progress import Progress
from polygate.provenance import code_hash
from polygate.representation.store import ActivationStore

_LIBRARIES = ("torch", "transformers", "tokenizers")
_POLL_SECONDS = 0.1


def key(job: Job, inputs: Inputs, fingerprint: str) -> str:
    """The address of a job's cell, 32 hex digits; `fingerprint` is its model's.

    Paths and names of files don't count, only what is in them. Raises `PolygateError` when the chat template can't
    be read.
    """
    options = job.options
    described = {
        "model": fingerprint,
        "revision": options.revision,
        "dtype": options.dtype,
        "attention": options.attention,
        "batch_tokens": options.batch_tokens,
        "chat_template": None if options.chat_template is None else read_template(options.chat_template),
        "template_arguments": dict(options.template_arguments),
        "task": job.task,
        "dataset": inputs.prompts.dataset,
        "language": inputs.prompts.language,
        "prompts": list(zip(inputs.ids, inputs.texts, strict=True)),
        "openings": inputs.openings,
        "positions": job.positions,
        "max_new_tokens": job.max_new_tokens,
        "options": inputs.options,
        "intervention": inputs.done["intervention"],
        "code": code_hash("polygate.forward.compute"),
        "versions": [metadata.version(name) for name in _LIBRARIES],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def cell_path(job: Job, address: str) -> Path:
    """Where the cell of a job lies."""
    return job.cache / address[:2] / f"{address}{job.suffix}"


def is_whole(cell: Path, address: str) -> bool:
    """Whether the cell is there, every byte is the one that was written, and it is what its address says."""
    if not cell.is_file():
        return False
    try:
        if cell.suffix == ".safetensors":
            ActivationStore.open(cell).check_whole()
        return files.read_provenance(cell).get("cell") == address
    except PolygateError:
        return False


def run(job: Job, plan: Sequence[Job], output: Path, log: Callable[[str], None] | None = None) -> None:
    """Make `output`, from the job's cell when it exists, else by computing it and what the plan holds for the model.

    `log` is told in one line each when a model was loaded and which other cells failed. Raises `PolygateError`.
    """
    log = log or _to_stderr
    fingerprint = loading.fingerprint(job.model_folder, job.cache)
    inputs = job.read(identity.of(job.options, fingerprint))
    address = key(job, inputs, fingerprint)
    cell = cell_path(job, address)
    if not is_whole(cell, address):
        with _model_lock(job, address) as locked:
            if locked and not is_whole(cell, address):
                _fill(job, inputs, address, plan, fingerprint, log)
    deliver(cell, output)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _model_lock(job: Job, address: str) -> Iterator[bool]:
    """Hold the model's lock (True), or come back without it (False) as soon as its holder has made our cell."""
    model = hashlib.sha256(repr((job.model_folder.resolve(), job.options)).encode()).hexdigest()[:32]
    path = job.cache / "locks" / f"{model}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = _wanted(job.cache, address)
    while (lock := locks.take(path)) is None:
        if is_whole(cell_path(job, address), address):
            yield False
            return
        if not wanted.exists():
            wanted.parent.mkdir(parents=True, exist_ok=True)
            wanted.touch()
        time.sleep(_POLL_SECONDS)
    try:
        yield True
    finally:
        lock.release()


def _wanted(cache: Path, address: str) -> Path:
    """A mark that some job waits for this cell: the lock's holder makes those first."""
    return cache / "wanted" / address


def _fill(
    job: Job,
    inputs: Inputs,
    address: str,
    plan: Sequence[Job],
    fingerprint: str,
    log: Callable[[str], None],
) -> None:
    """Load the model and compute the job's cell, then the plan's."""
    from polygate.forward.compute import check, compute
    from polygate.forward.prefixes import Kept

    check(job, inputs)
    started = time.monotonic()
    loaded = loading.load(job.model_folder, job.options, fingerprint, job.cache)
    log(f"loaded {job.model_folder} on {loaded.device} in {time.monotonic() - started:.1f} s")

    kept = Kept()

    def make(one: Job, at: str) -> None:
        inputs = one.read(identity.of(one.options, fingerprint))
        if key(one, inputs, fingerprint) != at:
            raise PolygateError("inputs changed while the model ran", where=one.prompts, do="run it again")
        with Progress(str(one), len(inputs.rows)) as progress:
            compute(one, inputs, loaded, at, cell_path(one, at), progress.advance, kept)
        _wanted(job.cache, at).unlink(missing_ok=True)

    failure: Exception | None = None
    try:
        make(job, address)
    except Exception as error:
        failure = error
    pending = _Pending(job, plan, address, fingerprint)
    while found := pending.next():
        other, at = found
        try:
            make(other, at)
        except Exception as error:
            log(f"left to its own job: {other} failed ({type(error).__name__}: {error})")
    if failure is not None:
        raise failure


class _Pending:
    """The plan's jobs that share the model and whose cells are missing.

    Looked at anew before each cell, since inputs appear while others are computed; what was found out about an
    input is kept until the input changes.
    """

    def __init__(self, job: Job, plan: Sequence[Job], address: str, fingerprint: str) -> None:
        self.cache = job.cache
        self.fingerprint = fingerprint
        self.jobs = [other for other in plan if other.shares_model_with(job)]
        self.settled = {address}
        self._read = job.prompts
        self._addresses: dict[tuple[Job, tuple[int, ...]], str] = {}

    def next(self) -> tuple[Job, str] | None:
        """A missing cell that some job waits for, one of prompts that have just been read, or the plan's first.

        Each is given out once.
        """
        missing = [(job, address) for job in self.jobs if (address := self._missing(job)) is not None]
        missing.sort(key=lambda pair: (not _wanted(self.cache, pair[1]).exists(), pair[0].prompts != self._read))
        if not missing:
            return None
        self.settled.add(missing[0][1])
        self._read = missing[0][0].prompts
        return missing[0]

    def _missing(self, job: Job) -> str | None:
        if not job.inputs_exist():
            return None
        inputs = (job.prompts,) if job.intervention is None else (job.prompts, job.intervention)
        try:
            state = (job, tuple(path.stat().st_mtime_ns for path in inputs))
            if state not in self._addresses:
                read = job.read(identity.of(job.options, self.fingerprint))
                self._addresses[state] = key(job, read, self.fingerprint)
        except (PolygateError, OSError):
            return None
        address = self._addresses[state]
        if address in self.settled:
            return None
        if is_whole(cell_path(job, address), address):
            self.settled.add(address)
            return None
        return address


def deliver(cell: Path, output: Path) -> None:
    """Copy a cell to `output`, whose time of change becomes now.

    Never a link: whoever wrote into the output would write into the cell, and deleting the output would bring the
    same broken bytes back. File systems that share blocks between files (btrfs, XFS) copy nothing.
    """
    with files.atomic_path(output) as temporary, cell.open("rb") as source, temporary.open("wb") as target:
        if not _copy_in_kernel(source.fileno(), target.fileno()):
            source.seek(0)
            target.seek(0)
            shutil.copyfileobj(source, target, 1 << 20)


def _copy_in_kernel(source: int, target: int) -> bool:
    """Copy a file within the kernel, which shares blocks where it can; False where it can't do it at all."""
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return True
