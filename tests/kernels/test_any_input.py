"""No input may panic, abort or give a number that its shapes don't support; Ctrl-C ends a kernel soon."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kernels.twins import write_store
from polygate import kernels

REFUSED = (ValueError, TypeError, MemoryError, OSError)
"""What a kernel may answer to what it can't use: never a panic, which is no Exception at all."""

shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
dtypes = st.sampled_from(["f8", "f4", "f2", ">f8", "i8", "i4", "u8", "?", "c16", "O", "U3", "M8[s]"])
extremes = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.0, 5e-324, 1e308, -1e308, np.inf, -np.inf, np.nan])
counts = st.sampled_from([0, 1, 2, 7, -1, 10**7 + 1, 2**31, 2**40, 2**62, 2**64, 10**30, 1.5, None, "2", True])
threads = st.sampled_from([0, 1, 2, 2**31, 2**62, -1])


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Any array: of any type and shape, full of extremes, strided, turned, or not an array at all."""
    dtype = np.dtype(draw(dtypes))
    shape = draw(shapes)
    if dtype.kind == "f":
        values = draw(hnp.arrays(np.float64, shape, elements=extremes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = values.astype(dtype)
    elif dtype.kind in "iu":
        values = draw(hnp.arrays(dtype, shape, elements=st.integers(0 if dtype.kind == "u" else -3, 5)))
    else:
        values = np.zeros(shape, dtype)
    if draw(st.booleans()):
        values = values.T
    if values.ndim and draw(st.booleans()):
        values = values[::-2]
    return draw(st.sampled_from([values, values.tolist()])) if draw(st.booleans()) else values


@st.composite
def labels(draw: st.DrawFn) -> Any:
    """Labels of few rows, bytes beyond 1 among them, or anything else."""
    size = draw(st.integers(0, 8))
    given = draw(st.lists(st.sampled_from([0, 1, 1, 2, 255]), min_size=size, max_size=size))
    return draw(st.one_of(st.just(np.array(given, np.uint8).view(bool)), arrays()))


@st.composite
def scores_for(draw: st.DrawFn) -> tuple[Any, Any]:
    """Scores and labels that fit more often than chance would have it."""
    own = draw(labels())
    size = np.shape(own)[-1] if np.ndim(own) else 1
    fitting = hnp.arrays(np.float64, st.sampled_from([(size,), (3, size), (size, 2), (2 * size,)]), elements=extremes)
    return draw(st.one_of(fitting, arrays())), own


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def answers(call: Callable[[], Any]) -> Any:
    """What a kernel gives, None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except REFUSED:
            return None


anything = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@anything
@given(scores_for(), optional(arrays()), threads)
def test_ranking_kernels_take_what_fits_and_refuse_the_rest(rows: tuple[Any, Any], weights: Any, threads: int) -> None:
    scores, own = rows
    for kernel in (kernels.auc, kernels.average_precision):
        found = answers(lambda kernel=kernel: kernel(scores, own, weights, threads=threads))  # type: ignore[misc]
        assert found is None or np.shape(found) == np.shape(scores)[:-1]
        assert found is None or np.shape(scores)[-1] == len(own)
    placed = answers(lambda: kernels.placements(scores, own, threads=threads))
    assert placed is None or placed.shape == np.shape(scores)
    curve = answers(lambda: kernels.roc(scores, own, weights))
    assert curve is None or np.shape(scores) == (len(own),)


@anything
@given(scores_for(), arrays(), arrays(), st.one_of(extremes, st.none(), st.just("1")), threads)
def test_caliper_auc_takes_what_fits_and_refuses_the_rest(
    rows: tuple[Any, Any], covariate: Any, stratum: Any, caliper: Any, threads: int
) -> None:
    found = answers(lambda: kernels.caliper_auc(rows[0], rows[1], covariate, stratum, caliper, threads=threads))
    assert found is None or np.shape(rows[0])[-1] == len(rows[1]) == len(covariate) == len(stratum)


@anything
@given(scores_for(), optional(arrays()), optional(arrays()), st.sampled_from([*get_args(kernels.Objective), "x", 3]))
def test_thresholds_take_what_fits_and_refuse_the_rest(
    rows: tuple[Any, Any], groups: Any, weights: Any, objective: Any
) -> None:
    found = answers(lambda: kernels.sweep_threshold(rows[0], rows[1], groups, objective, weights))
    assert found is None or np.shape(found.threshold) == np.shape(rows[0])[:-1]
    assert found is None or np.shape(rows[0])[-1] == len(rows[1])


