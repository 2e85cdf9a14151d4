"""At loading: a model writes and computes here what it does under transformers' own `generate`, or it is refused.

Three short chats are continued greedily and their residual streams read: one at a time, in a batch of different
lengths, from which a row is then dropped, and, where that differs, in a batch of equal lengths. Nothing is decided by
an architecture's name: a recurrent state that sees padding, or a cache that can't let go of a row, shows.

What is compared, by dtype: tokens, and residual streams and logits by the norm of their difference relative to their
own. In float32 they agree but for the order of summation; in half precision, and where weights are quantised, kernels
round differently for batches of different shapes, which adds up to some per cent over the blocks. Where two tokens'
logits are closer than that rounding, either may be written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from polygate import files
from polygate.errors import PolygateError
from polygate.forward import capture, generation, heads, passes
from polygate.forward.batching import Batching, left_pad, position_ids
from polygate.forward.device import name_of
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel
from polygate.forward.prefixes import Kept
from polygate.forward.tokenising import Tokenised, tokenise
from polygate.forward.weights import first_line, quiet
from polygate.forward.writing import Writer
from polygate.provenance import code_hash

_TEXTS = ("Hello", "What is a house?", "Which of these is it: a house, 3 trees or 12.5 % of the rest?")
_NEW_TOKENS = 8
_TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
_REMEDY = "set its attention to eager or its dtype to float32, or use another model"
_NOTHING = 1e-12


@dataclass(frozen=True)
class _Sample:
    """A chat, what transformers writes after it (whatever would end it), the logits [steps, vocabulary] of that, and
    the residual stream after each block at the chat's last token, [layers, d]."""

    prompt: Tokenised
    tokens: list[int]
    logits: Tensor
    stream: Tensor


@dataclass(frozen=True)
class Found:
    """Which prompts may share a batch of a model, whether their keys and values can go from one batch to another, and
    whether upper blocks can go on from what the lower ones have left of a prompt."""

    batching: Batching
    shares: bool
    resumes: bool


def found(loaded: LoadedModel, folder: Path, cache: Path | None = None) -> Found:
    """What this model can be given.

    `PolygateError` when even one prompt alone differs from transformers. With a fingerprint and a `cache` the answer
    is kept there, under all that it depends on.
    """
    record = None if cache is None or not loaded.fingerprint else cache / "checked" / f"{_key(loaded)}.json"
    if record is not None and record.is_file():
        try:
            known = files.read_json(record)
            if known["batching"] in get_args(Batching):
                return Found(known["batching"], bool(known["shares"]), bool(known["resumes"]))
        except (PolygateError, KeyError, TypeError):
            pass  # A damaged record is made again.
    made = _check(loaded, folder)
    if record is not None:
        files.write_json(record, asdict(made))
    return made


def _key(loaded: LoadedModel) -> str:
    described = [
        loaded.fingerprint,
        loaded.dtype,
        loaded.quantisation,
        loaded.attention,
        loaded.tokenizer.chat_template,
        name_of(loaded.devices),
        code_hash(__name__),
        [metadata.version(name) for name in ("torch", "transformers", "tokenizers")],
    ]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


@torch.inference_mode()
def _check(loaded: LoadedModel, folder: Path) -> Found:
    try:
        prompts = tokenise(loaded.tokenizer, _TEXTS, embeddings=loaded.embeddings)
        samples = [_sample(loaded, prompt) for prompt in prompts]
        differing = next((what for one in samples if (what := _difference(loaded, [one])) is not None), None)
    except PolygateError as error:
        raise PolygateError(str(error), where=folder) from error
    except Exception as error:
        raise PolygateError(
            f"{type(loaded.model).__name__} can't be run here ({first_line(error)})", where=folder, do=_REMEDY
        ) from error
    if differing is not None:
        raise PolygateError(
            f"{type(loaded.model).__name__}: {differing} differ from those of transformers' own generate",
            where=folder,
            do=_REMEDY,
        )
    if _agree_in_a_batch(loaded, samples):
        shares = _goes_between_batches(loaded, samples)
        return Found("padded", shares, shares and _goes_on(loaded, samples))
    turned = [_sample(loaded, _turned(prompts[-1], by)) for by in range(3)]
    return Found("equal" if _agree_in_a_batch(loaded, turned) else "single", shares=False, resumes=False)


