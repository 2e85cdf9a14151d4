"""Slow, obvious twins of the kernels: definitions written out with loops, to be right rather than fast."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]


def bfloat16(values: Array) -> Array:
    """Float32 values that bfloat16 can hold: the lower 16 bits cut off."""
    return (np.asarray(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def write_store(path: Path, tensors: Mapping[str, Array], dtype: str = "F32") -> None:
    """A safetensors file written by hand; `dtype` BF16 keeps the upper halves of float32 values."""
    kinds: dict[str, Any] = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    header, data = {}, b""
    for name, values in tensors.items():
        if dtype == "BF16":
            raw = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = np.ascontiguousarray(values, kinds[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_raw_store(path, header, data)


def write_raw_store(path: Path, header: Mapping[str, Any] | str, data: bytes, length: int | None = None) -> None:
    """A file with any header, honest or not."""
    import json

    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def write_shards(folder: Path, tensors: Mapping[str, Array], ends: Sequence[int], dtype: str = "F32") -> list[Path]:
    """Stores of rows up to each of `ends`, in order."""
    paths = [folder / f"shard.{index}" for index in range(len(ends))]
    for path, first, end in zip(paths, (0, *ends), ends, strict=False):
        write_store(path, {name: values[first:end] for name, values in tensors.items()}, dtype)
    return paths


def auc(scores: Array, labels: Array, weights: Array | None = None) -> float:
    """Weight of the pairs won, ties half, over the weight of all pairs."""
    weights = np.ones(len(scores)) if weights is None else weights
    won = total = 0.0
    for i in np.flatnonzero(labels):
        for j in np.flatnonzero(~labels):
            pair = weights[i] * weights[j]
            total += pair
            won += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else float("nan")


def placements(scores: Array, labels: Array) -> Array:
    """For each row the share of the other class that it stands on the right side of, ties half."""
    found = []
    for score, label in zip(scores, labels, strict=True):
        others = scores[labels != label]
        right = others < score if label else others > score
        found.append((right.sum() + 0.5 * (others == score).sum()) / len(others))
    return np.array(found)


def average_precision(scores: Array, labels: Array, weights: Array | None = None) -> float:
    """Sum over distinct thresholds, from the top, of recall gained × precision."""
    weights = np.ones(len(scores)) if weights is None else weights
    positives = weights[labels].sum()
    result, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        if weights[flagged].sum() == 0:
            continue
        hits = weights[flagged & labels].sum()
        result += (hits / positives - recall) * hits / weights[flagged].sum()
        recall = hits / positives
    return float(result)


def caliper_auc(scores: Array, labels: Array, covariate: Array, stratum: Array, caliper: float) -> tuple[float, int]:
    """AUC over the pairs that are alike."""
    won = pairs = 0.0
    for i in np.flatnonzero(labels):
        for j in np.flatnonzero(~labels):
            if stratum[i] == stratum[j] and abs(covariate[i] - covariate[j]) <= caliper:
                pairs += 1
                won += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    return (won / pairs if pairs else float("nan")), int(pairs)


def f1(decisions: Array, labels: Array, weights: Array | None = None) -> float:
    """2·tp / (2·tp + fp + fn)."""
    weights = np.ones(len(labels)) if weights is None else weights
    hits = weights[decisions & labels].sum()
    return float(2 * hits / (weights[decisions].sum() + weights[labels].sum()))


def balanced_accuracy(decisions: Array, labels: Array, weights: Array | None = None) -> float:
    """Mean of the classes' accuracies."""
    weights = np.ones(len(labels)) if weights is None else weights
    harmful = weights[labels & decisions].sum() / weights[labels].sum()
    harmless = weights[~labels & ~decisions].sum() / weights[~labels].sum()
    return float((harmful + harmless) / 2)


def objective(
    name: str, scores: Array, labels: Array, groups: Array, threshold: float, weights: Array | None = None
) -> float:
    """Mean over groups of the objective at a threshold."""
    weights = np.ones(len(labels)) if weights is None else weights
    values = []
    for group in np.unique(groups):
        here = groups == group
        decisions, harmful, own = scores[here] > threshold, labels[here], weights[here]
        if name == "macro_f1":
            values.append(f1(decisions, harmful, own))
        elif name == "balanced_f1":
            halves = np.where(harmful, 0.5 / own[harmful].sum(), 0.5 / own[~harmful].sum())
            values.append(f1(decisions, harmful, own * halves))
        else:
            values.append(balanced_accuracy(decisions, harmful, own))
    return float(np.mean(values))


def candidates(scores: Array) -> list[float]:
    """The float below the lowest score, midpoints between neighbouring distinct scores, the float above the highest."""
    distinct = np.unique(scores)
    ends = [float(np.nextafter(distinct[0], -np.inf)), float(np.nextafter(distinct[-1], np.inf))]
    return [ends[0], *((a + b) / 2 for a, b in pairwise(distinct.tolist())), ends[1]]


