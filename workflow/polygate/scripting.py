"""What every script of the workflow begins with, before it imports anything that takes time."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from polygate import orphans, startup
from polygate.errors import PolygateError


def begin(log: str | Path | None = None) -> None:
    """End with the workflow, and end as stages do: with one line for what the user can mend, and one for Ctrl-C.

    The line goes to stderr, which is Snakemake's own, and into `log`, where the status of a run is read; `log` is
    emptied first. To be called in the main thread. A nested call that the script waits for by `subprocess.run` ends
    with it.
    """
    if log is not None:
        with suppress(OSError):
            Path(log).write_bytes(b"")
    sys.excepthook = partial(_told, log)
    orphans.end_with_workflow()
    startup.lighten()


def _told(log: str | Path | None, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Snakemake runs a copy called tmp4f0w2x1q.table_gates.py.
    name = Path(sys.argv[0]).stem.rpartition(".")[2].replace("_", "-")
    if isinstance(error, PolygateError):
        text = f"polygate {name}: {error}\n"
    elif isinstance(error, KeyboardInterrupt):
        text = f"polygate {name}: interrupted\n"
    else:
        text = "".join(traceback.format_exception(kind, error, trace))
    print(text, end="", file=sys.stderr, flush=True)
    if log is not None:
        # What is wrong may be the disk that it lies on.
        with suppress(OSError), Path(log).open("a", encoding="utf-8") as file:
            file.write(text)
