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
from polygate.forward import device


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a process of its own, with no scheduler and no GPU taken."""
    monkeypatch.setattr(device, "_held", [])
    for name in device.SCHEDULERS:
        monkeypatch.delenv(name, raising=False)
    yield
    for lock in device._held:
        lock.release()


def test_a_local_process_takes_a_free_gpu_within_its_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with (tmp_path / "3.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        device.acquire(folder=tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    device.acquire(folder=tmp_path)
    assert len(device._held) == 1, "a second model of the same process stays on its GPU"


def test_it_waits_while_all_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    other = (tmp_path / "0.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    release = threading.Timer(0.1, other.close)
    release.start()
    device.acquire(folder=tmp_path, poll=0.01)
    assert other.closed


@pytest.mark.parametrize("scheduler", device.SCHEDULERS)
def test_a_scheduler_chooses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheduler: str) -> None:
    """The one GPU of a step is left alone: under control groups every job calls its own 0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv(scheduler, "17")
    device.acquire(folder=tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device.acquire(folder=tmp_path)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "what the scheduler did not give is not taken"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheduler", device.SCHEDULERS)
def test_processes_share_out_the_gpus_of_an_allocation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheduler: str
) -> None:
    monkeypatch.setenv(scheduler, "17")
    taken = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with monkeypatch.context() as process:
            process.setattr(device, "_held", [])
            device.acquire(folder=tmp_path)
        taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert taken == ["0", "1"]
    # Another job of the scheduler may have GPUs that it calls 0 and 1, too.
    monkeypatch.setenv(scheduler, "18")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    device.acquire(folder=tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_model_on_several_gpus_takes_so_many_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with (tmp_path / "0.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert device.claim(3, tmp_path) is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
        taken = device.claim(2, tmp_path)
    assert taken is not None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert device.has_gpus_of_its_own()
    taken.release()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert not device.has_gpus_of_its_own()
    assert device.claim(3, tmp_path) is not None, "all that was taken is free again"


def test_more_gpus_than_there_are_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(PolygateError, match=r"^the model is to be spread over 3 GPUs, here are 2: lower its setting"):
        device.acquire(3, tmp_path)
    # The one GPU that a scheduler gave is left alone, so only torch can tell.
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(PolygateError, match="over 2 GPUs, here is 1"):
        device.acquire(2, tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.acquire(2, tmp_path) == (torch.device("cuda", 0), torch.device("cuda", 1))


def test_devices_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda one: "B" if one.index == 2 else "A")
    cards = [torch.device("cuda", number) for number in range(3)]
    assert [device.name_of(some) for some in (cards[:1], cards, [torch.device("cpu")])] == ["A", "2 x A, B", "cpu"]


def test_the_folder_of_locks_is_ours_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = device.lock_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert device.lock_folder().stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    assert device.lock_folder().parent == tmp_path / "tmp"


@pytest.mark.parametrize("planted", ["a link", "a dangling link", "a file", "somebody else's"])
def test_a_planted_folder_of_locks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, planted: str) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder, elsewhere = tmp_path / f"polygate-gpus-{os.getuid()}", tmp_path / "elsewhere"
    if planted == "a link":
        elsewhere.mkdir()
    if "link" in planted:
        folder.symlink_to(elsewhere)
    elif planted == "a file":
        folder.touch()
    else:
        folder.mkdir()
        real = Path.lstat

        def foreign(path: Path) -> os.stat_result:
            values = list(real(path))
            values[4] = os.getuid() + 1
            return os.stat_result(values)

        monkeypatch.setattr(Path, "lstat", foreign)
    with pytest.raises(PolygateError, match=r"a link or somebody else's, in .*: remove it, or set TMPDIR"):
        device.lock_folder()


def test_a_lock_neither_follows_a_link_nor_truncates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    (tmp_path / "0.lock").symlink_to(treasure)
    with pytest.raises(OSError, match="symbolic link"):
        device.claim(folder=tmp_path)
    (tmp_path / "0.lock").unlink()
    (tmp_path / "0.lock").write_text("kept")
    device.claim(folder=tmp_path)
    assert (treasure.read_text(), (tmp_path / "0.lock").read_text()) == ("gold", "kept")


def test_without_gpus_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [found.type for found in device.acquire(folder=tmp_path)] == ["cpu"]
    assert list(tmp_path.iterdir()) == []


def test_every_gpu_of_the_machine_where_no_list_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "absent")
    assert device.visible() == []
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "gpus")
    assert device.visible() == ["0", "1"]


def test_what_does_not_fit_is_halved_and_nothing_is_done_twice() -> None:
    done: list[int] = []
    tried: list[int] = []

    def work(batch: list[int]) -> None:
        tried.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(batch)

    device.in_halves([range(2), range(2, 12), range(12, 20)], work)
    assert done == list(range(20))
    assert tried == [2, 10, 5, 2, 2, 1, 2, 2, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("can't allocate memory")]
)
def test_a_single_prompt_that_does_not_fit_is_one_line(error: Exception) -> None:
    def work(_batch: list[int]) -> None:
        raise error

    with pytest.raises(PolygateError, match="a single prompt doesn't fit into the device's memory"):
        device.in_halves([[1, 2, 3]], work)


def test_another_error_is_no_matter_of_memory() -> None:
    def work(_batch: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        device.in_halves([[1, 2]], work)