def _turned(prompt: Tokenised, by: int) -> Tokenised:
    """The same tokens from another one on: as long, and another text."""
    return replace(prompt, input_ids=prompt.input_ids[by:] + prompt.input_ids[:by])


def _agree_in_a_batch(loaded: LoadedModel, samples: Sequence[_Sample]) -> bool:
    try:
        return _difference(loaded, samples) is None and _lets_go_of_a_row(loaded, samples)
    except Exception:
        return False  # What fails in a batch, in whatever way, is run without one.


def _tolerance(loaded: LoadedModel) -> float:
    return _TOLERANCE[loaded.dtype if loaded.quantisation == "none" else "bfloat16"]


def _lets_go_of_a_row(loaded: LoadedModel, samples: Sequence[_Sample]) -> bool:
    """Whether the second token's logits are right after the first row has been dropped from the batch."""
    ids, mask = left_pad([sample.prompt for sample in samples], loaded.pad, loaded.device)
    positions, cache = position_ids(mask), passes.Cache(loaded.model)
    passes.last_logits(loaded, ids, mask, positions, cache)
    rest = torch.arange(1, len(samples), device=loaded.device)
    cache.keep(rest)
    first = torch.tensor([[sample.tokens[0]] for sample in samples[1:]], device=loaded.device)
    found = passes.last_logits(loaded, first, passes.one_more(mask)[rest], positions[rest, -1:] + 1, cache)
    expected = torch.stack([sample.logits[1] for sample in samples[1:]])
    return _close(_centred(found.float()), _centred(expected), _tolerance(loaded))


def _goes_between_batches(loaded: LoadedModel, samples: Sequence[_Sample]) -> bool:
    """Whether texts and first logits are right where two rows at a time are written and the third joins them."""
    texts: dict[int, list[int]] = {}
    prompts = [sample.prompt for sample in samples]
    names = [f"{number} of the check at loading" for number, _ in enumerate(prompts)]
    room = 2 * (max(len(prompt) for prompt in prompts) + _NEW_TOKENS)
    try:
        writer = Writer(replace(loaded, written_tokens=room), prompts, None, names)
        writer.write(_NEW_TOKENS, lambda _: None, texts.__setitem__)
        first = writer.start(range(len(prompts)))[0]
        streams = _streams(loaded, prompts, shared=True)
    except Exception:
        return False  # A cache of another kind fails in whatever way.
    tolerance = _tolerance(loaded)
    return all(
        _same_text(texts[number], sample, loaded.stop, tolerance)
        and _close(streams[number], sample.stream, tolerance)
        and _close(_centred(first[number].float()), _centred(sample.logits[0]), tolerance)
        for number, sample in enumerate(samples)
    )


def _goes_on(loaded: LoadedModel, samples: Sequence[_Sample]) -> bool:
    """Whether first logits are right where upper blocks go on from the lower ones' part of prompts left alone.

    What acts there is too small to change a number. Blocks that use others' keys and values need all of them.
    """
    prompts, middle = [sample.prompt for sample in samples], (loaded.layers - 1) // 2
    if loaded.stream is not None or loaded.layers == 1:
        return False
    shape, count = (1, loaded.width), len(prompts)
    nothing = Part((middle,), np.full(shape, _NOTHING, np.float32), "add", "every", np.full(count, _NOTHING))
    names = [f"{number} of the check at loading" for number in range(count)]
    kept = Kept()
    try:
        trying = replace(loaded, resumes=True)
        writer = Writer(trying, prompts, Intervention(tuple(names), (nothing,)), names, kept)
        alone = Writer(trying, prompts, None, names, kept).prefixes(range(count))
        if not all(
            one.layout.complete and one.layout.depth == loaded.layers and middle in one.streams for one in alone
        ):
            return False
        first = writer.start(range(count))[0]
    except Exception:
        return False  # Blocks that give or want more than a stream fail in whatever way.
    tolerance = _tolerance(loaded)
    pairs = zip(first, samples, strict=True)
    return all(_close(_centred(logits.float()), _centred(sample.logits[0]), tolerance) for logits, sample in pairs)


