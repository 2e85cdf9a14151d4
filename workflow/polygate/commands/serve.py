"""transformers' own server, which speaks OpenAI's protocol, with a gate on its model.

    polygate serve MODEL GATE --port 8000 --log decisions.jsonl

Chats, completions and responses are routed, streamed or not; requests that come at once wait for each other. What
would go past the gate is not served: other models, other generation settings than a client's usual ones, typed
decisions, which read the model without `generate`. Needs `pip install polygate[serve]`.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from polygate import files, gates
from polygate.decision.gate import file_of
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.forward.options import Options
from polygate.forward.tokenising import render

ROUTED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
OPEN = (*ROUTED, "/v1/models", "/health")
_DTYPES, _ATTENTIONS = ("float32", "bfloat16", "float16"), ("sdpa", "eager")
_QUANTISATIONS = ("none", "8bit", "4bit")
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ROLES = ("system", "developer", "user", "assistant", "tool")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of the model that the gate is of")
    parser.add_argument("gate", type=Path, metavar="GATE", help="a gate's file, or the folder that calibrate wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    parser.add_argument("--name", help="what clients call the model; its folder's name when empty")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append every decision, a JSON object a line")
    parser.add_argument("--max-tokens", type=int, default=2048, help="the longest answer that a client may ask for")
    parser.add_argument("--revision", help="the model's, as the run's settings had it")
    parser.add_argument("--chat-template", type=Path, help="the run's, where its settings had one of their own")
    parser.add_argument("--unchecked", action="store_true", help="serve a model that the gate may not be of")
    parser.add_argument("--dtype", choices=_DTYPES, help="the run's when empty")
    parser.add_argument("--quantisation", choices=_QUANTISATIONS, help="the run's when empty")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that the weights are spread over")
    parser.add_argument("--attention", choices=_ATTENTIONS, help="the run's when empty")


def run(args: argparse.Namespace) -> None:
    """Check, load, attach, serve until interrupted."""
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        raise PolygateError("transformers' server is not installed", do="pip install polygate[serve]")
    gate = gates.load(args.gate)
    options = options_of(args)
    listening = _listen(args.host, args.port)
    from polygate.forward.loading import load

    loaded = load(args.model, options, gpus=args.gpus)
    folder = args.model.resolve()
    # A run keeps a model that it made in {model}/weights.
    name = args.name or (folder.parent.name if folder.name == "weights" else folder.name)
    with gates.attach(loaded.model, loaded.tokenizer, gate, log=args.log), listening:
        app = application(loaded.model, loaded.tokenizer, name, args.max_tokens)
        host, port = listening.getsockname()[:2]
        print(f"Serving {name}, routed by the gate for {gate.language}: http://{host}:{port}/v1", flush=True)
        _serve(app, listening)


def options_of(args: argparse.Namespace) -> Options:
    """The options that the gate's model ran with, found by its identity in the gate's file.

    Raises `PolygateError` where the folder holds another model, or the same with other options, than the gate is of.
    """
    from polygate.forward.loading import fingerprint

    if not (args.model / "config.json").is_file():
        raise PolygateError(
            "no model (config.json is missing)", where=args.model, do="give its folder: hf download ID --local-dir …"
        )
    dtypes = (args.dtype,) if args.dtype else _DTYPES
    attentions = (args.attention,) if args.attention else _ATTENTIONS
    quantisations = (args.quantisation,) if args.quantisation else _QUANTISATIONS
    more = {"chat_template": args.chat_template, "revision": args.revision}
    tried = [
        Options(dtype=dtype, attention=attention, quantisation=quantisation, **more)
        for quantisation, dtype, attention in product(quantisations, dtypes, attentions)
    ]
    wanted = files.safetensors_metadata(file_of(args.gate)).get("model")
    if args.unchecked or not wanted:
        return tried[0]
    with tempfile.TemporaryDirectory() as cache:
        contents = fingerprint(args.model, cache)
    found = next((options for options in tried if identity.of(options, contents) == wanted), None)
    if found is None:
        raise PolygateError(
            "the gate is of another model, or of this one with another revision, template or batch size",
            where=args.model,
            do="give --revision and --chat-template as the run had them, or --unchecked",
        )
    return found


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        # The system would take it modulo that.
        raise PolygateError(f"can't listen at port {port}", do="choose another --port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        raise PolygateError(f"can't listen at {host}, port {port} ({error})", do="choose another --port") from None
    return made


def _serve(app: Any, listening: socket.socket) -> None:
    import uvicorn

    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


class Only:
    """What transformers' handlers ask their model manager for, of one loaded model that stays."""

    model_timeout = -1

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.force_model = model, tokenizer, name

    @staticmethod
    def process_model_name(name: str) -> str:
        """The name as it is: there are no revisions to tell apart."""
        return name

    def load_model_and_processor(self, *_: Any, **__: Any) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return self.model, self.tokenizer

    @staticmethod
    def get_model_modality(*_: Any, **__: Any) -> Any:
        """Text."""
        from transformers.cli.serving.utils import Modality

        return Modality.LLM

    def get_gen_models(self) -> list[dict[str, Any]]:
        """The one entry of the list of models."""
        return [{"id": self.force_model, "object": "model", "created": 0, "owned_by": "polygate"}]

    def shutdown(self) -> None:
        """Nothing: the model goes with the process."""


