"""Jobs begin and end without what takes longer than their work, and lose nothing by it."""

from __future__ import annotations

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
