"""A gate for other programs: its weights with a specification, a llama.cpp control vector, a folder for a hub.

The specification says in words and formulas all that is needed to write the gate anew, in any language that reads
safetensors. A control vector (GGUF, `direction.{block}`) is what llama.cpp adds to the residual stream: to that of
every prompt and token, so the routing is lost, and the file says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision.gate import FILE, Gate
from polygate.errors import PolygateError
from polygate.provenance import provenance

WEIGHTS, SPECIFICATION, VECTOR, GATE, CARD = (
    "weights.safetensors",
    "spec.json",
    "control-vector.gguf",
    FILE,
    "README.md",
)

LOST = (
    "It can't route: llama.cpp adds it to every prompt, harmful or not, so harmless requests are refused too. "
    "The gate's decision, its threshold and its score are not in the file.",
    "It acts on every token of the prompt; the gate's steering begins at the prompt's last token.",
    "Nothing is ablated: what the gate does to prompts that it does not flag is not in the file.",
)
"""What a control vector leaves out of a gate, a sentence each."""

_MEANING = {
    "basis": "B: columns span the harmfulness subspace",
    "mean": "of the source prompts' coordinates",
    "scale": "standard deviations of these coordinates",
    "weights": "w of the logistic regression",
    "bias": "b of the logistic regression, a logit",
    "threshold": "t: harmful when score > t; a logit, may be infinite",
    "v": "steering direction, of unit length",
    "alpha": "steering strength, in the units of the residual stream",
}


def tensors(gate: Gate) -> dict[str, NDArray[Any]]:
    """The gate's arrays by name; scalars are float64 [1]."""
    found = {name: getattr(gate, name) for name in _MEANING}
    return {
        name: np.atleast_1d(np.asarray(value, getattr(value, "dtype", np.float64))) for name, value in found.items()
    }


def specification(gate: Gate) -> dict[str, Any]:
    """All that is needed to write the gate anew, as JSON: tensors, where the model is read, formulas, steering."""
    arrays = tensors(gate)
    unflagged = {
        "none": "nothing is done",
        "layer": f"h <- h - (h . v) v at the output of block {gate.layer}, at every token",
        "all": "h <- h - (h . v) v at the output of every decoder block, at every token",
    }[gate.scope]
    return {
        "format": "polygate gate 1",
        "tensors": {
            name: {"shape": list(array.shape), "dtype": str(array.dtype), "meaning": _MEANING[name]}
            for name, array in arrays.items()
        },
        "read": {
            "layer": gate.layer,
            "what": f"x: output of decoder block {gate.layer} (0-based, before any final norm) of the unsteered prompt",
            "position": gate.position,
            "token": "the last token of the whole prompt, chat template and generation prompt included",
            "tokenising": "the chat template's text, without special tokens added a second time",
        },
        "score": [
            "c = x B, summed in float64 and rounded to float32",
            "score = sum over k of (c[k] - mean[k]) / scale[k] * weights[k], plus bias, in float64",
            "flagged when score > threshold",
        ],
        "flagged": f"h <- h + alpha v at the output of block {gate.layer}, at the prompt's last token and every "
        "generated one",
        "unflagged": unflagged,
        "language": gate.language,
        "fitted on": {name: {"harmful": pair[0], "harmless": pair[1]} for name, pair in gate.balance.items()},
        "examples per class": gate.budget,
        "threshold from": gate.threshold_from,
        "informative": gate.informative,
    }


def to_safetensors(gate: Gate, folder: Path) -> list[str]:
    """Write the weights alone, and their specification; returns the names of the files."""
    arrays = tensors(gate)
    described = provenance("polygate.decision.export")
    with _new(folder, (WEIGHTS, SPECIFICATION)) as temporary:
        files.write_safetensors(temporary / WEIGHTS, arrays)
        files.write_json(temporary / SPECIFICATION, {**specification(gate), "provenance": described})
    return [WEIGHTS, SPECIFICATION]


def to_gguf(gate: Gate, folder: Path, hint: str = "unknown") -> list[str]:
    """Write α·v as a llama.cpp control vector, and what it lost; returns the names of the files.

    `hint` is what llama.cpp calls the model's architecture. Raises `PolygateError` for a gate at block 0, whose output
    llama.cpp has no direction for, and where the package gguf is not installed.
    """
    if gate.layer == 0:
        raise PolygateError(
            "llama.cpp steers the outputs of blocks 1 and up, this gate's is block 0's", do="choose another layer"
        )
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise PolygateError("the package gguf is not installed", do="pip install gguf") from None
    said = " ".join(LOST)
    with _new(folder, (VECTOR, CARD)) as temporary:
        writer = GGUFWriter(temporary / VECTOR, "controlvector")
        writer.add_string("controlvector.model_hint", hint)
        writer.add_uint32("controlvector.layer_count", 1)
        writer.add_name(f"Refusal direction of polygate's gate for {gate.language}")
        writer.add_description(said)
        writer.add_string("polygate.provenance", json.dumps(provenance("polygate.decision.export"), sort_keys=True))
        writer.add_tensor(f"direction.{gate.layer}", steering(gate))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        files.write_text(temporary / CARD, _vector_card(gate, hint))
    return [VECTOR, CARD]


