"""Stages and scripts end with the workflow that started them, however it ends: a killed Snakemake can't tell its jobs.

The workflow names its process in the environment, as `locks.me` has it; a thread of the job looks once a second
whether that process is still there. A stage that a person starts, with nohup or from a batch script, finds no such
name and goes on whatever becomes of its parent. A change of parent says less: jobs are started by threads of
Snakemake's, whose ends Linux takes for the parent's (PR_SET_PDEATHSIG), and macOS has no such signal.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from polygate import locks

WORKFLOW = "POLYGATE_WORKFLOW"
"""Variable with the process of the workflow; one of another machine or container counts as none."""
_EVERY, _PATIENCE = 1.0, 10.0


def announce() -> None:
    """Name this process to the jobs that it will start."""
    os.environ[WORKFLOW] = locks.me()


def end_with_workflow() -> None:
    """Interrupt this process, called in its main thread, once the workflow that started it has ended.

    What it was writing is removed as after Ctrl-C; one that doesn't react within ten seconds ends all the same, and
    what it leaves is swept by the next run.
    """
    owner = os.environ.get(WORKFLOW, "")
    machine, _, number = owner.partition("-")
    if machine != locks.me().partition("-")[0] or not number.isdigit():
        return
    # A shell without job control starts what it puts in the background with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch, args=(int(number), threading.get_ident()), daemon=True).start()


def _watch(workflow: int, stage: int) -> None:
    first = _started(workflow)
    while first is not None and _started(workflow) == first:
        time.sleep(_EVERY)
    print("polygate: the workflow that started this job has ended, and so it ends", file=sys.stderr, flush=True)
    signal.pthread_kill(stage, signal.SIGINT)
    time.sleep(_PATIENCE)
    os._exit(130)


def _started(process: int) -> str | None:
    """When a process started, where that can be known (a number is used again), or ""; None once it has ended."""
    try:
        # After the name, which may hold anything: state, parent, …, and in field 22 the time of start.
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if sys.platform == "linux" and Path("/proc/self/stat").exists():
            return None
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
