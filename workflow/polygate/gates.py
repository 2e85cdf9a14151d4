"""A gate at work on a transformers model: what it flags is steered towards refusal, nothing else is touched.

    from polygate import gates

    gate = gates.load("results/paper/gemma-2-9b/gates/sw/16.0.safetensors")
    with gates.attach(model, tokenizer, gate) as routed:
        model.generate(**batch)             # as before: batches, streamers, pipelines
        routed.decisions                    # scores and flags of that batch

Before anything is generated the prompts go once through the blocks up to the gate's, unsteered, and the gate reads
their last token. Then `generate` runs with α·v added to the flagged rows at the gate's block, on the prompt's last
token and every generated one; the others are left alone, or lose their part along v where the run chose so
(`gate.scope`).
Rows that are left alone keep every bit of what the model alone makes of them in the same batch.

What would go past the gate is refused: continuous batching (`generate_batch`), guessed tokens (an assistant model,
prompt lookup), prompts padded on the right, a score that is no number. The forward pass itself (`model(...)`) is not
routed: only text that `generate` writes is.

Needs numpy, safetensors, torch and transformers, none of the workflow's packages: `pip install polygate[gates]`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polygate.decision.calibration import decide
from polygate.decision.gate import Gate, given
from polygate.errors import PolygateError
from polygate.forward.batching import left_pad, position_ids
from polygate.forward.blocks import decoder_blocks, stream_of
from polygate.forward.edits import edits
from polygate.forward.hooks import Record, Select, attached
from polygate.forward.interventions import Intervention
from polygate.forward.tokenising import bind, tokenise
from polygate.steering import interventions

__all__ = ["Decisions", "Gate", "Lines", "Routed", "attach", "intervention", "load"]

_PAST = ("generate_batch", "init_continuous_batching", "continuous_batching_context_manager")
"""Ways of a transformers model to write text that don't go through `generate`."""


def load(path: str | Path) -> Gate:
    """Read a gate: its safetensors file, or the folder that `polygate calibrate` or `polygate export` wrote.

    Raises `PolygateError` when the file is broken or not a gate, and for a folder without one.
    """
    return given(path)


@dataclass(frozen=True)
class Decisions:
    """What a gate said of the prompts of a batch: `scores` float64 [b], `flagged` bool [b]."""

    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]


class Lines:
    """A log of decisions: one JSON object per prompt and line, appended to a file.

    `at` (UTC, ISO 8601), `score`, `threshold` (null where it is infinite), `flagged`, `gate` (its language). Never the
    prompt. A line is written whole, by one call, so that several processes may share the file.
    """

    def __init__(self, path: str | Path, gate: Gate) -> None:
        self.path, self.gate = Path(path), gate
        self._write("")

    def __call__(self, decisions: Decisions) -> None:
        """Append a batch's decisions; `PolygateError` when the file can't be written."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        threshold = self.gate.threshold if np.isfinite(self.gate.threshold) else None
        shared = {"threshold": threshold, "gate": self.gate.language}
        pairs = zip(decisions.scores.tolist(), decisions.flagged.tolist(), strict=True)
        lines = [{"at": at, "score": score, "flagged": flagged, **shared} for score, flagged in pairs]
        self._write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _write(self, text: str) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(text.encode())
        except OSError as error:
            raise PolygateError(f"decisions can't be logged ({error.strerror})", where=self.path) from None


def intervention(gate: Gate, flagged: NDArray[np.bool_], depth: int) -> Intervention:
    """What the gate's decisions `flagged` [b] do in a model with `depth` blocks; rows are named by their number."""
    added = interventions.addition(gate.v, gate.layer, np.where(flagged, gate.alpha, 0.0))
    ablated = interventions.ablation(gate.v, gate.layer, gate.scope, depth, ~flagged)
    return Intervention(tuple(map(str, range(len(flagged)))), (added, *ablated))


