"""No two local processes share a GPU, and a scheduler's choice is left alone."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from polygate.errors import PolygateError
from polygate.model import device


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a process of its own, with no scheduler and no GPU taken."""
    monkeypatch.setattr(device, "_held", [])
    for name in device.SCHEDULERS:
        monkeypatch.delenv(name, raising=False)
    yield
    for file in device._held:
        file.close()


def test_a_local_process_takes_a_free_gpu_within_its_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with (tmp_path / "3.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        device.acquire(tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    device.acquire(tmp_path)
    assert len(device._held) == 1, "a second model of the same process stays on its GPU"


def test_it_waits_while_all_are_taken(tmp_path: Path) -> None:
    other = (tmp_path / "0.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    release = threading.Timer(0.1, other.close)
    release.start()
    assert device.take_one(["0"], tmp_path, poll=0.01) == "0"
    assert other.closed


@pytest.mark.parametrize("scheduler", device.SCHEDULERS)
def test_a_scheduler_chooses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheduler: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv(scheduler, "17")
    device.acquire(tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert list(tmp_path.iterdir()) == []


def test_without_gpus_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.acquire(tmp_path).type == "cpu"
    assert list(tmp_path.iterdir()) == []


def test_every_gpu_of_the_machine_where_no_list_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "absent")
    assert device.visible() == []
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "gpus")
    assert device.visible() == ["0", "1"]


def exhaust() -> None:
    with device.memory_limit(123):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_says_what_to_lower() -> None:
    with pytest.raises(PolygateError, match=r"123 tokens .* lower the model's batch_tokens"):
        exhaust()
