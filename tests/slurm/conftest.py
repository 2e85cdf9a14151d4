"""One cluster for all tests here, and one small run that has ended on it: started once, stopped whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Checkout

from conftest import require
from slurm.cluster import Cluster, Job, NotStartedError, missing, obstacle, running

TINY = Path(__file__).resolve().parents[1] / "workflow/tiny.yaml"
HERE = (
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
    *("--seconds-between-status-checks", "1", "--latency-wait", "2"),
)
"""What this cluster needs beside the profile: it keeps no accounts, and its jobs are short."""
LOOKING_OFTEN = """
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda _: 1, lambda *_: None)
main()
"""
"""Snakemake, where it looks for jobs that have ended every second; else each look in vain makes the next 10 s later."""
LONGEST = 600.0
"""Seconds that one call of Snakemake may take."""
TABLES = [f"results/tiny/tables/{name}.csv" for name in ("choices", "refusal", "selectivity")]
"""What is made of everything from prompts to judgements."""


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


@contextmanager
def begun(checkout: Checkout, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs in a checkout, in a session of its own, and is killed when it isn't waited for."""
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
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def submit(cluster: Cluster, checkout: Checkout, *arguments: str) -> Submitted:
    """Run Snakemake to its end, as a user of a cluster would, or kill it when it takes too long."""
    before = len(cluster.jobs())
    command = [sys.executable, "-c", LOOKING_OFTEN, "--workflow-profile", "profiles/slurm", *HERE, *arguments]
    with begun(checkout, command) as process:
        try:
            output, _ = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            pytest.fail(f"Snakemake didn't end within {LONGEST:.0f} s\n{cluster.logs()}")
    return Submitted(process.returncode, output, cluster.jobs()[before:])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with two GPUs each; without Slurm its tests are skipped."""
    require(not missing(), f"{missing()} not installed (Debian: apt-get install slurm-wlm munge)")
    require(find_spec("snakemake_executor_plugin_slurm") is not None, "no plugin for Slurm: make slurm")
    reason = obstacle()
    require(reason is None, f"no Slurm: {reason}", installable=False)
    started = running(tmp_path_factory.mktemp("slurm"))
    try:
        cluster = started.__enter__()
    except NotStartedError as error:
        require(False, f"Slurm doesn't start here: {error}")
    try:
        yield cluster
    finally:
        started.__exit__(None, None, None)


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """The tiny run with as few jobs as show every kind of submission."""
    tiny = yaml.safe_load(TINY.read_text())
    return {
        **tiny,
        "languages": {"high": ["h1", "h2"], "mid": [], "low": ["l1"]},
        "datasets": {},
        "gate": {"rank": 1, "ranks": [1], "budgets": [0, 1], "draws": 1},
        "steering": {**tiny["steering"], "layers": [1]},
    }


@pytest.fixture(scope="session")
def finished(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> tuple[Checkout, Submitted, Checkout]:
    """A checkout whose tables were made on the cluster, and one where they were made on this machine meanwhile."""
    there, here = (Checkout.fresh(tmp_path_factory.mktemp(name) / "checkout") for name in ("submitted", "local"))
    arguments = ("--configfile", there.configure(settings), "--", *TABLES)
    here.configure(settings)
    with begun(here, here.command(*arguments, cores=1)) as local:
        submitted = submit(cluster, there, *arguments)
        assert submitted.status == 0, submitted.output[-6000:] + cluster.logs()
        output, _ = local.communicate(timeout=LONGEST)
        assert local.returncode == 0, output[-6000:]
    return there, submitted, here
