"""One cluster for all tests here, and the tiny workflow run on it: started once, stopped whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Checkout

from conftest import require
from slurm.cluster import Cluster, Job, NotStartedError, obstacle, running

TINY = Path(__file__).resolve().parents[1] / "workflow/tiny.yaml"
HERE = (
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1", "--latency-wait", "5"),
)
"""What this cluster needs beside the profile: it keeps no accounts, and its jobs are short."""
LONGEST = 220.0
"""Seconds that one call of Snakemake may take."""


@dataclass(frozen=True)
class Submitted:
    """What a call of Snakemake with the Slurm profile did: its exit status, output, and submissions in order."""

    status: int
    output: str
    jobs: list[Job]

    def named(self, *beginnings: str) -> list[Job]:
        """Submissions of the rules and groups whose names begin so."""
        return [job for job in self.jobs if job.name.startswith(beginnings)]

    def of_languages(self) -> set[str]:
        """Languages of all jobs, as their messages name them."""
        return set(re.findall(r"^ *Job \d+: .*? (?:in|for) (\w+)", self.output, re.M))


def start(checkout: Checkout, *arguments: str) -> subprocess.Popen[str]:
    """Snakemake as a user of a cluster would start it, in a session of its own."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *HERE, *arguments]
    return subprocess.Popen(
        command,
        cwd=checkout.folder,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def submit(cluster: Cluster, checkout: Checkout, *arguments: str) -> Submitted:
    """Run Snakemake to its end, or kill it when it takes too long."""
    before = len(cluster.jobs())
    process = start(checkout, *arguments)
    try:
        output, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        pytest.fail(f"Snakemake didn't end within {LONGEST:.0f} s\n{cluster.logs()}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Submitted(process.returncode, output, cluster.jobs()[before:])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two GPUs each; without Slurm its tests are skipped."""
    reason = obstacle()
    require(reason is None, f"no Slurm: {reason}", installable=False)
    started = running(tmp_path_factory.mktemp("slurm"))
    try:
        cluster = started.__enter__()
    except NotStartedError as error:
        require(False, f"Slurm doesn't start here: {error}", installable=False)
    try:
        yield cluster
    finally:
        started.__exit__(None, None, None)


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """The tiny run without what makes more jobs of the same kinds."""
    tiny = yaml.safe_load(TINY.read_text())
    return {**tiny, "languages": {"high": ["h1", "h2"], "mid": [], "low": ["l1"]}, "datasets": {}}


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Iterator[tuple[Checkout, Any]]:
    """A checkout in which the same workflow runs on this machine meanwhile, and the process that does it."""
    checkout = Checkout.fresh(tmp_path_factory.mktemp("local") / "checkout")
    command = checkout.command("--configfile", checkout.configure(settings), cores=1)
    with subprocess.Popen(
        command,
        cwd=checkout.folder,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield checkout, process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def finished(
    cluster: Cluster,
    local: tuple[Checkout, Any],  # noqa: ARG001 (it runs beside)
    tmp_path_factory: pytest.TempPathFactory,
    settings: dict[str, Any],
) -> tuple[Checkout, Submitted]:
    """A checkout in which the workflow has ended on the cluster."""
    checkout = Checkout.fresh(tmp_path_factory.mktemp("submitted") / "checkout")
    submitted = submit(cluster, checkout, "--configfile", checkout.configure(settings))
    assert submitted.status == 0, submitted.output[-6000:] + cluster.logs()
    return checkout, submitted