def steering(gate: Gate) -> NDArray[np.float32]:
    """α·v, float32 [d]: what is added to the residual stream of a flagged prompt."""
    scaled: NDArray[np.float32] = (gate.alpha * gate.v.astype(np.float64)).astype(np.float32)
    return scaled


def _vector_card(gate: Gate, hint: str) -> str:
    lost = "\n".join(f"- {sentence}" for sentence in LOST)
    return f"""# Refusal direction for {gate.language}, as a llama.cpp control vector

One direction of length {np.linalg.norm(steering(gate).astype(np.float64)):.4g} ({len(gate.v)} wide, float32), added
after decoder block {gate.layer} (0-based) of the model that the gate is of (architecture: {hint}):

```sh
llama-cli -m MODEL.gguf --control-vector {VECTOR}
llama-cli -m MODEL.gguf --control-vector-scaled {VECTOR}:0.5    # half as hard
```

## What is lost

{lost}

With a negative scale it takes refusals away: don't use it to get harmful answers.
"""


def to_hub(
    source: Path, gate: Gate, folder: Path, base_model: str = "", licence: str = "", card: str = ""
) -> list[str]:
    """Write a folder to upload: the gate as it is in `source`, its specification, a model card; returns the names.

    `base_model` is the hub id of the model that the gate is of, `card` the text of the gate's own card.
    """
    with _new(folder, (GATE, SPECIFICATION, CARD)) as temporary:
        shutil.copyfile(source, temporary / GATE)
        files.write_json(temporary / SPECIFICATION, specification(gate))
        files.write_text(temporary / CARD, hub_card(gate, base_model, licence, card))
    return [GATE, SPECIFICATION, CARD]


def hub_card(gate: Gate, base_model: str = "", licence: str = "", card: str = "") -> str:
    """The model card: the hub's metadata as YAML, use, what the gate does, limits, and sections of its own card."""
    facts: dict[str, Any] = {"library_name": "polygate", "tags": ["safety", "refusal", "steering", "polygate"]}
    if base_model:
        facts["base_model"] = base_model
    if licence:
        facts["license"] = licence
    if gate.language.isascii() and gate.language.isalpha() and len(gate.language) in (2, 3):
        facts["language"] = [gate.language]
    # JSON is YAML too.
    metadata = "\n".join(f"{name}: {json.dumps(value)}" for name, value in sorted(facts.items()))
    spec = specification(gate)
    balance = "\n".join(f"| {name} | {pair[0]} | {pair[1]} |" for name, pair in gate.balance.items())
    page = f"""---
{metadata}
---
# A polygate gate for {gate.language}

Reads whether a prompt is harmful from the model's own activations, and steers those that are towards refusal. It is of
{f"`{base_model}`" if base_model else "one model"}, of width {len(gate.v)}, and means nothing in another.

## Use

`pip install polygate[gates]`, this folder as `gate`:

```python
from polygate import gates

gate = gates.load("gate")
with gates.attach(model, tokenizer, gate) as routed:
    model.generate(**batch)
    routed.decisions
```

or `polygate serve MODEL gate`, an endpoint that speaks OpenAI's protocol. To write it anew: `{SPECIFICATION}`.

## What it does

- reads {spec["read"]["what"]}, at {spec["read"]["token"]}
- flags a prompt when its score > {gate.threshold:.6g} (threshold from: {gate.threshold_from}; {gate.budget} examples
  a class{"" if gate.informative else "; **uninformative**: no threshold told these examples apart"})
- flagged: {spec["flagged"]}; |alpha v| = {abs(gate.alpha):.4g}
- not flagged: {spec["unflagged"]}

## Fitted on

| language | harmful | harmless |
|---|---|---|
{balance}

## Limits

A gate that did well where it was measured is no guarantee of safety: it was measured on prompts of one kind, with the
confounds that come with them. It is not routed around by `model(...)`, which it does not touch: only `generate` is.
Its direction can be used to weaken the model as well; don't use it to get harmful answers.
"""
    for name in ("Promise", "Thresholds"):
        section = _section(card, name)
        page += f"\n## {name}\n\n{section}\n" if section else ""
    return page


def _section(card: str, name: str) -> str:
    """The text below `## name` in a Markdown card, "" where it has no such heading."""
    found = f"\n{card}".partition(f"\n## {name}\n")[2]
    return found.partition("\n## ")[0].strip()


def _new(folder: Path, names: tuple[str, ...]) -> Any:
    """A folder to be written whole; `PolygateError` when something else than an earlier export is there."""
    files.check_replaceable(folder, names, "such export")
    return files.atomic_folder(folder)


def architecture(model: Path, gate: Gate) -> str:
    """What llama.cpp calls the architecture of the model in a folder; `PolygateError` unless the gate fits it."""
    found: Mapping[str, Any] = files.read_json(model / "config.json")
    text = found.get("text_config", found)
    width, depth = text.get("hidden_size"), text.get("num_hidden_layers")
    if width != len(gate.v) or not isinstance(depth, int) or gate.layer >= depth:
        raise PolygateError(
            f"a gate for width {len(gate.v)} at layer {gate.layer}, but the model has width {width} and {depth} layers",
            where=model,
            do="name the model that the gate is of",
        )
    return str(text.get("model_type", "unknown")).removesuffix("_text")