def _centred(logits: Tensor) -> Tensor:
    """Logits [..., vocabulary] less their mean, which no probability depends on; what a model masks is left out."""
    kept = logits.masked_fill(~logits.isfinite(), 0.0)
    return kept - kept.mean(dim=-1, keepdim=True)


def _sample(loaded: LoadedModel, prompt: Tokenised) -> _Sample:
    from transformers import GenerationConfig

    ids, mask = left_pad([prompt], loaded.pad, loaded.device)
    given = GenerationConfig(
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        pad_token_id=loaded.pad,
        output_logits=True,
        return_dict_in_generate=True,
    )
    kept = loaded.model.generation_config
    try:
        # The folder's own would add what isn't given: penalties, forced and suppressed tokens.
        loaded.model.generation_config = GenerationConfig()
        with quiet(), heads.as_loaded(loaded.model):
            written = loaded.model.generate(ids, attention_mask=mask, generation_config=given)
    finally:
        loaded.model.generation_config = kept
    tokens = written.sequences[0, ids.shape[1] :].tolist()
    return _Sample(prompt, tokens, torch.cat(written.logits).float(), _streams(loaded, [prompt])[0])


def _streams(loaded: LoadedModel, prompts: Sequence[Tokenised], shared: bool = False) -> Tensor:
    """Residual streams as capture reads them, float32 [b, layers, d]; what the prompts share, if so, read once."""
    layers = tuple(range(loaded.layers))
    preamble = capture.read_preamble(loaded, prompts, layers) if shared else None
    found, _ = capture.read(loaded, prompts, ("t_post_inst",), layers, preamble)
    return torch.stack([found[layer][:, 0].float().to(loaded.device) for layer in layers], dim=1)


def _difference(loaded: LoadedModel, samples: Sequence[_Sample]) -> str | None:
    """What of these samples, run together, is not as it should be; None when all is."""
    prompts = [sample.prompt for sample in samples]
    names = [f"{number} of the check at loading" for number, _ in enumerate(prompts)]
    texts = generation.write(loaded, prompts, None, _NEW_TOKENS, names)
    tolerance = _tolerance(loaded)
    for tokens, sample in zip(texts, samples, strict=True):
        if not _same_text(tokens, sample, loaded.stop, tolerance):
            return "greedy texts"
    if len(samples) == 1:
        return None if _as_transformers(loaded, samples[0], tolerance) else "activations"
    together = zip(_streams(loaded, prompts), samples, strict=True)
    return None if all(_close(found, sample.stream, tolerance) for found, sample in together) else "activations"


def _same_text(tokens: Sequence[int], sample: _Sample, stop: frozenset[int], tolerance: float) -> bool:
    """Whether these are the sample's tokens up to one of `stop`, or leave them where two logits are about equal."""
    end = next((place + 1 for place, token in enumerate(sample.tokens) if token in stop), len(sample.tokens))
    for place, (found, expected) in enumerate(zip(tokens, sample.tokens[:end], strict=False)):
        if found != expected:
            logits = sample.logits[place]
            finite = logits[logits.isfinite()]
            return bool(logits[expected] - logits[found] <= tolerance * (finite.max() - finite.min()))
    return len(tokens) == end


def _as_transformers(loaded: LoadedModel, sample: _Sample, tolerance: float) -> bool:
    """Whether the sample's residual streams are transformers' hidden states.

    The last one is left out, since transformers normalises it; some models give the embeddings first, some don't.
    """
    ids, mask = left_pad([sample.prompt], loaded.pad, loaded.device)
    output = loaded.base(
        input_ids=ids,
        attention_mask=mask,
        position_ids=position_ids(mask),
        use_cache=False,
        output_hidden_states=True,
    )
    hidden = getattr(output, "hidden_states", None)
    if not hidden:
        return True  # RecurrentGemma's model gives none.
    single = [one if loaded.stream is None or one.dim() == 3 else one[loaded.stream] for one in hidden]
    last = [one[0, -1].float().to(loaded.device) for one in single]
    count = loaded.layers - 1
    return any(
        len(last) >= first + count
        and all(_close(sample.stream[layer], last[first + layer], tolerance) for layer in range(count))
        for first in (1, 0)
    )


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether vectors [..., d] differ by no more than `tolerance` of their length."""
    difference = (found - expected).norm(dim=-1)
    return bool((difference <= tolerance * expected.norm(dim=-1)).all())