@anything
@given(
    scores_for(),
    st.sampled_from([*get_args(kernels.Statistic), "median"]),
    st.fixed_dictionaries(
        {},
        optional={
            "groups": arrays(),
            "clusters": arrays(),
            "weights": arrays(),
            "average": st.sampled_from([*get_args(kernels.Average), ""]),
            "reference": counts,
            "resamples": counts,
            "confidence": st.one_of(extremes, st.just(0.95)),
            "interval": st.sampled_from([*get_args(kernels.Interval), "normal"]),
            "seed": counts,
            "threads": threads,
        },
    ),
)
def test_the_bootstrap_takes_what_fits_and_refuses_the_rest(
    rows: tuple[Any, Any], statistic: Any, options: dict[str, Any]
) -> None:
    found = answers(lambda: kernels.bootstrap(statistic, rows[0], rows[1], **{"resamples": 20, **options}))
    assert found is None or np.shape(rows[0])[-1] == len(rows[1])


@anything
@given(
    arrays(), labels(), optional(arrays()), optional(arrays()), optional(arrays()), optional(arrays()),
    st.sampled_from([*get_args(kernels.Solver), "sgd"]),
)  # fmt: skip
def test_logistic_fits_take_what_fits_and_refuse_the_rest(
    source: Any, own: Any, extra: Any, extra_labels: Any, extra_rows: Any, initial: Any, solver: Any
) -> None:
    found = answers(
        lambda: kernels.fit_logistic(
            source, own, extra, extra_labels, extra_rows=extra_rows, initial=initial, solver=solver
        )
    )
    assert found is None or len(own) == len(source)


