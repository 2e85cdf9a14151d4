"""`maturin build` gives one wheel for every Python from 3.11 on, which works beside numpy and nothing else."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and numpy."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "maturin", "build", "--release", "--offline", "--out", folder / "dist"]
    with (ROOT / "rust" / "Cargo.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once take the library from under each other
        built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").iterdir()
    assert "-cp311-abi3-" in wheel.name
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    for name in ("numpy", "numpy.libs", "numpy-*.dist-info"):
        for part in Path(numpy.__file__).parents[1].glob(name):
            (site / part.name).symlink_to(part)
    return python


def test_the_readme_example_runs_beside_numpy_alone(python: Path, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (example,) = [example for example in examples if "from polygate import kernels" in example]
    (promised,) = re.findall(r"print\(.*\)  # ([\d.]+)", example)
    ran = subprocess.run([python, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == (promised, "")


def test_the_wheel_is_what_runs(python: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.metadata, polygate.kernels as k; print(k._kernels.__file__);"
        "print(sorted({d.name for d in importlib.metadata.distributions()} - {'pip', 'setuptools'}))"
    )
    ran = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    file, installed = ran.stdout.splitlines()
    assert Path(file).is_relative_to(python.parents[1])
    assert installed == "['numpy', 'polygate']"
