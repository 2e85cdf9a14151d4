"""Many networks at once against one at a time in plain numpy: the same numbers, whoever else is there."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polygate.decision.probes import networks
from polygate.decision.probes.networks import (
    BATCH,
    DECAY,
    DROPOUT,
    AdamW,
    Networks,
    Rows,
    Schedule,
    side_by_side,
    train,
    tune,
)

HIDDEN, WIDTH, COUNT = [6, 4], 5, 300
SCHEDULE = Schedule(3, 1e-2)


@pytest.fixture(scope="module")
def rows() -> Rows:
    random = np.random.default_rng(0)
    harmful = random.random(COUNT) < 0.3
    values = random.normal(2.0, 3.0, size=(COUNT, WIDTH)) + 2.0 * harmful[:, None]
    values[:, 4] = 7.0  # A feature that is the same for all.
    return Rows.of(values.astype(np.float32), harmful, torch.device("cpu"))


def members(count: int, size: int = 280) -> NDArray[np.int64]:
    return np.stack([np.random.default_rng([1, n]).permutation(COUNT)[:size] for n in range(count)])


def twin(
    rows: Rows, own: NDArray[np.int64], seed: list[int], schedule: Schedule
) -> tuple[list[NDArray[np.float64]], ...]:
    """One network in float64: its weights and biases by layer, backpropagation and AdamW spelt out."""
    stream = networks._stream(seed, torch.device("cpu"))

    def drawn(*shape: int) -> NDArray[np.float64]:
        return torch.rand(shape, generator=stream).double().numpy()

    x, y = rows.values.double().numpy()[own], rows.harmful.numpy()[own].astype(float)
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation < 1e-6, 1.0, deviation)
    sizes = [WIDTH, *HIDDEN, 1]
    weights = [(2 * drawn(a, b) - 1) / np.sqrt(a) for a, b in pairwise(sizes)]
    biases = [(2 * drawn(1, b) - 1) / np.sqrt(a) for a, b in pairwise(sizes)]
    parameters = [*weights, *biases]
    first, second = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    weight = np.where(y == 1, (y == 0).sum() / (y == 1).sum(), 1.0)
    step = 0
    for _ in range(schedule.epochs):
        order = torch.randperm(len(own), generator=stream).numpy()
        for start in range(0, len(order), BATCH):
            batch, step = order[start : start + BATCH], step + 1
            inputs, masks, hidden = [], [], x[batch]
            for layer in range(len(weights)):
                inputs.append(hidden)
                hidden = hidden @ weights[layer] + biases[layer]
                if layer < len(weights) - 1:
                    mask = (hidden > 0) * (drawn(*hidden.shape) >= DROPOUT) / (1 - DROPOUT)
                    masks.append(mask)
                    hidden = hidden * mask
            slope = (weight[batch] * (1 / (1 + np.exp(-hidden[:, 0])) - y[batch]) / len(batch))[:, None]
            gradients: list[NDArray[np.float64]] = [np.zeros(0)] * len(parameters)
            for layer in reversed(range(len(weights))):
                gradients[layer] = inputs[layer].T @ slope
                gradients[len(weights) + layer] = slope.sum(axis=0, keepdims=True)
                if layer:
                    slope = (slope @ weights[layer].T) * masks[layer - 1]
            for n, gradient in enumerate(gradients):
                first[n] = 0.9 * first[n] + 0.1 * gradient
                second[n] = 0.999 * second[n] + 0.001 * gradient**2
                moved = first[n] / (1 - 0.9**step) / (np.sqrt(second[n] / (1 - 0.999**step)) + 1e-8)
                parameters[n] *= 1 - schedule.rate * DECAY
                parameters[n] -= schedule.rate * moved
    return weights, biases


def test_every_network_is_what_a_loop_in_numpy_makes_of_its_rows(rows: Rows) -> None:
    seeds = [[3, 1], [3, 2]]
    found = train(rows, members(2), HIDDEN, seeds, SCHEDULE)
    for one, (own, seed) in enumerate(zip(members(2), seeds, strict=True)):
        weights, biases = twin(rows, own, seed, SCHEDULE)
        for layer in range(3):
            np.testing.assert_allclose(found.weights[layer][one], weights[layer], atol=2e-4)
            np.testing.assert_allclose(found.biases[layer][one], biases[layer], atol=2e-4)


def test_its_optimiser_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((2, 5, 3), (2, 1, 3))]
    expected = [part.clone().requires_grad_() for part in start]
    theirs, ours = torch.optim.AdamW(expected, lr=1e-2, weight_decay=0.1), AdamW(start, 1e-2, 0.1)
    for _ in range(20):
        for part, gradient in zip(expected, ours.gradients, strict=True):
            part.grad = torch.randn(part.shape, generator=generator)
            gradient.copy_(part.grad)
        theirs.step()
        ours.step()
    for part, own, first in zip(expected, ours.parameters, start, strict=True):
        np.testing.assert_allclose(own.numpy(), part.detach().numpy(), rtol=1e-6, atol=1e-7)
        assert (own - first).abs().max() > 1e-2


def test_a_small_network_is_trained_without_torchs_compiler() -> None:
    program = (
        "import sys, numpy as np, torch\n"
        "from polygate.decision.probes.networks import Rows, Schedule, train\n"
        "rows = Rows.of(np.eye(8, dtype=np.float32), np.arange(8) < 4, torch.device('cpu'))\n"
        "train(rows, np.arange(8)[None], [3], [[0]], Schedule(2, 1e-3)).scores(rows.values)\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_who_else_is_trained_changes_nothing(rows: Rows) -> None:
    seeds = [[0, n] for n in range(5)]
    together = train(rows, members(5), HIDDEN, seeds, SCHEDULE).scores(rows.values)
    alone = [train(rows, members(5)[[n]], HIDDEN, [seeds[n]], SCHEDULE).scores(rows.values)[0] for n in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_rows_that_are_no_members_take_no_part(rows: Rows) -> None:
    own = members(1)
    changed = Rows(rows.values.clone(), rows.harmful.clone())
    outside = np.setdiff1d(np.arange(COUNT), own[0])
    changed.values[outside] += 100.0
    changed.harmful[outside] = ~changed.harmful[outside]
    before, after = (train(given, own, HIDDEN, [[0]], SCHEDULE).scores(rows.values) for given in (rows, changed))
    np.testing.assert_array_equal(before, after)


def test_it_learns_and_weighs_both_classes_alike(rows: Rows) -> None:
    scores = train(rows, np.arange(COUNT)[None], HIDDEN, [[0]], Schedule(60, 1e-2)).scores(rows.values)[0]
    harmful = rows.harmful.numpy()
    hits, alarms = (scores[harmful] > 0).mean(), (scores[~harmful] > 0).mean()
    # Three in ten are harmful: with equal weights for all rows only half of them would be found.
    assert hits > 0.65
    assert alarms < 0.35


def test_tuning_goes_on_from_where_a_network_is_and_leaves_it(rows: Rows) -> None:
    start = train(rows, members(1), HIDDEN, [[0]], SCHEDULE)
    before = start.scores(rows.values)
    kept = tune(start, rows, members(1, 8), [[1]], Schedule(0, 1e-3)).scores(rows.values)
    moved = tune(start, rows, members(1, 8), [[1]], Schedule(20, 1e-3))
    np.testing.assert_array_equal(kept, before)
    np.testing.assert_array_equal(start.scores(rows.values), before)
    assert np.abs(moved.scores(rows.values) - before).max() > 1e-3
    assert torch.equal(moved.mean, start.mean)


def test_small_networks_take_one_thread_and_large_ones_as_many_as_there_are() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with networks.enough_threads([96, 32, 16]):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        with networks.enough_threads([96, 512, 256]):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_networks_with_as_many_rows_go_together_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "SIDE_BY_SIDE", 2)
    assert side_by_side([np.arange(n) for n in (3, 5, 3, 3, 5)]) == [[0, 2], [3], [1, 4]]


def test_joined_networks_are_the_same_networks(rows: Rows) -> None:
    both = train(rows, members(2), HIDDEN, [[0], [1]], SCHEDULE)
    again: Networks = networks.joined([both.pick([1]), both.pick([0])])
    np.testing.assert_array_equal(again.scores(rows.values), both.scores(rows.values)[::-1])
