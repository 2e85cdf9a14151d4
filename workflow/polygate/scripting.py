"""What every script of the workflow begins with, before it imports anything that takes time."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from polygate import orphans
from polygate.errors import PolygateError


def begin() -> None:
    """End with the workflow, and end as stages do: with one line for what the user can mend, and one for Ctrl-C.

    To be called in the main thread. A nested call that the script waits for by `subprocess.run` ends with it.
    """
    sys.excepthook = _told
    orphans.end_with_workflow()


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # Snakemake runs a copy called tmp4f0w2x1q.table_gates.py.
    name = Path(sys.argv[0]).stem.rpartition(".")[2].replace("_", "-")
    if isinstance(error, PolygateError):
        print(f"polygate {name}: {error}", file=sys.stderr, flush=True)
    elif isinstance(error, KeyboardInterrupt):
        print(f"polygate {name}: interrupted", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)
