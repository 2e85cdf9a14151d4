"""A Slurm cluster of two nodes on the loopback interface, in a folder of its own, for as long as a test needs it.

munged, slurmctld and two slurmd run as children of this process; each node has two processors and two files that
stand for GPUs. Job steps lose SLURM_CONF, so the configuration is linked into /etc/slurm while the cluster runs; a
machine that has a configuration of its own there is left alone.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")
SETTINGS = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
NODES = ("node1", "node2")
STARTING = 30.0
"""Seconds that daemons may take until both nodes are idle."""


class NotStartedError(Exception):
    """Slurm is installed but can't be started here; the message says why."""


def missing() -> str:
    """The programs of Slurm that aren't installed."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=_path()) is None)


def obstacle() -> str | None:
    """Why there must be no cluster on this machine though Slurm is installed; None when there may."""
    if os.geteuid() != 0:
        return "slurmd needs root to start jobs"
    if "SLURM_CONF" in os.environ:
        return "SLURM_CONF is set: this machine has a Slurm of its own"
    for file in (SETTINGS / name for name in FILES):
        if file.exists() and not _left_over(file):
            return f"{file} is there: this machine has a Slurm of its own"
    return None


def _left_over(file: Path) -> bool:
    """Whether a killed test left this link: its controller ended with it."""
    controller = file.resolve().parent / "slurmctld.pid"
    return file.is_symlink() and not (controller.exists() and Path("/proc", controller.read_text().strip()).exists())


@dataclass(frozen=True)
class Cluster:
    """A running cluster; `folder` holds its settings, logs and spool."""

    folder: Path

    def jobs(self) -> list[Job]:
        """Every job that was submitted, in order, finished ones too."""
        shown = subprocess.run(["scontrol", "--oneliner", "show", "job"], capture_output=True, text=True, check=True)
        return sorted(map(Job.of, (line for line in shown.stdout.splitlines() if "JobId=" in line)), key=lambda j: j.id)

    def logs(self) -> str:
        """The last lines of every daemon, for a failure's message."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


@dataclass(frozen=True)
class Job:
    """One submission as Slurm remembers it."""

    id: int
    state: str
    comment: str
    gpus: int
    memory: str

    @property
    def name(self) -> str:
        """The group or rule that was submitted, as Snakemake's comment begins."""
        return self.comment.removeprefix("rule_")

    @classmethod
    def of(cls, line: str) -> Job:
        """Read one line of `scontrol --oneliner show job`."""
        fields = dict(part.split("=", 1) for part in line.split(" ") if "=" in part)
        wanted = dict(part.split("=", 1) for part in fields.get("TRES", "").split(",") if "=" in part)
        return cls(
            int(fields["JobId"]),
            fields["JobState"],
            fields.get("Comment", ""),
            int(fields.get("TresPerJob", "gres:gpu:0").rpartition(":")[2]),
            wanted.get("mem", ""),
        )


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start the daemons, yield when both nodes are idle, and stop them whatever happens.

    Raises:
        NotStartedError: a daemon ended or the nodes never became idle; the message holds what they wrote.
    """
    with ExitStack() as undo:
        _configure(folder)
        cluster = Cluster(folder)
        SETTINGS.mkdir(exist_ok=True)
        for name in FILES:
            link = SETTINGS / name
            link.unlink(missing_ok=True)
            link.symlink_to(folder / name)
            undo.callback(link.unlink, missing_ok=True)
        daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in _commands(folder).items():
            daemons[name] = _start(name, command, folder, undo)
            if name == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), "munged", daemons, cluster)
        _wait(_idle, "the nodes", daemons, cluster)
        undo.callback(subprocess.run, ["scancel", "--user=root"], capture_output=True, timeout=20)
        yield cluster


def _start(name: str, command: list[str], folder: Path, undo: ExitStack) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.out.log").open("wb") as output:
        daemon = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": _path()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    undo.callback(_stop, daemon)
    return daemon


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent does, however that ends."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(5)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _idle() -> bool:
    shown = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%T"], capture_output=True, text=True)
    return shown.stdout.split() == ["idle"] * len(NODES)


def _wait(ready: object, what: str, daemons: dict[str, subprocess.Popen[bytes]], cluster: Cluster) -> None:
    end = time.monotonic() + STARTING
    assert callable(ready)
    while not ready():
        ended = [name for name, daemon in daemons.items() if daemon.poll() is not None]
        if ended or time.monotonic() > end:
            reason = f"{ended[0]} ended" if ended else f"{what} not ready after {STARTING:.0f} s"
            raise NotStartedError(f"{reason}\n{cluster.logs()}")
        time.sleep(0.2)


def _commands(folder: Path) -> dict[str, list[str]]:
    munge = [f"--{name}={folder / file}" for name, file in MUNGE.items()]
    return {
        "munged": ["munged", "--foreground", "--force", "--num-threads=2", *munge],
        "slurmctld": ["slurmctld", "-D", "-f", str(folder / "slurm.conf")],
        **{node: ["slurmd", "-D", "-N", node, "-f", str(folder / "slurm.conf")] for node in NODES},
    }


MUNGE = {
    "key-file": "munge.key",
    "socket": "munge.socket",
    "pid-file": "munge.pid",
    "log-file": "munge.log",
    "seed-file": "munge.seed",
}


def _configure(folder: Path) -> None:
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    for number, minor in enumerate((3, 5)):
        os.mknod(folder / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    controller, *ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=64000 Gres=gpu:2"
        for node, port in zip(NODES, ports, strict=True)
    )
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, port=controller, nodes=nodes))
    (folder / "gres.conf").write_text(f"NodeName=node[1-{len(NODES)}] Name=gpu File={folder}/nvidia[0-1]\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")


CONFIGURATION = """ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
MinJobAge=86400
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, found by asking for any and giving them back."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _path() -> str:
    """Where daemons lie, which an ordinary PATH may lack."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
