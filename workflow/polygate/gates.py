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

Needs numpy, safetensors, torch and transformers, none of the workflow's packages: `pip install polygate[gates]`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polygate.decision.calibration import decide
from polygate.decision.gate import Gate, load
from polygate.errors import PolygateError
from polygate.forward.batching import left_pad, position_ids
from polygate.forward.blocks import decoder_blocks, stream_of
from polygate.forward.edits import edits
from polygate.forward.hooks import Record, Select, attached
from polygate.forward.interventions import Intervention
from polygate.forward.tokenising import bind, tokenise
from polygate.steering import interventions

__all__ = ["Decisions", "Routed", "attach", "intervention", "load"]


@dataclass(frozen=True)
class Decisions:
    """What a gate said of the prompts of a batch: `scores` float64 [b], `flagged` bool [b]."""

    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]


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
            self.model.__dict__.pop("generate", None)

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
        return Decisions(scores, decide(scores, self.gate.threshold))

    def _routed(self, *args: Any, **kwargs: Any) -> Any:
        """`generate` of the model, with the rows that the gate flags steered."""
        with self._lock:
            given, mask = _prompts(args, kwargs)
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

        Greedy unless `options` of `generate` say otherwise.
        """
        rows = tokenise(self.tokenizer, list(prompts), None, self.model.get_input_embeddings().num_embeddings)
        pad = next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)
        ids, mask = left_pad(rows, pad, next(self.model.parameters()).device)
        given = {"do_sample": False, "pad_token_id": pad, **options}
        written = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, **given)
        return list(self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True))


def attach(model: Any, tokenizer: Any, gate: Gate, log: Callable[[Decisions], None] | None = None) -> Routed:
    """Route a transformers model's `generate` by `gate`.

    `log` is called with the decisions of every batch. The tokenizer's chat template gets the fixed date that the
    workflow gives it, for `Routed.answer`. Raises `PolygateError` for a gate of another width or depth and for a model
    that has a gate.
    """
    if tokenizer is not None and isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = bind(tokenizer.chat_template, {})
    return Routed(model, tokenizer, gate, log)


def _prompts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
    """What `generate` was given as prompts, by the name that the model knows it by, and their mask."""
    embeddings = kwargs.get("inputs_embeds")
    found = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
    if found is None and embeddings is None:
        raise PolygateError("generate without prompts", do="give input_ids, or inputs_embeds")
    if kwargs.get("assistant_model") is not None or kwargs.get("prompt_lookup_num_tokens"):
        raise PolygateError("a gate can't steer guessed tokens", do="generate without an assistant model")
    mask: Tensor | None = kwargs.get("attention_mask")
    given: dict[str, Any] = {"input_ids": found} if embeddings is None else {"inputs_embeds": embeddings}
    return given, mask


def _with_mask(mask: Tensor | None) -> dict[str, Tensor]:
    if mask is None:
        return {}
    return {"attention_mask": mask, "position_ids": position_ids(mask)}


def _stop(_module: nn.Module, _args: Any, _output: Any) -> None:
    raise _Stopped
