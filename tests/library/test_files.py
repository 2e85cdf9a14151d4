"""A result is either whole or not there, and a broken one is named in one line."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from library.flipping import flipped
from polygate import digests, files
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


READERS = {"parquet": files.read_parquet, "safetensors": files.read_safetensors, "json": files.read_json}


def made(folder: Path, suffix: str) -> Path:
    """A small file of ours with provenance."""
    path = folder / f"a.{suffix}"
    if suffix == "parquet":
        table = pa.table({"x": list(range(20)), "text": [f"ẹ{i}" for i in range(20)]})
        files.write_parquet(path, table, {"seed": 3}, of={"language": "yo", "budget": 0, "arm": ""})
    elif suffix == "json":
        files.write_json(path, {"models": {"a": [0.25, 1, True, None]}, "what": "ẹ"})
    else:
        tensors = {"x": np.arange(20.0), "counts": np.array([3, 4]), "none": np.zeros((0, 2))}
        files.write_safetensors(path, tensors, {"layer": "1"}, {"seed": 3}, of={"language": "yo", "model": None})
    return path


@pytest.mark.parametrize("suffix", ["parquet", "safetensors", "json"])
def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path, suffix: str) -> None:
    """Of a whole file, numbers and header alike: whatever is read is what was written."""
    whole = made(tmp_path, suffix).read_bytes()
    broken = tmp_path / f"broken.{suffix}"
    # Another name of the digest's own entry leaves everything else as it was.
    name = (
        range(whole.index(b"polygate.digest"), whole.index(b"polygate.digest") + 15) if suffix == "json" else range(0)
    )
    for number, content in flipped(whole):
        if number in name:
            continue
        broken.write_bytes(content)
        with pytest.raises(PolygateError, match=r"broken\..*: delete the file and rerun"):
            READERS[suffix](broken)


def test_a_table_stays_plain_and_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "gates.csv"
    text = 'model,f1\n"a\rb",0.5\nẹ,0.75\n'
    files.write_csv(path, text)
    assert path.read_bytes() == text.encode()
    assert files.read_csv(path) == text
    whole = path.read_bytes()
    for _, content in flipped(whole):
        path.write_bytes(content)
        with pytest.raises(PolygateError, match=r"is damaged, or was changed by hand, in .*gates\.csv: delete"):
            files.read_csv(path)
    path.unlink()
    files.write_csv(path, "model\n")
    assert files.read_csv(path) == "model\n"


def test_a_table_without_its_digest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gates.csv"
    path.write_text("model,f1\n", encoding="utf-8")
    assert files.read_csv(path) == "model,f1\n"
    path.write_bytes(b"\xff\n")
    with pytest.raises(PolygateError, match="not UTF-8"):
        files.read_csv(path)


def test_a_flipped_bit_in_any_byte_of_a_folder_is_found_but_those_of_notes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("# A model")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(32)))
    digests.seal_folder(tmp_path)
    digests.check_folder(tmp_path, [".md"])
    (tmp_path / "README.md").write_text("# A model of mine")
    digests.check_folder(tmp_path, [".md"])
    for name in ("config.json", "model.safetensors", ".crc32"):
        whole = (tmp_path / name).read_bytes()
        for _, content in flipped(whole):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(PolygateError, match=r"damaged.*delete the model's folder and rerun"):
                digests.check_folder(tmp_path, [".md"])
        (tmp_path / name).write_bytes(whole)


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = made(tmp_path, "safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(PolygateError) as caught:
        files.read_safetensors(path)
    assert str(caught.value) == f"the file is damaged (tensor x), in {path}: delete the file and rerun"


PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
FOREIGN = {
    "empty": b"",
    "text": b"hello\n" * 50,
    "a picture": PNG * 9,
    "parquet's marks alone": b"PAR1" + bytes(40) + b"PAR1",
    "a header of nothing": (2).to_bytes(8, "little") + b"{}",
    "a header of a list": (8).to_bytes(8, "little") + b"[1, 2, 3",
    "deep brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("what", [*FOREIGN, "noise", "a folder"])
def test_foreign_bytes_are_one_line(tmp_path: Path, suffix: str, what: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if what == "a folder":
        path.mkdir()
    else:
        path.write_bytes(FOREIGN.get(what) or np.random.default_rng(0).bytes(999 if what == "noise" else 0))
    with pytest.raises(PolygateError, match=rf"a\.{suffix}") as caught:
        READERS[suffix](path)
    assert "\n" not in str(caught.value)


def test_other_peoples_tables_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "own.parquet")
    assert files.read_parquet(tmp_path / "own.parquet").column("x").to_pylist() == [1, 2]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "parquet")
    said = files.parquet_metadata(files.read_parquet(path))
    assert (said["language"], said["budget"], "arm" in said) == ("yo", "0", False)
    files.expect(path, said, language="yo", budget=0, arm="none", model=None)
    with pytest.raises(PolygateError, match=r"holds budget 0, expected 4, in .*a\.parquet: delete the file and rerun"):
        files.expect(path, said, language="yo", budget=4)


def test_leavings_of_dead_processes_are_swept_and_nothing_else(tmp_path: Path) -> None:
    """Temporary files, folders and reports of a killed process; not those of the living, nor any other file."""
    code = (
        "import os, sys; from pathlib import Path; from polygate import files; import tempfile\n"
        "root = Path(sys.argv[1])\n"
        "with files.atomic_path(root / 'a/x.parquet') as one, files.atomic_folder(root / 'b/weights') as two:\n"
        "    (two / 'model').write_text('half'); tempfile.mkdtemp(**files.temporary_name(root / 'b/report'))\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    left = [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    assert len(left) == 3
    kept = {tmp_path / name for name in ("a/.own.tmp", "a/x.tmp", "b/.notes.00000000-1.abcdefgh.tmp", "b/c.parquet")}
    for path in kept:
        path.write_text("mine")
    with files.atomic_path(tmp_path / "a/living") as living:
        files.sweep(tmp_path)
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == {*kept, living}
    assert (tmp_path / "a/living").is_file()


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