@anything
@given(arrays(), st.sampled_from([["a"], ["a", "b"], ["c"], [], ["missing"], "ab", ["a"] * 3]), threads)
def test_store_kernels_take_what_fits_and_refuse_the_rest(
    tmp_path_factory: pytest.TempPathFactory, own: Any, names: Any, threads: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-input"
    if not path.exists():
        write_store(path, {"a": np.ones((4, 3)), "b": np.ones((4, 3)), "c": np.ones((2, 5))})
    for paths in (path, [path, path], []):
        answers(lambda paths=paths: kernels.project(paths, names, own, threads=threads))  # type: ignore[misc]
        answers(lambda paths=paths: kernels.class_means(paths, names, own, threads=threads))  # type: ignore[misc]
        answers(lambda paths=paths: kernels.moments(paths, names, own, threads=threads))  # type: ignore[misc]
        answers(lambda paths=paths: kernels.gram(paths, names, threads=threads))  # type: ignore[misc]


@anything
@given(st.one_of(extremes, counts), st.one_of(extremes, counts), st.one_of(extremes, counts))
def test_wilson_takes_what_fits_and_refuses_the_rest(successes: Any, n: Any, confidence: Any) -> None:
    found = answers(lambda: kernels.wilson(successes, n, confidence))
    assert found is None or 0 <= found[0] <= found[1] <= 1


@pytest.mark.parametrize(
    ("scores", "labels"), [(np.zeros((40, 2)), np.arange(40) % 2 == 0), (np.zeros(80), np.arange(40) % 2 == 0)]
)
def test_scores_whose_last_axis_is_not_that_of_the_labels_are_refused(scores: Any, labels: Any) -> None:
    """A multiple of as many scores as labels would give numbers: of rows that belong to other prompts."""
    last = scores.shape[-1]
    told = f"scores have {last} entries in the last axis, expected 40 as labels"
    zeros = np.zeros(40)
    calls: list[Callable[[], Any]] = [
        lambda: kernels.auc(scores, labels),
        lambda: kernels.average_precision(scores, labels),
        lambda: kernels.placements(scores, labels),
        lambda: kernels.sweep_threshold(scores, labels),
        lambda: kernels.caliper_auc(scores, labels, zeros, zeros.astype(int), 1.0),
    ]
    if scores.ndim == 1:
        calls.append(lambda: kernels.roc(scores, labels))
    for call in calls:
        with pytest.raises(ValueError, match=told):
            call()
    with pytest.raises(ValueError, match=f"labels has 40 entries, expected {last} as columns of values"):
        kernels.bootstrap("auc", scores, labels)


@pytest.mark.parametrize("argument", ["scores", "labels", "weights"])
def test_masked_entries_are_refused(argument: str) -> None:
    """What is masked still holds a number, and kernels would use it."""
    rows: dict[str, Any] = {
        "scores": np.array([0.1, 0.4, 0.4, 0.9]),
        "labels": np.array([False, False, True, True]),
        "weights": np.ones(4),
    }
    rows[argument] = np.ma.array(rows[argument], mask=[0, 0, 0, 1])
    with pytest.raises(ValueError, match=f"{argument} has masked entries"):
        kernels.auc(**rows)
    rows[argument].mask = False
    assert kernels.auc(**rows) == 0.875


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_integers_that_float64_cannot_tell_apart_are_refused(dtype: str) -> None:
    labels = np.array([False, True])
    assert kernels.auc(np.array([2**53 - 1, 2**53], dtype), labels) == 1.0
    with pytest.raises(ValueError, match="scores holds integers beyond 2⁵³"):
        kernels.auc(np.array([2**53, 2**53 + 1], dtype), labels)


@given(st.integers(-1070, 1000), st.integers(0, 2**32))
def test_only_ratios_of_weights_matter_however_large_or_small_they_are(exponent: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores, labels = draw.normal(size=20).round(1), np.arange(20) % 2 == 0
    weights = draw.integers(1, 16, 20).astype(float)
    scaled = np.ldexp(weights, exponent)
    for kernel in (kernels.auc, kernels.average_precision):
        assert kernel(scores, labels, scaled) == kernel(scores, labels, weights)
    ours, theirs = (kernels.sweep_threshold(scores, labels, weights=each) for each in (scaled, weights))
    assert (ours.threshold, ours.value) == (theirs.threshold, theirs.value)


@pytest.mark.parametrize("resamples", [10**7 + 1, 2**40, 2**62])
def test_resamples_beyond_use_are_refused(resamples: int) -> None:
    with pytest.raises(ValueError, match=f"resamples is {resamples}, expected 1 … 10000000"):
        kernels.bootstrap("rate", np.zeros(4), resamples=resamples)


def test_a_result_beyond_memory_is_refused() -> None:
    with pytest.raises(MemoryError, match="the bootstrap takes 240000000000000 bytes, more than there is memory"):
        kernels.bootstrap("rate", np.zeros((3000, 1000)), groups=np.arange(1000), resamples=10**7)


LONG = {
    "bootstrap": "kernels.bootstrap('auc', x, y, resamples=10**6, threads={threads})",
    "studentized": "kernels.bootstrap('rate', x, y, resamples=10**6, interval='studentized', threads={threads})",
    "sweep": "kernels.sweep_threshold(np.tile(x, (400, 20)), np.tile(y, 20), threads={threads})",
    "adamw": "kernels.fit_logistic(x.T, y, np.ones((3000, 64, 40)), np.ones((3000, 64), bool), solver='adamw', "
    "threads={threads})",
    "caliper": "kernels.caliper_auc(np.tile(x, 100), np.tile(y, 100), np.zeros(200000), np.zeros(200000, int), 1.0, "
    "threads={threads})",
    "project": "kernels.project([path] * 2000, ['a'] * 5, np.ones((20, 2000)), threads={threads})",
}
RUN = """
import sys, threading, time, os, signal
import numpy as np
from polygate import kernels
path = sys.argv[1]
# A shell that starts something in the background has it ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
x, y = np.random.default_rng(0).normal(size=(40, 2000)), np.arange(2000) % 2 == 0
def interrupt():
    time.sleep(0.5)
    sent.append(time.process_time())
    os.kill(os.getpid(), signal.SIGINT)
sent = []
while True:
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        while True:
            {call}
    except KeyboardInterrupt:
        print(time.process_time() - sent[-1])
        break
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LONG)
def test_ctrl_c_ends_a_kernel_within_two_seconds(name: str, threads: int, tmp_path: Path) -> None:
    """Of its own work, so that a busy machine doesn't matter."""
    write_store(tmp_path / "a", {"a": np.ones((200, 2000))})
    code = RUN.replace("{call}", LONG[name].replace("{threads}", str(threads)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2 * threads


def test_a_handler_that_does_not_raise_lets_a_kernel_go_on() -> None:
    code = (
        "import numpy as np, os, signal, threading; from polygate import kernels\n"
        "seen = []; signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()\n"
        "while not seen: found = kernels.bootstrap('rate', np.zeros((40, 2000)), resamples=20000, threads=2)\n"
        "assert (found.estimate == 0).all() and len(found.replicates) == 20000"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
