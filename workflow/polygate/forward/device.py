"""Which device a process runs on, and that no two local processes share a GPU.

Nothing in Snakemake hands GPU ids to local jobs. A process takes a lock file per id, within the ids that it was
given (CUDA_VISIBLE_DEVICES), and keeps it until it ends. Where a scheduler gave one GPU, that is its choice; several
are an allocation in which Snakemake runs its jobs itself, so each process takes one of them, or as many as its model is
spread over.
"""

from __future__ import annotations

import gc
import os
import stat
import tempfile
import time
import zlib
from collections import Counter, deque
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


def acquire(gpus: int = 1, folder: Path | None = None, poll: float = 1.0) -> tuple[torch.device, ...]:
    """Choose this process's devices, before torch starts CUDA: so many GPUs, or the CPU where there is none.

    Waits while the machine's GPUs are taken. Raises `PolygateError` where there are some, but not so many.
    """
    while claim(gpus, folder) is None:
        time.sleep(poll)
    import torch

    if not torch.cuda.is_available():
        return (torch.device("cpu"),)
    if torch.cuda.device_count() < gpus:
        raise _too_few(gpus, torch.cuda.device_count())
    return tuple(torch.device("cuda", number) for number in range(gpus))


def claim(gpus: int = 1, folder: Path | None = None) -> Lock | None:
    """Take so many GPUs for the rest of this process's life, None when not so many are free now.

    Releasing the lock gives them back, as long as torch has not started CUDA. Where there is nothing to choose, or this
    process has its GPUs, nothing is locked. Raises `PolygateError` where the machine has fewer.
    """
    scheduled = allocation()
    if _held or not (ids := free_to_choose(scheduled)):
        return Lock(lambda: None)
    if len(ids) < gpus:
        raise _too_few(gpus, len(ids))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    taken = _take(ids, gpus, folder or lock_folder(), scheduled)
    if taken is None:
        return None
    _held.extend(taken.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)

    def give_back() -> None:
        while _held:
            _held.pop().release()
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if given is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = given

    return Lock(give_back)


def has_gpus_of_its_own() -> bool:
    """Whether this process holds the locks of its GPUs."""
    return bool(_held)


def allocation() -> str | None:
    """The number of the scheduler's job that this process runs in, None outside of one."""
    return next((os.environ[name] for name in SCHEDULERS if os.environ.get(name)), None)


def _too_few(gpus: int, found: int) -> PolygateError:
    return PolygateError(
        f"the model is to be spread over {gpus} GPUs, here {'is' if found == 1 else 'are'} {found}",
        do="lower its setting gpus, or give the job more",
    )


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


def _take(ids: Sequence[str], count: int, folder: Path, scheduled: str | None = None) -> dict[str, Lock] | None:
    """Locks of the first so many free ids, by id; none at all when there are fewer.

    Ids of a scheduler's job (`scheduled`) may count within it, so its locks are its own.
    """
    prefix = "" if scheduled is None else f"{zlib.crc32(scheduled.encode()):08x}-"
    taken: dict[str, Lock] = {}
    for place, name in enumerate(ids):
        if len(taken) + len(ids) - place < count:
            break  # At once: of two processes that want all, the one that was refused must not take any.
        lock = locks.take(folder / f"{prefix}{name.replace('/', '_')}.lock")
        if lock is not None:
            taken[name] = lock
        if len(taken) == count:
            return taken
    for lock in taken.values():
        lock.release()
    return None


def name_of(devices: Sequence[torch.device]) -> str:
    """Devices in words, for provenance: the GPUs' names, each with how many there are of it, or cpu."""
    import torch

    names = Counter(
        str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type for device in devices
    )
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())


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
        if not is_of_memory(error):
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


def is_of_memory(error: BaseException) -> bool:
    """Whether this is what torch or Python say when memory runs out."""
    import torch

    told = ("can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in told)