def application(model: Any, tokenizer: Any, name: str, longest: int) -> Any:
    """transformers' server for one model whose `generate` is routed, without what would go past it."""
    from fastapi.responses import JSONResponse
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.utils import GenerationState
    from transformers.utils import logging

    logging.set_verbosity_error()
    _leave_unknown_templates(model, tokenizer)
    manager, state = Only(model, tokenizer, name), GenerationState()
    kinds = {"chat": ChatCompletionHandler, "completion": CompletionHandler, "response": ResponseHandler}
    routed = {kind: Checked(made(manager, state), CHECKS[kind], longest) for kind, made in kinds.items()}
    app = build_server(
        manager,
        routed["chat"],
        completion_handler=routed["completion"],
        response_handler=routed["response"],
        transcription_handler=None,
        systemone_handler=None,
        generation_state=state,
    )

    async def only_what_is_routed(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        if request.url.path not in OPEN:
            return JSONResponse(_error(f"{request.url.path} is not served behind a gate"), status_code=404)
        return await call_next(request)

    app.middleware("http")(only_what_is_routed)
    return app


def _leave_unknown_templates(model: Any, tokenizer: Any) -> None:
    """Keep transformers from reading answers by markers that this chat template doesn't write.

    It goes by the model's type, and where it doesn't find the marker of an answer's beginning it takes the prompt for
    a part of the answer. A template of the tokenizer's own comes first: here one that takes all text between special
    tokens for the answer.
    """
    from transformers.cli.serving.utils import get_response_template

    template = get_response_template(tokenizer, model) or {}
    anchors = template.get("start_anchor", [])
    known = [anchors] if isinstance(anchors, str) else anchors
    if known and not any(anchor in render(tokenizer, ["text"])[0] for anchor in known):
        tokenizer.response_template = {
            "defaults": {"role": "assistant"},
            "start_anchor_pattern": r"\Z",
            "fields": {"content": {"close": list(tokenizer.all_special_tokens), "repeats": True, "join": " "}},
        }


class Checked:
    """A handler of transformers' that answers a malformed request with 400 and says what is wrong with it."""

    def __init__(self, handler: Any, check: Callable[[Mapping[str, Any]], str], longest: int) -> None:
        self.handler, self.check, self.longest = handler, check, longest

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        """The handler's response, or the error."""
        from fastapi.responses import JSONResponse
        from jinja2 import TemplateError

        wrong = self.check(body) or shared(body, self.longest)
        if wrong:
            return JSONResponse(_error(wrong), status_code=400)
        if not any(body.get(name) is not None for name in _LENGTHS):
            # transformers' own default is 1024, or more where the model says so.
            body["max_output_tokens" if "input" in body else "max_tokens"] = min(1024, self.longest)
        # OpenAI's default; transformers' for responses is a stream.
        body["stream"] = bool(body.get("stream"))
        try:
            return await self.handler.handle_request(body, request_id)
        except (PolygateError, TemplateError, KeyError, TypeError, ValueError, AttributeError) as error:
            said = str(error) or type(error).__name__
            return JSONResponse(_error(f"the request can't be answered ({said})"), status_code=400)


def _error(message: str) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def shared(body: Mapping[str, Any], longest: int) -> str:
    """What is wrong with the fields that all requests share; "" when nothing is."""
    if body.get("generation_config") is not None:
        return "generation_config is not taken behind a gate: set max_tokens, temperature, top_p, seed or stop"
    for name in _LENGTHS:
        value = body.get(name)
        if value is not None and not (type(value) is int and 1 <= value <= longest):
            return f"{name} must be a whole number from 1 to {longest}"
    for name, highest in {"temperature": 2.0, "top_p": 1.0}.items():
        value = body.get(name)
        if value is not None and not (type(value) in (int, float) and 0 <= value <= highest):
            return f"{name} must be a number from 0 to {highest:g}"
    seed = body.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
        return "seed must be a whole number from 0 on"
    if not isinstance(body.get("stream"), bool | None):
        return "stream must be true or false"
    if not isinstance(body.get("model"), str | None):
        return "model must be a name"
    return ""


def chat(body: Mapping[str, Any]) -> str:
    """What is wrong with the messages of a chat."""
    return _messages(body.get("messages"), "messages")


def completion(body: Mapping[str, Any]) -> str:
    """What is wrong with the prompt of a completion."""
    prompt = body.get("prompt")
    return "" if isinstance(prompt, str) and prompt.strip() else "prompt must be a text that is not empty"


def response(body: Mapping[str, Any]) -> str:
    """What is wrong with the input of a response."""
    given = body.get("input")
    if isinstance(given, str):
        return "" if given.strip() else "input must not be empty"
    return _messages(given, "input")


def _messages(given: Any, name: str) -> str:
    if not isinstance(given, list) or not given:
        return f"{name} must be a list of messages that is not empty"
    for number, message in enumerate(given):
        if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
            return f"{name}[{number}] must have a role: {', '.join(_ROLES)}"
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
        if not isinstance(content, str | list | None) or not all(isinstance(text, str) for text in texts):
            return f"{name}[{number}].content must be text, or a list of parts that each have a text"
        if content is None and not message.get("tool_calls"):
            return f"{name}[{number}] has no content"
    return ""


CHECKS: dict[str, Callable[[Mapping[str, Any]], str]] = {"chat": chat, "completion": completion, "response": response}
