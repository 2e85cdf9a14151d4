"""From a job and a loaded model to the result's file. What this module imports is what a result depends on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polygate import files
from polygate.forward import identity
from polygate.forward.capture import capture
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention
from polygate.forward.job import CAPTURE, SCORE, Inputs, Job
from polygate.forward.loading import LoadedModel, load_tokenizer
from polygate.forward.prefixes import Kept
from polygate.forward.scoring import letter_tokens, score
from polygate.provenance import provenance
from polygate.representation import store

COMPLETIONS = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("new_tokens", pa.int32(), nullable=False),
        pa.field("finished", pa.bool_(), nullable=False),
    ]
)
"""A table of completions, one row per test prompt: see `generation.Completion` for the counts."""

SCORES = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("subset", pa.string(), nullable=False),
        pa.field("logits", pa.list_(pa.float32()), nullable=False),
    ]
)
"""A table of option scores, one row per test prompt, a logit per option in their order."""


def check(job: Job, inputs: Inputs) -> None:
    """`PolygateError` for what can be known to fail before the model is loaded: a letter without a token."""
    if job.task == SCORE:
        options = job.options
        tokenizer = load_tokenizer(job.model_folder, options.chat_template, options.template_arguments)
        letter_tokens(tokenizer, max(inputs.options))


def compute(
    job: Job,
    inputs: Inputs,
    loaded: LoadedModel,
    key: str,
    path: Path,
    advance: Callable[[float], None],
    kept: Kept | None = None,
) -> None:
    """Write the job's result to `path`, with `key` (that of its cell) in the provenance. Raises `PolygateError`.

    `kept` goes from job to job of the same loaded model: what one has read, the next need not.
    """
    facts: dict[str, Any] = {"task": job.task, "cell": key, "revision": job.options.revision, **loaded.facts()}
    facts["template_arguments"] = dict(job.options.template_arguments)
    language, ids, texts = inputs.prompts.language, inputs.ids, inputs.texts
    of = {
        "model": identity.of(job.options, loaded.fingerprint),
        "dataset": inputs.prompts.dataset,
        "prompts": inputs.prompts.fingerprint(inputs.rows),
    }
    if job.task == CAPTURE:
        tested = [] if inputs.openings else inputs.prompts.select("test").tolist()
        found = capture(
            loaded,
            texts,
            job.positions,
            names=ids,
            openings=inputs.openings,
            advance=advance,
            kept=kept,
            keep=tested,
        )
        store.write_store(path, found.tensors, ids, found.token_count, language, provenance(__name__, **facts), of)
        return
    facts.update(**inputs.done, parts=_described(inputs.intervention))
    of |= inputs.done
    if job.task == SCORE:
        logits = score(loaded, texts, inputs.options, inputs.intervention, names=ids, advance=advance, kept=kept)
        _write(path, SCORES, [ids, _subsets(inputs), logits], language, facts, of)
        return
    facts["max_new_tokens"] = job.max_new_tokens
    completions = generate(
        loaded,
        texts,
        inputs.intervention,
        max_new_tokens=job.max_new_tokens,
        names=ids,
        advance=advance,
        kept=kept,
    )
    columns = [
        ids,
        _subsets(inputs),
        [completion.text for completion in completions],
        [completion.prompt_tokens for completion in completions],
        [completion.new_tokens for completion in completions],
        [completion.finished for completion in completions],
    ]
    _write(path, COMPLETIONS, columns, language, facts, of)


def _subsets(inputs: Inputs) -> list[str]:
    return list(inputs.prompts.subset[list(inputs.rows)].tolist())


def _write(
    path: Path, schema: pa.Schema, columns: list[Any], language: str, facts: dict[str, Any], of: dict[str, str]
) -> None:
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    found = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"language": language}))
    files.write_parquet(path, found, provenance(__name__, **facts), of)


def _described(intervention: Intervention | None) -> list[dict[str, Any]]:
    """What the parts do, for the provenance."""
    return [
        {
            "operation": part.operation,
            "tokens": part.tokens,
            "layers": list(part.layers),
            "prompts": int(np.count_nonzero(part.coefficients)),
            "coefficients": [float(part.coefficients.min(initial=0.0)), float(part.coefficients.max(initial=0.0))],
        }
        for part in (intervention.acting if intervention is not None else ())
    ]
