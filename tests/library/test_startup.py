"""Jobs begin and end without what takes longer than their work, and lose nothing by it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("begin", ["startup.lighten()", "scripting.begin()"])
def test_jobs_do_without_pandas_and_data_frames_are_still_there_for_who_asks(tmp_path: Path, begin: str) -> None:
    path = str(tmp_path / "x.parquet")
    run(f"""
import sys
from polygate import files, scripting, startup
{begin}
import pyarrow as pa
files.write_parquet({path!r}, pa.table({{"x": pa.array(["a", "b"])}}))
table = files.read_parquet({path!r})
assert table.to_pylist() == [{{"x": "a"}}, {{"x": "b"}}]
assert "pandas" not in sys.modules
assert list(table.to_pandas()["x"]) == ["a", "b"]
import pandas as pd
assert pa.array(pd.Series(["a", None])).to_pylist() == ["a", None]
""")


def test_at_the_end_nothing_is_searched_for_garbage_and_what_was_asked_for_still_happens() -> None:
    said = run("""
import atexit, gc
from polygate import startup
atexit.register(lambda: print("kept", gc.get_freeze_count() > 10_000))
startup.lighten()
print("worked", gc.get_freeze_count())
""")
    assert said == "worked 0\nkept True\n"


def test_snakemake_starts_without_pandas_where_only_the_workflow_is_installed(root: Path) -> None:
    """Each of its starts, and each job that is a script, would take a quarter longer; so the plugin that imports it is
    installed by those who submit to Slurm."""
    plugins = re.findall(r"^(snakemake-executor-plugin-\S+)==", (root / "requirements-slurm.lock").read_text(), re.M)
    installed = (root / "requirements.lock").read_text()
    assert plugins
    assert not [name for name in plugins if re.search(f"^{name}==", installed, re.M)]
    names = [name.replace("-", "_") for name in plugins]
    said = run(f"""
import pkgutil, sys
every = list(pkgutil.iter_modules())
pkgutil.iter_modules = lambda *_: [module for module in every if module.name not in {names}]
import snakemake.cli
snakemake.cli.get_argument_parser()
print(sorted({{"pandas", "torch", "scipy"}} & set(sys.modules)))
""")
    assert said == "[]\n"
