"""The endpoint that transformers ships, serving a tiny model: real calls, over a real server of somebody else's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from conftest import require
from library.forward import tiny
from polygate.judges import answers
from polygate.judges.api import ApiJudge
from polygate.settings.types import Api


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Address, model and process of `transformers serve`."""
    # It would bring a dozen packages (fastapi, uvicorn, openai …) for this test alone.
    require(bool(is_serve_available()), "transformers' server needs transformers[serving]", installable=False)
    folder = tiny.build_folder(tmp_path / "model", "qwen2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", str(folder), process
    finally:
        process.kill()
        process.wait()


def test_answers_of_a_real_server_are_kept_and_not_asked_for_again(
    server: tuple[str, str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    url, model, process = server
    given = Api(base_url=url, model=model, key=None, answer="text", max_tokens=6, concurrency=2)
    replies = [f"w{i} w{i + 1}" for i in range(6)]
    judge = ApiJudge("served", given, folder=tmp_path / "answers", pause=0.05)
    found = judge.outcomes("l1", ["w1"] * 6, replies, [""] * 6)
    # A random model says no verdict.
    assert {one.outcome for one in found} == {"unparsed"}
    assert all(one.raw for one in found)
    calls = answers.read(answers.path_of(tmp_path / "answers", url, model))
    assert len({call.question for call in calls if call.finish != answers.LOST}) == 6
    assert all(call.input_tokens > 0 and call.output_tokens > 0 for call in calls)
    process.kill()
    process.wait()
    assert judge.outcomes("l1", ["w1"] * 6, replies, [""] * 6) == found
