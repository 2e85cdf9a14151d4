"""Work on all cores: threads of ours over independent pieces, each with a single thread of the linear algebra library.

Many small products are slower with two threads of that library, which wait for each other busily, than with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


def cores() -> int:
    """Number of threads to use: OMP_NUM_THREADS, which the workflow sets for its jobs, or every core."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


def single() -> threadpool_limits:
    """One thread of the linear algebra library: float32 sums, and so thresholds, depend on their number."""
    return threadpool_limits(1, "blas")


def spread(work: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]) -> list[Result]:
    """`work(*a)` for each a of `arguments`, in order. Results must not depend on who computes which when."""
    with single(), ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda given: work(*given), arguments))
