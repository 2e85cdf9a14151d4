"""What holds for every kernel: any number of threads, borrowed memory left alone, the lock released, numpy alone."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.twins import Array, write_store
from polygate import kernels


@dataclass(frozen=True)
class Inputs:
    """Inputs that span several pieces of work in each kernel."""

    path: Path
    labels: Array
    scores: Array
    groups: Array
    clusters: Array
    features: Array
    extra: Array
    directions: Array

    @classmethod
    def make(cls, path: Path) -> Inputs:
        random = np.random.default_rng(0)
        write_store(path, {name: random.normal(size=(300, 1100)) for name in "abc"}, "BF16")
        labels = np.arange(300) % 3 == 0
        return cls(
            path=path,
            labels=labels,
            scores=random.normal(size=(5, 300)) + labels,
            groups=np.arange(300) % 2,
            clusters=np.arange(300) // 6 * 3 + np.arange(300) % 3,
            features=random.normal(size=(300, 4)),
            extra=random.normal(size=(9, 8, 4)),
            directions=random.normal(size=(7, 1100)),
        )

    def bootstrap(self, statistic: kernels.Statistic, threads: int, **options: Any) -> kernels.Intervals:
        values = self.scores if statistic in ("auc", "average_precision") else (self.scores > 0).astype(float)
        given = {"groups": self.groups, "interval": "bca", "resamples": 90, **options}
        return kernels.bootstrap(statistic, values, self.labels, threads=threads, **given)

    def fit(self, solver: kernels.Solver, threads: int) -> kernels.LogisticFits:
        own = self.extra[:, :, 0] > 0
        return kernels.fit_logistic(self.features, self.labels, self.extra, own, solver=solver, threads=threads)


KERNELS: dict[str, Callable[[Inputs, int], Any]] = {
    "project": lambda x, threads: kernels.project(x.path, list("abc"), x.directions, threads=threads),
    "class_means": lambda x, threads: kernels.class_means(x.path, list("abc"), np.arange(300) % 3, threads=threads),
    "gram": lambda x, threads: kernels.gram(x.path, list("abc"), threads=threads),
    "moments": lambda x, threads: kernels.moments(x.path, list("ab"), np.arange(300) % 2, threads=threads),
    "auc": lambda x, threads: kernels.auc(x.scores, x.labels, threads=threads),
    "average_precision": lambda x, threads: kernels.average_precision(x.scores, x.labels, threads=threads),
    "placements": lambda x, threads: kernels.placements(x.scores, x.labels, threads=threads),
    "caliper_auc": lambda x, threads: kernels.caliper_auc(
        x.scores, x.labels, x.scores[0], x.groups, 0.3, threads=threads
    ),
    "bootstrap, clusters": lambda x, threads: x.bootstrap("auc", threads, clusters=x.clusters),
    "bootstrap, rows": lambda x, threads: x.bootstrap("average_precision", threads),
    "bootstrap, decisions": lambda x, threads: x.bootstrap("f1", threads, clusters=x.clusters, average="groups"),
    "bootstrap, differences": lambda x, threads: x.bootstrap("selectivity", threads, reference=0, average="both"),
    "bootstrap, weights": lambda x, threads: x.bootstrap("auc", threads, weights=np.abs(x.scores[0])),
    "sweep_threshold": lambda x, threads: kernels.sweep_threshold(x.scores, x.labels, x.groups, threads=threads),
    "fit_logistic, convex": lambda x, threads: x.fit("convex", threads),
    "fit_logistic, adamw": lambda x, threads: x.fit("adamw", threads),
}


def arrays(result: Any) -> list[Array]:
    """The arrays of a kernel's result."""
    if hasattr(result, "__dataclass_fields__"):
        return [np.asarray(getattr(result, name)) for name in result.__dataclass_fields__]
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.make(tmp_path_factory.mktemp("promises") / "store")


@pytest.mark.parametrize("name", KERNELS)
def test_results_are_the_same_bits_for_any_number_of_threads(inputs: Inputs, name: str) -> None:
    single = arrays(KERNELS[name](inputs, 1))
    for threads in (2, 3, 8, 0):
        for a, b in zip(single, arrays(KERNELS[name](inputs, threads)), strict=True):
            assert a.tobytes() == b.tobytes()


def test_every_kernel_that_takes_threads_is_checked_above() -> None:
    taking = {
        name
        for name, function in inspect.getmembers(kernels, inspect.isfunction)
        if not name.startswith("_") and "threads" in inspect.signature(function).parameters
    }
    assert taking == {name.split(",")[0] for name in KERNELS}