def metric(statistic: str, values: Array, labels: Array | None, weights: Array) -> float:
    """A metric on weighted rows; weights may be how often a row was drawn."""
    if statistic == "rate":
        return float(np.average(values, weights=weights))
    assert labels is not None
    if statistic == "auc":
        return auc(values, labels, weights)
    if statistic == "average_precision":
        return average_precision(values, labels, weights)
    if statistic == "f1":
        return f1(values == 1, labels, weights)
    if statistic == "balanced_accuracy":
        return balanced_accuracy(values == 1, labels, weights)
    return float(
        np.average(values[labels], weights=weights[labels]) - np.average(values[~labels], weights=weights[~labels])
    )


def bca(replicates: Array, estimate: float, left_out: list[Array], confidence: float) -> tuple[float, float]:
    """Efron's interval; `left_out` holds, per stratum, the metric without each unit."""
    bias = stats.norm.ppf((np.sum(replicates < estimate) + np.sum(replicates <= estimate)) / (2 * len(replicates)))
    influence = [(len(values) - 1) * (values.mean() - values) / len(values) for values in left_out]
    cubes, squares = sum((u**3).sum() for u in influence), sum((u**2).sum() for u in influence)
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + stats.norm.ppf(tail)
        ends.append(np.quantile(replicates, stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))))
    return float(ends[0]), float(ends[1])


def influences(statistic: str, values: Array, labels: Array) -> Array:
    """What each row adds to a metric, to first order."""
    if statistic == "rate":
        return (values - values.mean()) / len(values)
    found = placements(values, labels) if statistic == "auc" else np.asarray(values, float)
    means = np.where(labels, found[labels].mean(), found[~labels].mean())
    sizes = np.where(labels, labels.sum(), (~labels).sum())
    signs = np.where(labels | (statistic == "auc"), 1.0, -1.0)
    return signs * (found - means) / sizes * (0.5 if statistic == "balanced_accuracy" else 1.0)


def standard_error(sums: Array, labels: Array) -> float:
    """Of a metric to which each cluster adds one of `sums`, the classes being independent samples."""
    return float(np.sqrt(sum(len(part) * part.var(ddof=1) for part in (sums[labels], sums[~labels]) if len(part) > 1)))


def studentized(
    replicates: Array, errors: Array, estimate: float, error: float, confidence: float
) -> tuple[float, float]:
    """The bootstrap-t interval."""
    if error == 0:
        return estimate, estimate
    kept = (errors > 1e-9 * error) & ~np.isnan(replicates)
    pivots = (replicates[kept] - estimate) / errors[kept]
    upper, lower = np.quantile(pivots, [(1 + confidence) / 2, (1 - confidence) / 2])
    return float(estimate - upper * error), float(estimate - lower * error)


def adamw(features: Array, labels: Array, initial: Array, epochs: int = 80) -> tuple[Array, float]:
    """The paper's epochs with torch in float64."""
    import torch

    torch.set_num_threads(1)
    x, y = torch.tensor(features, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    weights = torch.tensor(initial, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.AdamW([weights, bias], lr=0.05, weight_decay=0.01)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=(1 - y).sum() / y.sum())
    for _ in range(epochs):
        optimiser.zero_grad()
        loss(x @ weights + bias, y).backward()
        optimiser.step()
    return weights.detach().numpy(), float(bias.detach())


def network(features: Array, labels: Array, test: Array, hidden: int, seed: int) -> Array:
    """Log odds of `test` by a hidden layer of ReLUs: 40 full-batch epochs of torch's Adam, learning rate .01, with
    scikit-learn's penalty (1e-4) and first weights (Glorot-uniform, drawn layer by layer)."""
    import torch

    random = np.random.RandomState(seed)
    shapes = [(features.shape[1], hidden), (hidden, 1)]
    weights, biases = [], []
    for shape in shapes:
        bound = np.sqrt(6 / sum(shape))
        weights.append(torch.tensor(random.uniform(-bound, bound, shape), requires_grad=True))
        biases.append(torch.tensor(random.uniform(-bound, bound, shape[1]), requires_grad=True))

    def logits(x: Array) -> Any:
        return (torch.relu(torch.tensor(x) @ weights[0] + biases[0]) @ weights[1] + biases[1])[:, 0]

    optimiser = torch.optim.Adam([*weights, *biases], lr=0.01)
    for epoch in range(1, 41):
        # Scikit-learn has Kingma & Ba's faster form (end of section 2): epsilon beside the root that is not corrected.
        optimiser.param_groups[0]["eps"] = 1e-8 / np.sqrt(1 - 0.999**epoch)
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(features), torch.tensor(labels * 1.0))
        (loss + 0.5e-4 * sum((w**2).sum() for w in weights) / len(features)).backward()
        optimiser.step()
    return np.asarray(logits(test).detach().numpy())
