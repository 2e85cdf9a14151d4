"""Small networks for a yes or no, many trained side by side: the classifier of OMNIGuard.

Layers of rectified units with dropout on features standardised on the network's own rows; AdamW (Loshchilov & Hutter
2019) in shuffled batches on a class-balanced loss (negatives / positives as weight of the harmful rows). Side by side
means one product per layer for all of them: beyond rounding, what a network becomes doesn't depend on which others are
there, for each has random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH, DROPOUT, DECAY = 256, 0.1, 1e-3
SIDE_BY_SIDE = 32
"""At most so many networks are trained at once: with their moments they must fit the device."""


SMALL = 1e7
"""Products of a batch in a network's widest layer. Below it threads of torch wait for each other busily, and longer
than they work: on two busy cores the demo's networks took ten times the CPU seconds of a single thread."""


@contextmanager
def enough_threads(sizes: Sequence[int]) -> Iterator[None]:
    """One thread of torch, within the context, where networks with layers of these `sizes` are small."""
    before = torch.get_num_threads()
    if BATCH * max(a * b for a, b in pairwise(sizes)) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: epochs over all rows, and the learning rate."""

    epochs: int
    rate: float


@dataclass(frozen=True)
class Rows:
    """What networks are trained on: `values` float32 [n, d], `harmful` bool [n], on the same device."""

    values: Tensor
    harmful: Tensor

    @classmethod
    def of(cls, values: NDArray[np.float32], harmful: NDArray[np.bool_], device: torch.device) -> Rows:
        """From arrays."""
        return cls(torch.from_numpy(values).to(device), torch.from_numpy(harmful).to(device))


@dataclass(frozen=True)
class Networks:
    """k networks: `mean`, `scale` [k, 1, d] of features; `weights` [k, in, out] and `biases` [k, 1, out] by layer."""

    mean: Tensor
    scale: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.mean)

    def pick(self, which: Sequence[int]) -> Networks:
        """Some of them, in this order."""
        at = list(which)
        return Networks(
            self.mean[at], self.scale[at], tuple(w[at] for w in self.weights), tuple(b[at] for b in self.biases)
        )

    @torch.inference_mode()
    def scores(self, values: Tensor) -> NDArray[np.float64]:
        """Harmful log odds float64 [k, n] of rows `values` float32 [n, d], on the same device."""
        found = []
        for one in range(len(self)):
            alone = self.pick([one])
            logits = _forward(alone, ((values - alone.mean[0]) / alone.scale[0])[None])[-1]
            found.append(logits[0, :, 0].double().cpu())
        return np.stack([np.asarray(score) for score in found])


def side_by_side(members: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """Which networks to train at once, by their places in `members`: those with equally many rows."""
    alike: dict[int, list[int]] = {}
    for place, rows in enumerate(members):
        alike.setdefault(len(rows), []).append(place)
    return [
        places[first : first + SIDE_BY_SIDE]
        for places in alike.values()
        for first in range(0, len(places), SIDE_BY_SIDE)
    ]


def joined(networks: Sequence[Networks]) -> Networks:
    """Networks of the same shape as one batch, in this order."""
    return Networks(
        torch.cat([one.mean for one in networks]),
        torch.cat([one.scale for one in networks]),
        tuple(torch.cat(layer) for layer in zip(*(one.weights for one in networks), strict=True)),
        tuple(torch.cat(layer) for layer in zip(*(one.biases for one in networks), strict=True)),
    )


def train(
    rows: Rows, members: NDArray[np.int64], hidden: Sequence[int], seeds: Sequence[Sequence[int]], schedule: Schedule
) -> Networks:
    """New networks, one per line of `members` [k, m], the rows it is trained on, with `seeds` and `hidden` units."""
    at = torch.from_numpy(members).to(rows.values.device)
    streams = [_stream(seed, rows.values.device) for seed in seeds]
    means, scales = zip(*(_standard(rows.values[one]) for one in at), strict=True)
    sizes = [rows.values.shape[1], *hidden, 1]
    weights = tuple(_uniform(streams, a, (a, b)) for a, b in pairwise(sizes))
    biases = tuple(_uniform(streams, a, (1, b)) for a, b in pairwise(sizes))
    return _trained(Networks(torch.stack(means), torch.stack(scales), weights, biases), rows, at, streams, schedule)


def tune(
    start: Networks, rows: Rows, members: NDArray[np.int64], seeds: Sequence[Sequence[int]], schedule: Schedule
) -> Networks:
    """Networks trained further, each on its line of `members` [k, m], on the features that they have."""
    at = torch.from_numpy(members).to(rows.values.device)
    return _trained(start, rows, at, [_stream(seed, rows.values.device) for seed in seeds], schedule)


@torch.inference_mode()
def _trained(
    start: Networks, rows: Rows, members: Tensor, streams: Sequence[torch.Generator], schedule: Schedule
) -> Networks:
    trained = AdamW((*start.weights, *start.biases), schedule.rate, DECAY)
    layers = len(start.weights)
    networks = Networks(start.mean, start.scale, trained.parameters[:layers], trained.parameters[layers:])
    labels = rows.harmful[members]
    positives = labels.sum(dim=1, keepdim=True)
    balance = (labels.shape[1] - positives) / positives
    for _ in range(schedule.epochs):
        order = torch.stack([torch.randperm(members.shape[1], generator=s, device=s.device) for s in streams])
        for batch in torch.split(order, BATCH, dim=1):
            harmful = labels.gather(1, batch)
            features = rows.values.index_select(0, members.gather(1, batch).flatten()).view(*batch.shape, -1)
            values = _forward(networks, features.sub_(start.mean).div_(start.scale), streams)
            weight = torch.where(harmful, balance, 1.0) / batch.shape[1]
            slope = (values.pop()[:, :, 0].sigmoid() - harmful.float()) * weight
            _backward(networks, values, slope[:, :, None], trained.gradients)
            trained.step()
    return networks


class AdamW:
    """AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW` does it, on `parameters` that lie in one tensor.

    Fill `gradients`, of the same shapes, then `step`. Torch's own brings in its compiler, which takes longer to import
    than small networks to train.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Sequence[Tensor], rate: float, decay: float) -> None:
        self.rate, self.decay, self.steps = rate, decay, 0
        self._flat = torch.cat([part.flatten() for part in parameters])
        self._slope, self._first, self._second = (torch.zeros_like(self._flat) for _ in range(3))
        self.parameters, self.gradients = (_like(parameters, flat) for flat in (self._flat, self._slope))

    def step(self) -> None:
        """Move the parameters against the gradients."""
        self.steps += 1
        self._flat.mul_(1 - self.rate * self.decay)
        self._first.lerp_(self._slope, 1 - self.BETA1)
        self._second.mul_(self.BETA2).addcmul_(self._slope, self._slope, value=1 - self.BETA2)
        root = self._second.sqrt().div_((1 - self.BETA2**self.steps) ** 0.5).add_(self.EPSILON)
        self._flat.addcdiv_(self._first, root, value=-self.rate / (1 - self.BETA1**self.steps))


def _like(parts: Sequence[Tensor], flat: Tensor) -> tuple[Tensor, ...]:
    """Views of a tensor of all their numbers, in the shapes of `parts`."""
    views = torch.split(flat, [part.numel() for part in parts])
    return tuple(view.view(part.shape) for view, part in zip(views, parts, strict=True))


def _forward(networks: Networks, features: Tensor, streams: Sequence[torch.Generator] | None = None) -> list[Tensor]:
    """What each layer reads, `features` [k, n, d] first, then logits [k, n, 1]; with `streams`, units are dropped."""
    values = [features]
    for layer, (weight, bias) in enumerate(zip(networks.weights, networks.biases, strict=True)):
        found = torch.baddbmm(bias, values[-1], weight)
        if layer < len(networks.weights) - 1:
            found.relu_()
            if streams is not None:
                drawn = torch.empty_like(found)
                for own, stream in zip(drawn, streams, strict=True):
                    own.uniform_(generator=stream)
                found.mul_(drawn >= DROPOUT).mul_(1 / (1 - DROPOUT))
        values.append(found)
    return values


def _backward(networks: Networks, values: Sequence[Tensor], slope: Tensor, gradients: Sequence[Tensor]) -> None:
    """Write the gradients of weights, then biases, from what each layer read and the slope [k, n, 1] at the logits."""
    layers = len(networks.weights)
    for layer in reversed(range(layers)):
        torch.bmm(values[layer].mT, slope, out=gradients[layer])
        torch.sum(slope, dim=1, keepdim=True, out=gradients[layers + layer])
        if layer:
            # A unit that says nothing is one below zero or one dropped: neither passes anything on.
            slope = torch.bmm(slope, networks.weights[layer].mT).mul_(values[layer] > 0).mul_(1 / (1 - DROPOUT))


def _standard(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [1, d] of rows [n, d]; the deviation of a constant feature counts as 1."""
    mean = values.mean(dim=0, keepdim=True, dtype=torch.float64)
    wide = values.double()
    scale = ((wide - mean) ** 2).mean(dim=0, keepdim=True).sqrt()
    scale = torch.where(scale <= 1e-6 * mean.abs(), 1.0, scale)
    return mean.float(), torch.where(scale == 0, 1.0, scale).float()


def _stream(seed: Sequence[int], device: torch.device) -> torch.Generator:
    number = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device=device).manual_seed(number)


def _uniform(streams: Sequence[torch.Generator], inputs: int, shape: tuple[int, int]) -> Tensor:
    """First weights, uniform within ±1/√inputs."""
    bound = inputs**-0.5
    drawn = [torch.rand(shape, generator=stream, device=stream.device) for stream in streams]
    found: Tensor = (2 * torch.stack(drawn) - 1) * bound
    return found
