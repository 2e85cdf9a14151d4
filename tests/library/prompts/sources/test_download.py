"""A download is the pinned files, whole, or nothing and one line."""

from __future__ import annotations

import argparse
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from library.prompts import upstream
from polygate.errors import PolygateError
from polygate.models import pickled
from polygate.prompts.sources import cast_data, download, polyrefuse
from polygate.prompts.sources.published import Published
from polygate.settings.types import POLYREFUSE_REVISION, Model, Prompts, dump
from polygate.stages import download_model, download_polyrefuse


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; every path's first answer is 503 when the server is told to be shaky."""

    shaken: set[str]

    def do_GET(self) -> None:
        if self.server.shaky and self.path not in self.shaken:  # type: ignore[attr-defined]
            self.shaken.add(self.path)
            self.send_error(503)
            return
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve `root / revision` and return the base address."""
    servers = []

    def start(root: Path, *, shaky: bool = False) -> str:
        handler = partial(type("Handler", (Quiet,), {"shaken": set()}), directory=str(root))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.shaky = shaky  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """What the network holds: a small PolyRefuse in upstream's layout at the pinned commit."""
    upstream.write(tmp_path / "remote" / POLYREFUSE_REVISION, flat=False)
    return tmp_path / "remote"


def sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.json")
    }


@pytest.mark.parametrize("shaky", [False, True])
def test_the_downloaded_folder_reads_like_upstreams_and_carries_its_checksums(
    tmp_path: Path, remote: Path, serve: Callable[..., str], shaky: bool
) -> None:
    expected = sums(remote / POLYREFUSE_REVISION)
    output = tmp_path / "out" / "polyrefuse"
    base = serve(remote, shaky=shaky)
    assert download.polyrefuse(output, POLYREFUSE_REVISION, base=base, expected=expected, pause=0.0) == []
    found = polyrefuse.read(output, "de", Prompts())
    assert found.texts == polyrefuse.read(remote / POLYREFUSE_REVISION, "de", Prompts()).texts
    listed = dict(reversed(line.split("  ")) for line in (output / "SHA256SUMS").read_text().splitlines())
    assert listed == sums(output)


