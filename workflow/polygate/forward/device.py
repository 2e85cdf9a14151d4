"""Which device a process runs on, and that no two local processes share a GPU.

Nothing in Snakemake hands GPU ids to local jobs. A process takes a lock file per id, within the ids that it was
given (CUDA_VISIBLE_DEVICES), and keeps it until it ends. Where a scheduler gave one GPU, that is its choice; several
are an allocation in which Snakemake runs its jobs itself, so each process takes one of them.
"""

from __future__ import annotations

import gc
import os
import stat
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from polygate import locks
from polygate.errors import PolygateError
from polygate.locks import Lock

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
_DRIVER = Path("/proc/driver/nvidia/gpus")
_held: list[Lock] = []


def acquire(folder: Path | None = None, poll: float = 1.0) -> torch.device:
    """Choose this process's device, before torch starts CUDA; waits while every GPU of the machine is taken."""
    scheduled = next((os.environ[name] for name in SCHEDULERS if os.environ.get(name)), None)
    if not _held and (ids := free_to_choose(scheduled)):
        os.environ["CUDA_VISIBLE_DEVICES"] = take_one(ids, folder or lock_folder(), poll, scheduled)
    import torch

    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def free_to_choose(scheduled: str | None) -> list[str]:
    """GPU ids of which this process takes one, none where there is nothing to choose.

    `scheduled` is the number of the scheduler's job, None outside of one. What a scheduler did not list is not ours.
    """
    if scheduled is None:
        return visible()
    ids = visible() if "CUDA_VISIBLE_DEVICES" in os.environ else []
    return ids if len(ids) > 1 else []


def visible() -> list[str]:
    """GPU ids that this process may use: those it was given, or all that the driver shows."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    return [str(i) for i, _ in enumerate(_DRIVER.iterdir())] if _DRIVER.is_dir() else []


def lock_folder() -> Path:
    """The folder of GPU locks, of this user alone: in the user's own runtime folder, or the temporary one.

    Its name can be guessed, so it must be a folder of ours that nobody else may enter. Raises `PolygateError`.
    """
    user = os.getuid()
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}")
    own = runtime.is_dir() and runtime.stat().st_uid == user and os.access(runtime, os.W_OK)
    folder = (runtime if own else Path(tempfile.gettempdir())) / f"polygate-gpus-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
        raise PolygateError(
            "the folder of GPU locks is a link or somebody else's", where=folder, do="remove it, or set TMPDIR"
        )
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def take_one(ids: list[str], folder: Path, poll: float, scheduled: str | None = None) -> str:
    """Lock the first free id for the rest of this process's life; waits until one is free.

    Ids of a scheduler's job (`scheduled`) may count within it, so its locks are its own.
    """
    prefix = "" if scheduled is None else f"{zlib.crc32(scheduled.encode()):08x}-"
    while True:
        for name in ids:
            lock = locks.take(folder / f"{prefix}{name.replace('/', '_')}.lock")
            if lock is not None:
                _held.append(lock)
                return name
        time.sleep(poll)


def name_of(device: torch.device) -> str:
    """The device in words, for provenance: the GPU's name, or cpu."""
    if device.type != "cuda":
        return device.type
    import torch

    return str(torch.cuda.get_device_name(device))


def in_halves(batches: Iterable[Sequence[T]], work: Callable[[list[T]], None]) -> None:
    """Do `work` on each batch; one that doesn't fit into memory is halved, as are the larger ones that follow.

    What was done before stays done. Raises `PolygateError` when a batch of one doesn't fit.
    """
    waiting = deque(list(batch) for batch in batches)
    most = max((len(batch) for batch in waiting), default=0)
    while waiting:
        batch = waiting.popleft()
        if len(batch) > most:
            waiting.extendleft([batch[most:], batch[:most]])
        elif not fits(lambda batch=batch: work(batch)):  # type: ignore[misc]
            most = smaller(len(batch))
            waiting.appendleft(batch)


def fits(work: Callable[[], None]) -> bool:
    """Do `work`; False when memory ran out meanwhile, which is then let go of."""
    import torch

    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not _is_of_memory(error):
            raise
    else:
        return True
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def smaller(rows: int) -> int:
    """How many rows to try after so many didn't fit; `PolygateError` after one."""
    if rows <= 1:
        raise PolygateError(
            "a single prompt doesn't fit into the device's memory",
            do="leave out the longest prompts, take a smaller dtype, or a device with more memory",
        )
    return rows // 2


def _is_of_memory(error: BaseException) -> bool:
    import torch

    told = ("can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in told)
