"""Which device a process runs on, and that no two local processes share a GPU.

Nothing in Snakemake hands GPU ids to local jobs. A process takes a lock file per id, within the ids that it was
given (CUDA_VISIBLE_DEVICES), and keeps it until it ends. Under a scheduler the choice is the scheduler's.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from polygate.errors import PolygateError

if TYPE_CHECKING:
    import torch

SCHEDULERS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID")
_DRIVER = Path("/proc/driver/nvidia/gpus")
_held: list[IO[str]] = []


def acquire(locks: Path | None = None, poll: float = 1.0) -> torch.device:
    """Choose this process's device, before torch starts CUDA; waits while every GPU of the machine is taken."""
    if not _held and not any(os.environ.get(name) for name in SCHEDULERS):
        ids = visible()
        if ids:
            os.environ["CUDA_VISIBLE_DEVICES"] = take_one(ids, locks or _lock_folder(), poll)
    import torch

    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def visible() -> list[str]:
    """GPU ids that this process may use: those it was given, or all that the driver shows."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    return [str(i) for i, _ in enumerate(_DRIVER.iterdir())] if _DRIVER.is_dir() else []


def _lock_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"polygate-gpus-{os.getuid()}"


def take_one(ids: list[str], folder: Path, poll: float) -> str:
    """Lock the first free id for the rest of this process's life; waits until one is free."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for name in ids:
            file = (folder / f"{name}.lock").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held.append(file)
            return name
        time.sleep(poll)


def name_of(device: torch.device) -> str:
    """The device in words, for provenance: the GPU's name, or cpu."""
    if device.type != "cuda":
        return device.type
    import torch

    return str(torch.cuda.get_device_name(device))


@contextmanager
def memory_limit(batch_tokens: int) -> Iterator[None]:
    """Turn an accelerator's out-of-memory error into one line that says what to lower."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PolygateError(
            f"a batch of {batch_tokens} tokens doesn't fit into the device's memory",
            do="lower the model's batch_tokens",
        ) from error
