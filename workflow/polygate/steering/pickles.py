"""Reading arrays out of pickles that somebody else made, and nothing but arrays.

A pickle is a program: loading it may call anything. This reader knows the three names that a plain numpy array needs
(one of them in an old and a new spelling), gives stand-ins of its own for them, and refuses every other before anything
is called. Nothing of numpy's is called with what the file says but `frombuffer`, on its bytes. Method: `find_class`,
as the documentation of Python's pickle module describes it.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError

LARGEST = 1_000_000_000
"""Bytes of the largest file that is read."""


class _Inert:
    """Something that a pickle may name, and whose attributes it can't set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes something that is not its own")


class _Kind(_Inert):
    """Stands for the class of plain arrays."""

    __slots__ = ()


class _Dtype:
    """A dtype as a pickle builds it up: its name, then its byte order among other things."""

    def __init__(self, name: str) -> None:
        self.found = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        _, order, *described = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in described[:3]):
            raise pickle.UnpicklingError("a dtype that is not of plain numbers")
        self.found = self.found.newbyteorder(order)


class _Array:
    """An array as a pickle builds it up: empty, then with shape, dtype, order and bytes."""

    found: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if type(dtype) is not _Dtype or type(content) is not bytes or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError("an array that is not of plain numbers")
        flat = np.frombuffer(content, dtype.found)
        self.found = flat.reshape(shape, order="F" if fortran else "C")


class _MakeDtype(_Inert):
    """Stands for numpy.dtype."""

    __slots__ = ()

    def __call__(self, *given: Any) -> _Dtype:
        if not given or type(given[0]) is not str or re.fullmatch(r"[<>=|]?[fiu][1248]", given[0]) is None:
            raise pickle.UnpicklingError("a dtype that is not of plain numbers")
        return _Dtype(given[0])


class _MakeArray(_Inert):
    """Stands for the function with which numpy begins an array."""

    __slots__ = ()

    def __call__(self, kind: Any, *_empty: Any) -> _Array:
        if type(kind) is not _Kind:
            raise pickle.UnpicklingError("an array of another kind than numpy's own")
        return _Array()


_KNOWN: dict[tuple[str, str], _Inert] = {
    ("numpy", "ndarray"): _Kind(),
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
}


class _ArraysOnly(pickle._Unpickler):
    """In Python rather than in C, whose memo takes as much memory as a broken file says."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may name: our own stand-ins, for the names that an array needs."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_array(path: str | Path) -> NDArray[Any]:
    """The numpy array of finite numbers that is all that a pickle holds.

    Raises `PolygateError` when the file is absent, too large, broken, or holds (or would call) anything else.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise PolygateError(f"larger than {LARGEST:,} bytes: not a file of steering vectors", where=path)
        found = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except PolygateError:
        raise
    except Exception as error:  # A broken pickle may raise almost anything.
        raise PolygateError(
            f"not a pickle of one numpy array ({error or type(error).__name__})",
            where=path,
            do="nothing in it was run; use the file as it was released",
        ) from None
    values = found.found if type(found) is _Array else None
    if values is None or not values.size:
        raise PolygateError("a pickle of something else than one numpy array of numbers", where=path)
    if not np.isfinite(values).all():
        raise PolygateError("a number in it is NaN or infinite", where=path)
    return values
