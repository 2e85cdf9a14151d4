"""Fixtures for every tier of tests, and the one rule about absent tools.

A test that needs something a user may lack (a browser, Slurm, the real data beside the checkout) asks `require`:
it skips with the reason, or fails when POLYGATE_REQUIRE_ALL is set, as continuous integration does for everything
that it installs itself.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from checkout import Checkout

DEMO_MODELS = ("gemma2",)
"""Of the organisms that `make run` trains the one that is trained here: two minutes on a core, each."""
ROOT = Path(__file__).resolve().parents[1]
LONGEST = ("test_demo", "test_real_text", "test_slurm")
"""Files of a few tests that wait for one long run: begun last, one process would do them alone in the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those first; the others as they are found."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def require(present: bool, reason: str, *, installable: bool = True) -> None:
    """Skip with `reason` unless `present`; fail instead when it could have been installed and all is required."""
    if present:
        return
    if installable and os.environ.get("POLYGATE_REQUIRE_ALL"):
        pytest.fail(f"required here: {reason}")
    pytest.skip(reason)


def require_program(*names: str) -> str:
    """Path of the first of `names` that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    require(False, f"none of {', '.join(names)} is installed")
    raise AssertionError


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Checkout], object]) -> Checkout:
    """A fresh checkout that `make` has worked in, made by one process for all that test here (`pytest -n`)."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / name / "checkout", shared / name / "done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(Checkout.fresh(folder))
            done.touch()
    assert done.exists(), f"{name} has failed in another process of these tests"
    return Checkout(folder)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data (PolyRefuse, MultiJail, tokenizers …) beside the checkout; the project never copies it."""
    folder = Path(os.environ.get("POLYGATE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    require(folder.is_dir(), f"no real data at {folder} (set POLYGATE_SHARED_DATA)", installable=False)
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which `snakemake --configfile config/demo.yaml` has ended, of fewer models. Not to be changed."""

    def run(fresh: Checkout) -> None:
        settings = yaml.safe_load((fresh.folder / "config/demo.yaml").read_text())
        settings["models"] = {name: settings["models"][name] for name in DEMO_MODELS}
        fresh.snakemake("--configfile", fresh.configure(settings, "config/demo.yaml"))

    return made_once(tmp_path_factory, "demo", run)


@pytest.fixture(scope="session")
def report_html(request: pytest.FixtureRequest) -> Path:
    """The report of the finished demo; POLYGATE_REPORT names another one while working on it."""
    if given := os.environ.get("POLYGATE_REPORT"):
        return Path(given)
    checkout: Checkout = request.getfixturevalue("demo")
    return checkout.folder / "reports/report.html"
