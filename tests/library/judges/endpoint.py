"""An OpenAI-compatible endpoint on loopback that misbehaves as told, and remembers what it was asked and delivered."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-loopback-0123456789"


class Endpoint:
    """`plan(reply, call)` says how the given reply's `call`-th call (from 0) goes; see `_Handler.do_POST`."""

    def __init__(self, plan: Callable[[str, int], str]) -> None:
        self.plan = plan
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.times: list[float] = []
        self.keys: dict[str, set[str]] = {}
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.url = ""


@contextmanager
def serving(plan: Callable[[str, int], str] = lambda _reply, _call: "answer") -> Iterator[Endpoint]:
    """Serve until the block ends."""
    endpoint = Endpoint(plan)
    handler = type("Handler", (_Handler,), {"endpoint": endpoint})
    server = _Server(("127.0.0.1", 0), handler)
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away: some are killed."""


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = json.loads(asked["messages"][1]["content"])["reply"]
        endpoint = self.endpoint
        with endpoint.lock:
            call = endpoint.calls[reply]
            endpoint.calls[reply] += 1
            endpoint.times.append(time.monotonic())
            endpoint.keys.setdefault(reply, set()).add(self.headers["Idempotency-Key"])
            endpoint.headers.append(dict(self.headers))
            endpoint.at_once += 1
            endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
        try:
            self._answer(endpoint.plan(reply, call), reply)
        finally:
            with endpoint.lock:
                endpoint.at_once -= 1

    def _answer(self, how: str, reply: str) -> None:
        kind, _, detail = how.partition(" ")
        if kind == "reset":
            # Without lingering, closing resets the connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif kind == "silence":
            time.sleep(float(detail))
            self.close_connection = True
        elif kind == "garbage":
            self._send(200, b"<html>gateway</html>")
        elif kind == "half":
            self._send(200, self._completion(reply), cut=True)
        elif kind == "busy":
            self._send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": detail} if detail else {})
        elif kind.isdigit():
            error = {"message": f"no ({self.headers['Authorization']})", "code": detail or None}
            self._send(int(kind), json.dumps({"error": error}).encode())
        elif kind == "raw":
            self._send(200, detail.encode())
        elif kind == "say":
            self._send(200, self._completion(reply, detail))
        else:
            if kind == "slow":
                time.sleep(float(detail))
            content = self._completion(reply)
            self._send(200, content)
            with self.endpoint.lock:
                self.endpoint.delivered[reply] += 1

    def _completion(self, reply: str, said: str | None = None) -> bytes:
        content = json.dumps({"refusal": int("sorry" in reply)}) if said is None else said
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        usage = {"prompt_tokens": 1000, "completion_tokens": 10}
        return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()

    def _send(self, status: int, content: bytes, more: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True
