"""The cell cache: a model is loaded once for many jobs, and nothing is computed twice.

Each job (one model, one language, one task) has a cell, addressed by everything that its content depends on: the
model's files, dtype, attention implementation and batch size, the task and its settings, the prompts, what is done to
them, library versions and our own code. A job whose cell exists copies it to its output and ends without importing
torch. Otherwise it waits for a device and becomes a worker: it loads the model once, and computes its own cell and
then every other missing cell of that model in the plan whose inputs exist. One cell's failure is never another's: an
own failure is raised when the others are done, and another's failure is left for its own job to meet.

There is one worker per free GPU (or as many GPUs as the model is spread over), without GPUs one per model. Several
share a model's cells by a lock for each, held while it is computed: none is computed twice, and what a killed worker
had begun is free again. A job whose cell is another worker's waits for it. Tests show that with processes that take
stand-ins for GPUs (tests/library/forward/test_workers.py); on more than one true GPU it has not been seen.
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
from polygate.forward import device as devices
from polygate.forward import identity, loading
from polygate.forward.job import Inputs, Job
from polygate.forward.options import read_template
from polygate.forward.progress import Progress
from polygate.locks import Lock
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
        "quantisation": options.quantisation,
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
    with _turn(job, address) as ours:
        if ours:
            _fill(job, inputs, address, plan, fingerprint, log)
    deliver(cell, output)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _turn(job: Job, address: str) -> Iterator[bool]:
    """Wait until this process may compute its cell, which is then claimed, or until another has made it (False)."""
    while not is_whole(cell_path(job, address), address):
        place = _place(job)
        claim = None if place is None else _claim(job, address)
        if place is not None and claim is not None:
            try:
                yield True
            finally:
                claim.release()
                if not devices.has_gpus_of_its_own():
                    place.release()
            return
        if place is not None:
            place.release()
        _mark_wanted(job, address)
        time.sleep(_POLL_SECONDS)
    yield False


def _place(job: Job) -> Lock | None:
    """A worker's place at the model: GPUs of its own, which it keeps until it ends, or without any the model's lock."""
    gpus = devices.claim(job.gpus)
    if gpus is None or devices.has_gpus_of_its_own():
        return gpus
    described = repr((job.model_folder.resolve(), job.options, devices.allocation()))
    return locks.take(_locks(job) / f"{hashlib.sha256(described.encode()).hexdigest()[:32]}.lock")


def _claim(job: Job, address: str) -> Lock | None:
    """The right to compute a cell; None where another worker has it, or has made the cell meanwhile."""
    path = _claim_path(job, address)
    lock = locks.take(path)
    if lock is not None and is_whole(cell_path(job, address), address):
        # Nobody who still opens it can mistake it for a claim: the cell is there.
        path.unlink(missing_ok=True)
        lock.release()
        return None
    return lock


def _claim_path(job: Job, address: str) -> Path:
    return _locks(job) / f"{address}.cell"


def _locks(job: Job) -> Path:
    folder = job.cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mark_wanted(job: Job, address: str) -> None:
    mark = _wanted(job.cache, address)
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _wanted(cache: Path, address: str) -> Path:
    """A mark that some job waits for this cell: workers make those first."""
    return cache / "wanted" / address


def _fill(
    job: Job,
    inputs: Inputs,
    address: str,
    plan: Sequence[Job],
    fingerprint: str,
    log: Callable[[str], None],
) -> None:
    """Load the model and compute the job's cell, which is claimed, then those of the plan that no other worker has."""
    from polygate.forward.compute import check, compute
    from polygate.forward.prefixes import Kept

    check(job, inputs)
    started = time.monotonic()
    loaded = loading.load(job.model_folder, job.options, fingerprint, job.cache, job.gpus)
    log(f"loaded {job.model_folder} on {loaded.device} in {time.monotonic() - started:.1f} s")

    kept, pending = Kept(loaded.kept_bytes), _Pending(job, plan, address, fingerprint)

    def make(one: Job, at: str) -> None:
        inputs = one.read(identity.of(one.options, fingerprint))
        if key(one, inputs, fingerprint) != at:
            raise PolygateError("inputs changed while the model ran", where=one.prompts, do="run it again")
        with Progress(f"{one}, {pending.counted}", len(inputs.rows)) as progress:
            compute(one, inputs, loaded, at, cell_path(one, at), progress.advance, kept)
        _claim_path(one, at).unlink(missing_ok=True)
        _wanted(job.cache, at).unlink(missing_ok=True)

    failure: Exception | None = None
    try:
        make(job, address)
    except Exception as error:
        failure = error
    while found := pending.next():
        other, at, claim = found
        try:
            make(other, at)
        except Exception as error:
            log(f"left to its own job: {other} failed ({type(error).__name__}: {error})")
        finally:
            claim.release()
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

    @property
    def counted(self) -> str:
        """Which of the plan's cells of the model is being made, those that were there or are in work counted before."""
        return f"{len(self.settled)} of {max(len(self.settled), len(self.jobs))}"

    def next(self) -> tuple[Job, str, Lock] | None:
        """A missing cell that some job waits for, one of prompts that have just been read, or the plan's first.

        It is claimed, and given out once; what other workers have claimed is left out.
        """
        missing = [(job, address) for job in self.jobs if (address := self._missing(job)) is not None]
        missing.sort(key=lambda pair: (not _wanted(self.cache, pair[1]).exists(), pair[0].prompts != self._read))
        for job, address in missing:
            if (claim := _claim(job, address)) is not None:
                self.settled.add(address)
                self._read = job.prompts
                return job, address, claim
        return None

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