@pytest.fixture
def no_switching() -> Iterator[None]:
    """Threads of Python hand over the lock only when they wait or release it, never because time has passed."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


LOCKED: dict[str, Callable[[Inputs], Any]] = {
    "project": lambda x: kernels.project(x.path, list("abc") * 20, x.directions, threads=1),
    "class_means": lambda x: kernels.class_means(x.path, list("abc") * 20, np.zeros(300, int), threads=1),
    "gram": lambda x: kernels.gram(x.path, list("abc"), threads=1),
    "moments": lambda x: kernels.moments(x.path, ["a"], threads=1),
    "auc": lambda x: kernels.auc(np.tile(x.scores, (50, 20)), np.tile(x.labels, 20), threads=1),
    "average_precision": lambda x: kernels.average_precision(np.tile(x.scores, (50, 20)), np.tile(x.labels, 20)),
    "roc": lambda x: kernels.roc(np.tile(x.scores[0], 500), np.tile(x.labels, 500)),
    "caliper_auc": lambda x: kernels.caliper_auc(
        np.tile(x.scores, 10), np.tile(x.labels, 10), np.tile(x.scores[0], 10), np.zeros(3000, int), 9.0, threads=1
    ),
    "sweep_threshold": lambda x: kernels.sweep_threshold(np.tile(x.scores[0], 500), np.tile(x.labels, 500)),
    "bootstrap": lambda x: kernels.bootstrap("auc", x.scores, x.labels, resamples=5000, threads=1),
    "fit_logistic": lambda x: kernels.fit_logistic(
        x.features, x.labels, np.tile(x.extra, (20, 1, 1)), np.tile(x.extra[:, :, 0] > 0, (20, 1)), threads=1
    ),
}


@pytest.mark.usefixtures("no_switching")
@pytest.mark.parametrize("name", LOCKED)
def test_the_interpreter_runs_on_while_a_kernel_works(inputs: Inputs, name: str) -> None:
    # On a busy machine this thread may not wake before a quick kernel is done; were the lock held, it never would.
    assert any(seen_while_working(lambda: LOCKED[name](inputs)) for _ in range(100))


def seen_while_working(work: Callable[[], Any], act: Callable[[], None] = lambda: None) -> bool:
    """Whether this thread gets to run, and to `act`, while another one is inside `work`."""
    inside = False
    begun = threading.Event()

    def worker() -> None:
        nonlocal inside
        begun.set()
        inside = True
        work()
        inside = False

    thread = threading.Thread(target=worker)
    thread.start()
    begun.wait()
    act()
    seen = inside
    thread.join()
    return seen


@pytest.mark.usefixtures("no_switching")
def test_an_array_may_change_while_a_kernel_works_on_it(inputs: Inputs) -> None:
    scores, labels = np.tile(inputs.scores, 4), np.tile(inputs.labels, 4)
    expected = kernels.bootstrap("auc", scores, labels, resamples=4000, threads=1)
    for _ in range(100):
        own_scores, own_labels = scores.copy(), labels.copy()
        found: list[kernels.Intervals] = []

        def work(scores: Array = own_scores, labels: Array = own_labels, into: list[Any] = found) -> None:
            into.append(kernels.bootstrap("auc", scores, labels, resamples=4000, threads=1))

        def overwrite(scores: Array = own_scores, labels: Array = own_labels) -> None:
            scores[:], labels[:] = 0, ~labels

        if seen_while_working(work, overwrite):
            np.testing.assert_array_equal(found[0].replicates, expected.replicates)
            return
    pytest.fail("the kernel never let this thread run")


def test_arrays_may_be_strided_and_of_narrower_types() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(60, 6)).astype(np.float32), np.arange(120) % 3 == 0
    expected = kernels.auc(np.ascontiguousarray(scores.T[::2], np.float64), labels[:60].copy())
    np.testing.assert_array_equal(kernels.auc(scores.T[::2], np.repeat(labels[:60], 2)[::2]), expected)
    read_only = scores[:, 0]
    read_only.flags.writeable = False
    assert kernels.auc(read_only, labels[:60]) == expected[0]


def test_importing_the_kernels_needs_numpy_alone() -> None:
    code = (
        "import sys; import polygate.kernels; "
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'pyarrow', 'safetensors', 'transformers', 'pydantic'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("threads", [-1, 1.5, None])
def test_a_wrong_number_of_threads_is_named(threads: Any) -> None:
    with pytest.raises(ValueError, match=r"threads is .*, expected an integer ≥ 0"):
        kernels.auc(np.zeros(2), np.array([True, False]), threads=threads)
