"""The kernels beside what one would otherwise run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from measuring import Array, Row, measure
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from polygate import kernels
from polygate.representation.store import tensor_name, write_store


def projection(folder: Path) -> Iterator[Row]:
    """Four layers of 2,000 prompts at the width of Qwen2.5-7B in the page cache."""
    names, width = [f"layer.{layer:02d}" for layer in range(4)], 3584
    for dtype, counts in ((torch.bfloat16, (1, 5, 10, 64)), (torch.float16, (5,)), (torch.float32, (5,))):
        path = folder / f"{str(dtype).removeprefix('torch.')}.safetensors"
        save_file({name: torch.randn(2000, width).to(dtype) for name in names}, path)
        size = f"{path.stat().st_size / 1e6:.0f} MB {path.stem}"
        for count in counts:
            directions = np.random.default_rng(count).normal(size=(count, width)).astype(np.float32)
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            yield measure(
                "projection", f"{size}, K = {count}",
                lambda path=path, directions=directions: kernels.project(path, names, directions),
                "torch upcast + matmul",
                lambda path=path, directions=directions: torch_projections(path, names, directions),
                limit=lambda path=path: reading(path), share=0.8 if count <= 10 else None, n=9,
            )  # fmt: skip
    path = folder / "bfloat16.safetensors"
    labels = np.arange(2000) % 2
    yield measure(
        "class means", "57 MB bfloat16",
        lambda: kernels.class_means(path, names, labels),
        "torch float64 mean", lambda: torch_means(path, names, labels), limit=lambda: reading(path),
    )  # fmt: skip
    yield measure(
        "Gram matrix", "2,000 rows of 3,584", lambda: kernels.gram(path, names[:1]),
        "torch float64, X @ X.T in numpy", lambda: numpy_products(path, names[0], rows=True), n=3,
    )  # fmt: skip
    yield measure(
        "covariance", "2,000 rows of 3,584", lambda: kernels.moments(path, names[:1]).covariances()[0],
        "torch float64, centred, X.T @ X in numpy", lambda: numpy_products(path, names[0], rows=False), n=3,
    )  # fmt: skip


def checks(folder: Path) -> Iterator[Row]:
    """What comparing the digests costs: a store beside the same tensors without digests, which nothing is compared of.

    Cold is read from the disk anew each time, warm from the page cache. The goal is 2 % more for reading cold.
    """
    rows, width, layers = 1714, 3584, 14
    names = [tensor_name(layer, "t_post_inst") for layer in range(layers)]
    tensors = {(layer, "t_post_inst"): torch.randn(rows, width).bfloat16() for layer in range(layers)}
    sealed, bare = folder / "sealed.safetensors", folder / "bare.safetensors"
    write_store(sealed, tensors, [str(row) for row in range(rows)], [1] * rows, "en")
    save_file(dict(zip(names, tensors.values(), strict=True)), bare)
    labels, directions = np.arange(rows) % 2, np.eye(5, width, dtype=np.float32)

    def forget() -> None:
        for path in (sealed, bare):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    tasks: dict[str, Callable[[Path], Any]] = {
        "class means": lambda path: kernels.class_means(path, names, labels),
        "projection, K = 5": lambda path: kernels.project(path, names, directions),
    }
    size, peer = f"{sealed.stat().st_size / 1e6:.0f} MB bfloat16", "the same without digests"
    for task, work in tasks.items():
        for state, before, goal in (("cold", forget, 0.98), ("warm", lambda: None, None)):
            yield measure(
                f"{task}, checked", f"{size}, {state}", lambda work=work: work(sealed),
                peer, lambda work=work: work(bare), before=before, times=goal, n=15,
            )  # fmt: skip


def reading(path: Path) -> float:
    """Seconds to read a file in the page cache once: the best of a mapped sum on one or two threads, and `readinto`."""
    words = path.stat().st_size // 8

    def mapped(threads: int) -> None:
        mapping = np.memmap(path, np.uint64, "r", shape=(words,))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.sum, np.array_split(mapping, threads)))

    def copied() -> None:
        buffer = bytearray(1 << 20)
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    times = []
    for _ in range(7):
        for work in (lambda: mapped(1), lambda: mapped(2), copied):
            begun = perf_counter()
            work()
            times.append(perf_counter() - begun)
    return min(median(times[way::3]) for way in range(3))


def torch_projections(path: Path, names: list[str], directions: Array) -> Array:
    """Projections by upcasting to float32."""
    with safe_open(path, "pt") as file:
        return np.stack([(file.get_tensor(name).float() @ torch.from_numpy(directions).T).numpy() for name in names])


def numpy_products(path: Path, name: str, *, rows: bool) -> Array:
    """The Gram matrix of the rows, or the covariance of the columns, in float64 at once."""
    with safe_open(path, "pt") as file:
        values = file.get_tensor(name).double().numpy()
    if rows:
        return values @ values.T
    values -= values.mean(0)
    return values.T @ values / (len(values) - 1)


def torch_means(path: Path, names: list[str], labels: Array) -> Array:
    """Class means by upcasting to float64."""
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name).double() for name in names]
    return np.stack([[tensor[labels == label].mean(0).numpy() for label in (0, 1)] for tensor in tensors])


def ranking() -> Iterator[Row]:
    """25,000 scores, of one language or of 23."""
    random = np.random.default_rng(0)
    labels, groups = random.random(25_000) < 0.5, np.arange(25_000) % 23
    scores = random.normal(size=25_000) + labels
    yield measure(
        "AUC", "25,000", lambda: kernels.auc(scores, labels),
        "scikit-learn", lambda: roc_auc_score(labels, scores), times=10,
    )  # fmt: skip
    yield measure(
        "average precision", "25,000", lambda: kernels.average_precision(scores, labels),
        "scikit-learn", lambda: average_precision_score(labels, scores), times=10,
    )  # fmt: skip
    yield measure(
        "threshold sweep, macro F1", "25,000 in 23 languages",
        lambda: kernels.sweep_threshold(scores, labels, groups).value,
        "numpy, cumulative sums", lambda: numpy_sweep(scores, labels, groups), times=10,
    )  # fmt: skip


def numpy_sweep(scores: Array, labels: Array, groups: Array) -> float:
    """Best macro F1 over all thresholds by cumulative sums per language."""
    order = np.argsort(scores, kind="stable")
    harmful, languages = labels[order], groups[order]
    total = np.zeros(len(scores) + 1)
    for language in np.unique(groups):
        own = languages == language
        lost = np.concatenate([[0], np.cumsum(own & harmful)])
        spared = np.concatenate([[0], np.cumsum(own & ~harmful)])
        hits, alarms = lost[-1] - lost, spared[-1] - spared
        total += 2 * hits / (hits + alarms + lost[-1])
    ends = np.concatenate([[True], np.diff(scores[order]) > 0, [True]])
    return float(total[ends].max() / len(np.unique(groups)))


def bootstrap() -> Iterator[Row]:
    """1,000 resamples of the AUC of one language's test prompts."""
    random = np.random.default_rng(1)
    labels = np.arange(1072) < 572
    scores = random.normal(size=1072) + labels

    def ranked(x: Array, y: Array, axis: int = -1) -> Array:  # noqa: ARG001
        ranks = np.argsort(np.argsort(np.concatenate([x, y], axis=-1), axis=-1), axis=-1)[..., : x.shape[-1]]
        below: Array = (ranks.sum(-1) - x.shape[-1] * (x.shape[-1] - 1) / 2) / (x.shape[-1] * y.shape[-1])
        return below

    def scipy_interval() -> list[float]:
        found = stats.bootstrap(
            (scores[labels], scores[~labels]), ranked, n_resamples=1000, method="percentile", vectorized=True, rng=0
        )
        return [found.confidence_interval.low, found.confidence_interval.high]

    def sklearn_loop() -> list[float]:
        draw, found = np.random.default_rng(0), []
        harmful, harmless = np.flatnonzero(labels), np.flatnonzero(~labels)
        for _ in range(1000):
            rows = np.concatenate([draw.choice(harmful, len(harmful)), draw.choice(harmless, len(harmless))])
            found.append(roc_auc_score(labels[rows], scores[rows]))
        return np.quantile(found, [0.025, 0.975]).tolist()

    def ours() -> list[float]:
        found = kernels.bootstrap("auc", scores, labels)
        return [found.low[0, 0], found.high[0, 0]]

    size = "1,000 resamples, 572 + 500"
    yield measure("bootstrap of AUC", size, ours, "scipy, vectorised", scipy_interval, times=50)
    yield measure("bootstrap of AUC", size, ours, "scikit-learn in a loop", sklearn_loop, times=50, n=3)


