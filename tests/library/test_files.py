"""A result is either whole or not there, and a broken one is named in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from polygate import files
from polygate.errors import PolygateError


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    files.write_json(target, {"value": 1})

    def fail() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert files.read_json(target) == {"value": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PolygateError, match=r"no space left on the disk, in .*result\.json: free some space"):
        files.write_text(tmp_path / "result.json", "x")
    assert list(tmp_path.iterdir()) == []


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_provenance_survives_in_parquet_and_safetensors(tmp_path: Path) -> None:
    files.write_parquet(tmp_path / "a.parquet", pa.table({"x": [1]}), {"seed": 3})
    files.write_safetensors(tmp_path / "a.safetensors", {"x": np.ones(2)}, {"layer": "1"}, {"seed": 3})
    assert files.read_provenance(tmp_path / "a.parquet") == {"seed": 3}
    assert files.read_provenance(tmp_path / "a.safetensors") == {"seed": 3}
    tensors, metadata = files.read_safetensors(tmp_path / "a.safetensors")
    assert tensors["x"].tolist() == [1, 1]
    assert metadata["layer"] == "1"


@pytest.mark.parametrize("suffix", ["parquet", "safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 7, 60])
def test_a_truncated_file_is_named_in_one_line(tmp_path: Path, suffix: str, kept: int) -> None:
    whole = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        files.write_parquet(whole, pa.table({"x": list(range(100))}))
        read = files.read_parquet
    else:
        files.write_safetensors(whole, {"x": np.ones(100)})
        read = files.read_safetensors
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(PolygateError, match=f"broken.{suffix}") as caught:
        read(broken)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    files.write_parquet(tmp_path / "a.parquet", pa.table({"x": [1]}))
    with pytest.raises(PolygateError, match="'y' is missing"):
        files.read_parquet(tmp_path / "a.parquet", ["x", "y"])


def test_the_same_safetensors_are_the_same_bytes(tmp_path: Path) -> None:
    metadata = {f"key{i}": str(i) for i in range(12)}
    contents = set()
    for name in ("a", "b", "c", "d"):
        files.write_safetensors(tmp_path / name, {"x": np.ones(3), "y": np.zeros(2)}, metadata, {"seed": 1})
        contents.add((tmp_path / name).read_bytes())
    assert len(contents) == 1
    assert files.safetensors_metadata(tmp_path / "a").items() >= metadata.items()