def test_a_changed_file_at_the_pinned_commit_is_refused_and_leaves_nothing(
    tmp_path: Path, remote: Path, serve: Callable[..., str]
) -> None:
    expected = sums(remote / POLYREFUSE_REVISION)
    (remote / POLYREFUSE_REVISION / "PolyRefuse" / "harmful_test_translated_de.json").write_text("[]")
    with pytest.raises(PolygateError, match=r"harmful_test_translated_de\.json has another checksum"):
        download.polyrefuse(tmp_path / "out", POLYREFUSE_REVISION, base=serve(remote), expected=expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["remote"]


def test_an_absent_file_at_the_pinned_commit_is_refused(
    tmp_path: Path, remote: Path, serve: Callable[..., str]
) -> None:
    expected = {**sums(remote / POLYREFUSE_REVISION), "PolyRefuse/other.json": "0" * 64}
    with pytest.raises(PolygateError, match=r"other\.json is missing"):
        download.polyrefuse(tmp_path / "out", POLYREFUSE_REVISION, base=serve(remote), expected=expected)


def test_a_data_set_is_its_pinned_files_or_nothing(tmp_path: Path, serve: Callable[..., str]) -> None:
    (tmp_path / "remote/data").mkdir(parents=True)
    (tmp_path / "remote/data/items.csv").write_text("prompt\nHow?\n")
    digest = hashlib.sha256((tmp_path / "remote/data/items.csv").read_bytes()).hexdigest()
    base = serve(tmp_path / "remote", shaky=True)
    pinned = Published("Items", base, {"data/items.csv": digest})
    download.published(tmp_path / "items", pinned, pause=0.0)
    assert pinned.find(tmp_path / "items").read_text() == "prompt\nHow?\n"
    assert (tmp_path / "items/SHA256SUMS").read_text() == f"{digest}  items.csv\n"
    changed = Published("Items", base, {"data/items.csv": "0" * 64})
    with pytest.raises(PolygateError, match=r"data/items\.csv has another checksum .* at Items's pinned revision"):
        download.published(tmp_path / "other", changed, pause=0.0)
    absent = Published("Items", base, {"data/none.csv": digest})
    with pytest.raises(PolygateError, match=r"data/none\.csv is missing at Items's pinned revision"):
        download.published(tmp_path / "other", absent, pause=0.0)
    named = r"point baselines\.cast\.released\.folder to a copy that you trust"
    with pytest.raises(PolygateError, match=named):
        download.published(tmp_path / "other", absent, pause=0.0, setting=cast_data.SETTING)
    assert not (tmp_path / "other").exists()


def test_another_revision_is_taken_as_it_is_and_its_differences_are_said(
    tmp_path: Path, remote: Path, serve: Callable[..., str]
) -> None:
    expected = sums(remote / POLYREFUSE_REVISION)
    other = remote / "abc"
    (remote / POLYREFUSE_REVISION).rename(other)
    (other / "PolyRefuse" / "harmful_test_translated_de.json").unlink()
    upstream.change(other / "PolyRefuse" / "harmful_test_translated_yo.json", lambda rows: rows[:3])
    notices = download.polyrefuse(tmp_path / "out", "abc", base=serve(remote), expected=expected)
    assert len(notices) == 2
    assert any("harmful_test_translated_de.json is missing" in notice for notice in notices)
    assert any("harmful_test_translated_yo.json has another checksum" in notice for notice in notices)
    assert polyrefuse.read(tmp_path / "out", "de", Prompts(allow_missing=True)).missing == ("harmful test",)


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match=r"can't download PolyRefuse.*prompts\.folder") as caught:
        download.polyrefuse(tmp_path / "out", POLYREFUSE_REVISION, base="http://127.0.0.1:9", pause=0.0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_new_download_replaces_an_old_folder_only_when_it_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").touch()
    with pytest.raises(FileNotFoundError), download.folder_when_complete(output) as folder:
        (folder / "absent").rename(folder / "new")
    assert [path.name for path in output.iterdir()] == ["old"]
    with download.folder_when_complete(output) as folder:
        (folder / "new").touch()
    assert [path.name for path in output.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_list_of_checksums_covers_every_language_and_split_but_the_known_hole() -> None:
    every = {
        polyrefuse.upstream_path(*cell, language) for language in polyrefuse.LANGUAGES for cell in polyrefuse.CELLS
    }
    assert every - set(download.checksums()) == {"PolyRefuse/harmless_test_translated_zh.json"}
    assert set(download.checksums()) <= every


def test_the_stage_asks_for_the_revision_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(download, "polyrefuse", lambda output, revision: asked.append((output, revision)) or ["a note"])
    parser = argparse.ArgumentParser()
    download_polyrefuse.configure(parser)
    settings = dump({"prompts": Prompts(revision="abc0" * 10)})
    download_polyrefuse.run(parser.parse_args(["--settings", settings, "--output", str(tmp_path / "out")]))
    assert asked == [(tmp_path / "out", "abc0" * 10)]
    assert "a note" in capsys.readouterr().err


# --- models -----------------------------------------------------------------------------------------------------------


def run_model(output: Path) -> None:
    parser = argparse.ArgumentParser()
    download_model.configure(parser)
    settings = dump({"model": Model(hub="someone/model", revision="0123456789abcdef" + "0" * 24)})
    download_model.run(parser.parse_args(["--settings", settings, "--output", str(output)]))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the hub's cache, which is made of links to blobs."""
    import huggingface_hub

    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer_config.json", "tokenizer.json"):
        (blobs / name).write_text(name)
        (snapshot / name).symlink_to(blobs / name)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    return snapshot


def test_a_model_becomes_a_plain_folder_without_links_into_the_cache(tmp_path: Path, cached: Path) -> None:
    run_model(tmp_path / "model")
    files = sorted(path for path in (tmp_path / "model").iterdir() if path.name != ".crc32")
    assert [path.name for path in files] == sorted(path.name for path in cached.iterdir())
    assert not any(path.is_symlink() for path in files)
    assert all(path.read_text() == path.name for path in files)


@pytest.mark.parametrize(
    ("absent", "message"),
    [("model.safetensors", "no weights"), ("config.json", "config"), ("tokenizer_config.json", "tokenizer")],
)
def test_a_model_that_lacks_a_part_is_refused(tmp_path: Path, cached: Path, absent: str, message: str) -> None:
    (cached / absent).unlink()
    with pytest.raises(PolygateError, match=message):
        run_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def _hub_error(name: str) -> Exception:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    error: Exception = kind.__new__(kind, "a long\nexplanation")
    if isinstance(error, errors.HfHubHTTPError):
        error.response = SimpleNamespace(status_code=500)
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "gated.*licence"),
        ("RevisionNotFoundError", "no such revision"),
        ("RepositoryNotFoundError", "no such model"),
        ("OfflineModeIsEnabled", "can't reach the hub"),
        ("LocalEntryNotFoundError", "can't reach the hub"),
        ("HfHubHTTPError", "status 500"),
        ("HFValidationError", "not a valid hub id"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, message: str
) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> str:
        raise _hub_error(error)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(PolygateError, match=message) as caught:
        run_model(tmp_path / "model")
    assert "someone/model at 0123456789ab" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_while_downloading_a_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import huggingface_hub

    def full(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(PolygateError, match="No space left on device"):
        run_model(tmp_path / "model")


def test_pickles_are_asked_for_where_a_model_has_no_safetensors_only(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def snapshot_download(*_: Any, allow_patterns: list[str], **__: Any) -> str:
        asked.append(allow_patterns)
        return str(cached)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    run_model(tmp_path / "model")
    assert asked == [download_model.WANTED]
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in download_model.WANTED)
    (cached / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
        torch.save({"weight": torch.ones(2)}, cached / name)
    run_model(tmp_path / "model")
    assert asked[1:] == [download_model.WANTED, list(pickled.PATTERNS)]
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.startswith("pytorch_model") for name in names)