def logistic() -> Iterator[Row]:
    """Ten fits on 4,600 source rows and 64 examples of their own, rank 10."""
    random = np.random.default_rng(2)
    source = random.normal(size=(4600, 10))
    labels = source[:, 0] + random.normal(size=4600) > 0.3
    extra = random.normal(size=(10, 64, 10))
    own = extra[:, :, 0] > 0

    def rows(index: int) -> tuple[Array, Array]:
        x = np.concatenate([source, extra[index]])
        return (x - x.mean(0)) / x.std(0), np.concatenate([labels, own[index]])

    def torch_fits() -> Array:
        return np.stack([torch_fit(*rows(index)) for index in range(10)])

    def sklearn_fits() -> Array:
        found = []
        for index in range(10):
            x, y = rows(index)
            model = LogisticRegression(C=100, class_weight={True: (~y).sum() / y.sum(), False: 1}, tol=1e-8)
            found.append(model.fit(x, y).coef_[0])
        return np.stack(found)

    size = "10 fits of 4,664 × 10"
    yield measure(
        "logistic, AdamW", size, lambda: kernels.fit_logistic(source, labels, extra, own, solver="adamw").weights,
        "torch, 80 epochs each", torch_fits, times=20, n=3,
    )  # fmt: skip
    yield measure(
        "logistic, converged", size, lambda: kernels.fit_logistic(source, labels, extra, own).weights,
        "scikit-learn (lbfgs)", sklearn_fits,
    )  # fmt: skip


def torch_fit(features: Array, labels: Array) -> Array:
    """The paper's optimiser."""
    x, y = torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.float32))
    weights, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.AdamW([weights, bias], lr=0.05, weight_decay=0.01)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())
    for _ in range(80):
        optimiser.zero_grad()
        loss(x @ weights + bias, y).backward()
        optimiser.step()
    found: Array = weights.detach().numpy()
    return found
