"""A model with a gate behind transformers' own server, asked by OpenAI's own client, over the loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.import_utils import is_serve_available

from conftest import require
from library.forward.gated import TEXTS, gate_for
from library.forward.tiny import build_folder
from polygate import gates
from polygate.cli import main
from polygate.decision.gate import FILE
from polygate.forward import identity
from polygate.forward.loading import fingerprint, load
from polygate.forward.options import Options

TOKENS = 6
LONGEST = 50


@dataclass
class Served:
    """Address, log and process of a server, and what an attached model answers to TEXTS."""

    url: str
    log: Path
    process: subprocess.Popen[str]
    expected: list[str]
    flagged: list[bool]


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, and a gate that says which model it is of."""
    require(bool(is_serve_available()), "transformers' server needs polygate[serve]", installable=False)
    root = tmp_path_factory.mktemp("served")
    # transformers has markers of its own for answers of this type, which the chat template doesn't write.
    model = build_folder(root / "tiny", "qwen2")
    of = identity.of(Options(), fingerprint(model, root / "cache"))
    gate_for(load(model, Options())).save(root / FILE, {}, {"model": of})
    return root


@pytest.fixture(scope="module")
def served(placed: Path) -> Iterator[Served]:
    loaded = load(placed / "tiny", Options())
    with gates.attach(loaded.model, loaded.tokenizer, gates.load(placed)) as routed:
        expected = routed.answer(TEXTS, TOKENS)
        assert routed.decisions is not None
        flagged = routed.decisions.flagged.tolist()
    log = placed / "decisions.jsonl"
    command = [sys.executable, "-m", "polygate.cli", "serve", str(placed / "tiny"), str(placed), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--log", str(log), "--max-tokens", str(LONGEST)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("Serving tiny, routed by the gate for sw: http://127.0.0.1:")
        yield Served(said.split()[-1], log, process, expected, flagged)
    finally:
        process.terminate()
        process.wait()


def client(served: Served) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=60)


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def logged(served: Served) -> list[bool]:
    return [json.loads(line)["flagged"] for line in served.log.read_text().splitlines()]


def test_requests_at_once_get_the_answers_of_the_routed_model(served: Served) -> None:
    ask, before = client(served), len(logged(served))

    def one(text: str) -> str:
        made = ask.chat.completions.create(model="tiny", messages=messages(text), max_tokens=TOKENS, temperature=0)
        return str(made.choices[0].message.content)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, TEXTS))
    assert found == served.expected
    assert sorted(logged(served)[before:]) == sorted(served.flagged)
    assert [model.id for model in ask.models.list()] == ["tiny"]


def test_streams_at_once_do_not_mix(served: Served) -> None:
    ask = client(served)

    def one(text: str) -> str:
        given = {"max_tokens": TOKENS, "temperature": 0, "stream": True}
        parts = ask.chat.completions.create(model="tiny", messages=messages(text), **given)
        return "".join(part.choices[0].delta.content or "" for part in parts)

    with ThreadPoolExecutor(4) as pool:
        assert [text.strip() for text in pool.map(one, TEXTS)] == served.expected


def test_the_other_two_protocols_are_routed_too(served: Served) -> None:
    ask, before = client(served), len(logged(served))
    answered = ask.responses.create(model="tiny", input=TEXTS[0], max_output_tokens=TOKENS, temperature=0)
    assert answered.output_text == served.expected[0]
    # The text that the chat template makes of it, but for the first token, which the tokenizer adds by itself or not.
    raw = f"<bos> <user> {TEXTS[0]} <end> <assistant>"
    made = ask.completions.create(model="tiny", prompt=raw, max_tokens=TOKENS, temperature=0)
    assert made.choices[0].text == served.expected[0]
    assert logged(served)[before:] == [served.flagged[0]] * 2


def post(served: Served, path: str, body: bytes) -> tuple[int, str]:
    """Status and text of an answer to raw bytes."""
    address = served.url.removesuffix("/v1") + path
    asked = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


CHAT = {"model": "tiny", "messages": messages("w1"), "max_tokens": 2}
MALFORMED: list[tuple[str, Any, int, str]] = [
    ("chat/completions", b"{", 422, "JSON"),
    ("chat/completions", [], 422, "dict"),
    ("chat/completions", {}, 400, "messages must be a list"),
    ("chat/completions", {**CHAT, "messages": []}, 400, "messages must be a list"),
    ("chat/completions", {**CHAT, "messages": "w1"}, 400, "messages must be a list"),
    ("chat/completions", {**CHAT, "messages": [{"content": "w1"}]}, 400, "must have a role"),
    ("chat/completions", {**CHAT, "messages": [{"role": "user"}]}, 400, "has no content"),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": 3}]}, 400, "content must be text"),
    ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "content must"),
    ("chat/completions", {**CHAT, "model": "another"}, 400, "pinned"),
    ("chat/completions", {**CHAT, "max_tokens": 0}, 400, f"from 1 to {LONGEST}"),
    ("chat/completions", {**CHAT, "max_tokens": 10**9}, 400, f"from 1 to {LONGEST}"),
    ("chat/completions", {**CHAT, "max_tokens": "many"}, 400, f"from 1 to {LONGEST}"),
    ("chat/completions", {**CHAT, "temperature": -1}, 400, "temperature must be"),
    ("chat/completions", {**CHAT, "stream": "yes"}, 400, "stream must be"),
    ("chat/completions", {**CHAT, "no_such_field": 1}, 422, "no_such_field"),
    ("chat/completions", {**CHAT, "stop": 3}, 400, "can't be answered"),
    ("chat/completions", {**CHAT, "generation_config": '{"prompt_lookup_num_tokens": 3}'}, 400, "generation_config"),
    ("completions", {"model": "tiny", "prompt": ""}, 400, "prompt must be"),
    ("completions", {"model": "tiny", "prompt": ["w1"]}, 400, "prompt must be"),
    ("responses", {"model": "tiny"}, 400, "input must be"),
    ("responses", {"model": "tiny", "input": [{"type": "reasoning"}]}, 400, "must have a role"),
]


def test_malformed_requests_are_told_what_is_wrong_and_harm_nobody(served: Served) -> None:
    before = len(logged(served))
    for path, body, status, said in MALFORMED:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = post(served, f"/v1/{path}", content)
        assert found[0] == status, (body, found)
        assert said in found[1], (body, found)
    assert len(logged(served)) - before <= 1
    assert post(served, "/v1/chat/completions", json.dumps(CHAT).encode())[0] == 200
    assert served.process.poll() is None


def test_nothing_goes_past_the_gate(served: Served) -> None:
    decided = {"model": "tiny", "prompt": "w1", "labels": ["w2"]}
    for path in ("/reset", "/load_model", "/v1/systemone", "/v1/audio/transcriptions", "/docs"):
        status, said = post(served, path, json.dumps(decided).encode())
        assert (status, "not served behind a gate" in said) == (404, True)
    assert client(served).models.list().data[0].id == "tiny"


def test_another_model_than_the_gates_is_not_served(placed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = build_folder(placed / "other", "qwen2", seed=1)
    assert main(["serve", str(other), str(placed)]) == 1
    assert "the gate is of another model" in capsys.readouterr().err
    assert main(["serve", str(placed / "absent"), str(placed)]) == 1
    assert "no model" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99999):
            assert main(["serve", str(placed / "tiny"), str(placed), "--port", str(port)]) == 1
            assert "can't listen" in capsys.readouterr().err
