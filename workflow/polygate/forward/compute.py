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
from polygate.forward.job import CAPTURE, Inputs, Job
from polygate.forward.loading import LoadedModel
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


def compute(
    job: Job, inputs: Inputs, loaded: LoadedModel, key: str, path: Path, advance: Callable[[float], None]
) -> None:
    """Write the job's result to `path`, with `key` (that of its cell) in the provenance. Raises `PolygateError`."""
    facts: dict[str, Any] = {"task": job.task, "cell": key, "revision": job.options.revision, **loaded.facts()}
    facts["template_arguments"] = dict(job.options.template_arguments)
    language, ids, texts = inputs.prompts.language, inputs.ids, inputs.texts
    of = {
        "model": identity.of(job.options, loaded.fingerprint),
        "dataset": inputs.prompts.dataset,
        "prompts": inputs.prompts.fingerprint(inputs.rows),
    }
    if job.task == CAPTURE:
        found = capture(loaded, texts, job.positions, names=ids, advance=advance)
        store.write_store(path, found.tensors, ids, found.token_count, language, provenance(__name__, **facts), of)
        return
    facts.update(**inputs.done, max_new_tokens=job.max_new_tokens, parts=_described(inputs.intervention))
    completions = generate(
        loaded, texts, inputs.intervention, max_new_tokens=job.max_new_tokens, names=ids, advance=advance
    )
    columns = [
        ids,
        inputs.prompts.subset[list(inputs.rows)].tolist(),
        [completion.text for completion in completions],
        [completion.prompt_tokens for completion in completions],
        [completion.new_tokens for completion in completions],
        [completion.finished for completion in completions],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, COMPLETIONS, strict=True)]
    schema = COMPLETIONS.with_metadata({"language": language})
    files.write_parquet(
        path, pa.Table.from_arrays(arrays, schema=schema), provenance(__name__, **facts), {**of, **inputs.done}
    )


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