class _Stopped(Exception):  # noqa: N818
    """The gate's block has been read: the rest of the pass is not needed."""


class Routed:
    """A model whose `generate` is routed by a gate, until `remove` or the end of a `with`.

    `decisions` are those of the last call; `log` is told them too. Calls from several threads wait for each other.
    """

    def __init__(self, model: Any, tokenizer: Any, gate: Gate, log: Callable[[Decisions], None] | None) -> None:
        self.model, self.tokenizer, self.gate, self.log = model, tokenizer, gate, log
        self.decisions: Decisions | None = None
        self._base: nn.Module = model.base_model
        self._blocks = decoder_blocks(model)
        self._stream = stream_of(model)
        self._lock = threading.RLock()
        self._check()
        self._generate = model.generate
        model.generate = self._routed
        self._past = [name for name in _PAST if hasattr(model, name)]
        for name in self._past:
            setattr(model, name, _refuse)

    def _check(self) -> None:
        config = self.model.config.get_text_config(decoder=True)
        width, depth = int(config.hidden_size), len(self._blocks)
        if len(self.gate.v) != width or self.gate.layer >= depth:
            raise PolygateError(
                f"a gate for width {len(self.gate.v)} at layer {self.gate.layer}, but the model has width {width} "
                f"and layers 0 to {depth - 1}",
                do="use a gate of this model",
            )
        if isinstance(getattr(self.model.generate, "__self__", None), Routed):
            raise PolygateError("the model has a gate already", do="remove that one first")

    def remove(self) -> None:
        """Give the model its own `generate` back."""
        with self._lock:
            if getattr(self.model.__dict__.get("generate"), "__self__", None) is self:
                for name in ("generate", *self._past):
                    self.model.__dict__.pop(name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def decide(self, ids: Tensor, mask: Tensor | None = None) -> Decisions:
        """The gate's decisions on prompts [b, t], left-padded, mask [b, t] (none where nothing is padded)."""
        return self._decide({"input_ids": ids}, mask)

    def _decide(self, given: Mapping[str, Tensor], mask: Tensor | None) -> Decisions:
        (prompts,) = given.values()
        if mask is not None and not bool(mask[:, -1].all()):
            raise PolygateError("the prompts are padded on the right", do="set tokenizer.padding_side = 'left'")
        last = torch.full((prompts.shape[0], 1), prompts.shape[1] - 1, dtype=torch.int64)
        record = Record()
        reading = [(Select((self.gate.layer,), last), record)]
        with torch.no_grad(), attached(self._base, self._blocks, reading, prompts.shape[1], self._stream):
            stop = self._blocks[self.gate.layer].register_forward_hook(_stop)
            try:
                self._base(**given, **_with_mask(mask), use_cache=False)
            except _Stopped:
                pass
            finally:
                stop.remove()
        scores = self.gate.score(record.recorded[self.gate.layer][:, 0].float().cpu().numpy())
        if not np.isfinite(scores).all():
            # Not greater than any threshold, it would pass for harmless.
            raise PolygateError("the gate's score of a prompt is no number", do="load the model in a wider dtype")
        return Decisions(scores, decide(scores, self.gate.threshold))

    def _routed(self, *args: Any, **kwargs: Any) -> Any:
        """`generate` of the model, with the rows that the gate flags steered."""
        with self._lock:
            given, mask = _prompts(args, kwargs)
            _check_mode(kwargs.get("generation_config") or self.model.generation_config, kwargs)
            (prompts,) = given.values()
            found = self._decide(given, mask)
            self.decisions = found
            if self.log is not None:
                self.log(found)
            steering = edits(intervention(self.gate, found.flagged, len(self._blocks)))
            with self._steered(steering, prompts.shape[1], len(found.flagged)):
                return self._generate(*args, **kwargs)

    @contextmanager
    def _steered(self, steering: list[Any], width: int, rows: int) -> Iterator[None]:
        """The edits on the model; each row's on all the rows that `generate` makes of it (beams, several answers)."""
        with attached(self._base, self._blocks, steering, width, self._stream) as state:

            def widen(_module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
                first.remove()
                found = args[0] if args else kwargs.get("input_ids")
                batch = (kwargs["inputs_embeds"] if found is None else found).shape[0]
                if batch != rows:
                    state.keep(torch.arange(rows).repeat_interleave(batch // rows))

            first = self._base.register_forward_pre_hook(widen, with_kwargs=True)
            try:
                yield
            finally:
                first.remove()

    def answer(self, prompts: Sequence[str], max_new_tokens: int = 128, **options: Any) -> list[str]:
        """Answers to `prompts`, each in the chat template as a user's turn, tokenised as the workflow does.

        Greedy unless `options` of `generate` say otherwise. Raises `PolygateError` for what is no list of texts.
        """
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise PolygateError("prompts are no list of texts", do='call it as: answer(["…"])')
        if not prompts:
            return []
        rows = tokenise(self.tokenizer, list(prompts), None, self.model.get_input_embeddings().num_embeddings)
        pad = next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)
        ids, mask = left_pad(rows, pad, next(self.model.parameters()).device)
        given = {"do_sample": False, "pad_token_id": pad, **options}
        written = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, **given)
        return list(self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True))


def attach(
    model: Any, tokenizer: Any, gate: Gate, log: Callable[[Decisions], None] | str | Path | None = None
) -> Routed:
    """Route a transformers model's `generate` by `gate`.

    `log` is called with the decisions of every batch, or is a file that `Lines` appends them to. The tokenizer's chat
    template gets the fixed date that the workflow gives it, for `Routed.answer`; without a tokenizer, token ids are
    routed all the same. Raises `PolygateError` for a gate of another width or depth, for a model that has a gate, and
    for a log that can't be written.
    """
    if not isinstance(gate, Gate):
        raise PolygateError(f"not a gate ({type(gate).__name__})", do="give what gates.load(path) returns")
    template = getattr(tokenizer, "chat_template", None)
    # Templates are Jinja's: without it, transformers renders none either.
    if isinstance(template, str) and find_spec("jinja2") is not None:
        tokenizer.chat_template = bind(template, {})
    routed = Routed(model, tokenizer, gate, None)
    try:
        routed.log = Lines(log, gate) if isinstance(log, str | Path) else log
    except PolygateError:
        routed.remove()
        raise
    return routed


def _check_mode(config: Any, kwargs: Mapping[str, Any]) -> None:
    """`PolygateError` where tokens would be guessed and checked together, by the call's arguments or the model's."""
    names = ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
    guessing = [name for name in names if kwargs.get(name, getattr(config, name, None))]
    if kwargs.get("assistant_model") is not None or guessing:
        raise PolygateError(
            "a gate can't steer guessed tokens", do=f"generate without {', '.join(guessing) or 'an assistant model'}"
        )


def _refuse(*_: Any, **__: Any) -> Any:
    raise PolygateError("continuous batching would go past the gate", do="use generate, which takes batches")


def _prompts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
    """What `generate` was given as prompts, by the name that the model knows it by, and their mask."""
    embeddings = kwargs.get("inputs_embeds")
    found = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
    if found is None and embeddings is None:
        raise PolygateError("generate without prompts", do="give input_ids, or inputs_embeds")
    mask: Tensor | None = kwargs.get("attention_mask")
    given: dict[str, Any] = {"input_ids": found} if embeddings is None else {"inputs_embeds": embeddings}
    return given, mask


def _with_mask(mask: Tensor | None) -> dict[str, Tensor]:
    if mask is None:
        return {}
    return {"attention_mask": mask, "position_ids": position_ids(mask)}


def _stop(_module: nn.Module, _args: Any, _output: Any) -> None:
    raise _Stopped
