"""What keeps small jobs small: hundreds of them do less work than it takes to begin and end their Python."""

from __future__ import annotations

import atexit
import gc
import sys


def lighten() -> None:
    """Begin a job without pandas, and end it without looking for garbage in what is given back anyway (0.1 s)."""
    _leave_pandas_out()
    atexit.register(gc.freeze)


class _NoPandas:
    """A finder that finds no pandas."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas at its first conversion, just to see whether it was given some of it.

    That is a quarter of a second, a third of what a small job takes. pyarrow looks once; whoever asks it for a data
    frame later gets one.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)
