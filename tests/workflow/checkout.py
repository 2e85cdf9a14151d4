"""A copy of the repository that a test may edit, break and run in, as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    *("Snakefile", "workflow", "config", "profiles", "envs", "reports"),
    *("rust/src", "rust/Cargo.toml", "rust/Cargo.lock"),
)
BUILT = shutil.ignore_patterns("__pycache__", "report.html", "report.zip", ".snakemake")


def jobs(output: str) -> Counter[str]:
    """Jobs per rule that the output of a dry run announces; empty when there is nothing to be done."""
    if "Nothing to be done" in output:
        return Counter()
    statistics = output.split("Job stats:", 1)[1].split("total", 1)[0]
    return Counter({name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)\s*$", statistics, re.MULTILINE)})


@dataclass(frozen=True)
class Checkout:
    """A folder with the code in it; `run` is the last settings file written there."""

    folder: Path

    @classmethod
    def fresh(cls, folder: Path) -> Checkout:
        """Copy the code (kernels as built) into `folder`."""
        for name in CODE:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=BUILT)
            else:
                shutil.copy2(source, target)
        return cls(folder)

    def copy(self, folder: Path) -> Checkout:
        """Another copy with everything in it, results and Snakemake's records included, times preserved."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Checkout(folder)

    def configure(self, settings: dict[str, object], name: str = "settings.yaml") -> str:
        """Write a settings file, return its name."""
        (self.folder / name).write_text(yaml.safe_dump(settings, sort_keys=False))
        return name

    def environment(self) -> dict[str, str]:
        """This Python, this copy's library, one thread, no network."""
        # Without bytecode every job would compile torch's sources again.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "workflow"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        """The command line a user would type."""
        return [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]

    def snakemake(self, *arguments: str, check: bool = True, timeout: float = 2400) -> subprocess.CompletedProcess[str]:
        """Run Snakemake here; with `check`, a failure shows its whole output."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done

    def planned(self, *arguments: str) -> Counter[str]:
        """Jobs per rule that a dry run announces."""
        return jobs(self.snakemake("--dry-run", *arguments).stdout)

    def tables(self, run: str) -> dict[str, bytes]:
        """Every table of a run, by name."""
        folder = self.folder / "results" / run / "tables"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
