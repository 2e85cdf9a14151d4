"""Several workers share a model's cells, one on each GPU: none is computed twice, and a killed one's are taken over.

GPUs are names in CUDA_VISIBLE_DEVICES here, each with its lock; the workers, processes of their own, compute on a CPU.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from library.forward.test_cells import World
from polygate.forward import cells

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
from polygate.forward import cells, compute, loading
from polygate.forward.job import Job

job, plan, told, gpus, meet, hangs = json.loads(sys.argv[1])
really = compute.compute

def meeting():
    # All workers have their model before any computes: each finds cells that are missing.
    while len(list(Path(told).glob("loaded-*"))) < meet:
        time.sleep(0.01)

def load(*args):
    loaded = really_load(*args)
    Path(told, f"loaded-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    meeting()
    return loaded

def telling(one, inputs, loaded, key, *more):
    with open(Path(told, f"computed-{os.getpid()}"), "a") as file:
        file.write(key + "\\n")
    if hangs:
        Path(told, "at work").touch()
        time.sleep(60)
    really(one, inputs, loaded, key, *more)

really_load, loading.load, compute.compute = loading.load, load, telling
job["model"]["gpus"] = gpus
cells.run(Job.parse(job), [Job.parse(one) for one in plan], Path(job["output"]))
"""


@pytest.fixture
def world(tmp_path: Path, folders: dict[str, Path]) -> World:
    """A fresh world."""
    return World(tmp_path, folders["qwen2"])


class Workers:
    """Processes of jobs of a plan, and what they tell."""

    def __init__(self, world: World, visible: str) -> None:
        self.world, self.told = world, world.root / "told"
        self.told.mkdir()
        runtime = world.root / "runtime"
        runtime.mkdir()
        self.environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "XDG_RUNTIME_DIR": str(runtime)}

    def start(self, number: int, gpus: int = 1, meet: int = 0, hangs: bool = False) -> subprocess.Popen[str]:
        """The process of the plan's job of that number; see `WORKER` for the rest."""
        given = [self.world.described[number], self.world.described, str(self.told), gpus, meet, hangs]
        command = [sys.executable, "-c", WORKER, json.dumps(given)]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)

    def gpus(self) -> list[str]:
        """GPUs of the workers that loaded the model."""
        return sorted(path.read_text() for path in self.told.glob("loaded-*"))

    def computed(self) -> list[list[str]]:
        """Cells that each worker began to compute."""
        return [path.read_text().split() for path in self.told.glob("computed-*")]


def ended(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors


def test_workers_on_gpus_of_their_own_share_the_cells(world: World) -> None:
    workers = Workers(world, "3,5")
    ended([workers.start(number, meet=2) for number in range(3)])
    assert workers.gpus() == ["3", "5"], "the third job loads nothing: one of those two makes its cell"
    computed = Counter(address for one in workers.computed() for address in one)
    assert computed == Counter(world.address(job) for job in world.plan)
    assert len(workers.computed()) == 2, "each has computed some"
    assert all(job.output.is_file() for job in world.plan[:3])
    assert all(world.has_cell(job) for job in world.plan)
    assert not list((world.root / "cells/locks").glob("*.cell"))


def test_a_model_on_two_gpus_takes_both_or_none(world: World) -> None:
    workers = Workers(world, "0,1,2")
    ended([workers.start(number, gpus=2, meet=1) for number in range(2)])
    assert workers.gpus() == ["0,1"], "one GPU is left, which is not enough for a second worker"
    assert all(world.has_cell(job) for job in world.plan)


def test_what_a_killed_worker_had_begun_is_taken_over(world: World) -> None:
    workers, begun = Workers(world, "0,1"), world.plan[0]
    killed = workers.start(0, hangs=True)
    while not (workers.told / "at work").exists():
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.01)
    assert cells._claim(begun, world.address(begun)) is None
    others = [workers.start(number, meet=3) for number in (1, 2)]
    while len(workers.gpus()) < 2:
        assert not any(process.poll() for process in others)
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (workers.told / "loaded-third").touch()
    ended(others)
    assert all(world.has_cell(job) for job in world.plan)
    computed = Counter(address for one in workers.computed() for address in one)
    assert computed == Counter([world.address(begun), *map(world.address, world.plan)])
