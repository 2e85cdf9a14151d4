"""A gate for other programs: plain weights with a specification, a llama.cpp control vector, a folder for a hub.

What a control vector loses: llama.cpp adds it to every prompt and every token alike. It can't read a prompt, so it
can't route, and it ablates nothing: it is the refusal steering alone, always on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from polygate import files
from polygate.decision.gate import Gate
from polygate.errors import PolygateError

VERSION = 1
WEIGHTS, FACTS, NOTE, VECTOR = "gate.safetensors", "gate.json", "README.md", "refusal.gguf"

SPECIFICATION = """
## What it computes

`x` is the residual stream after decoder block {layer} (0-based) at the last token of the whole prompt, the generation
prompt of the chat template included, in float32: {width} numbers. A prompt is harmful when its score is above the
threshold.

```python
import json
import numpy as np
from safetensors.numpy import load_file

arrays, facts = load_file("gate.safetensors"), json.load(open("gate.json"))


def score(x):  # float32 [n, {width}] -> float64 [n]
    coordinates = (x.astype(np.float64) @ arrays["basis"].astype(np.float64)).astype(np.float32)
    return ((coordinates - arrays["mean"]) / arrays["scale"] * arrays["weights"]).sum(axis=1) + facts["bias"]


def harmful(x):
    return score(x) > facts["threshold"]
```

A harmful prompt is steered: `h + {alpha:.6g} * v` after block {layer}, on the prompt's last token and every generated
one. Any other {harmless}.

| tensor | shape | dtype | what |
|---|---|---|---|
| basis | [{width}, {rank}] | float32 | directions that the source languages share |
| mean, scale, weights | [{rank}] | float64 | standardisation and logistic regression |
| v | [{width}] | float32 | refusal direction, of length 1 |
"""
_HARMLESS = {
    "layer": "loses its part along v there (`h - (h @ v) * v`), on every token",
    "all": "loses its part along v after every block (`h - (h @ v) * v`), on every token",
    "none": "is left alone",
}


def weights(gate: Gate, folder: Path) -> None:
    """Write gate.safetensors (arrays alone), gate.json (all else) and README.md with the specification."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(getattr(gate, name)) for name in ("basis", "mean", "scale", "weights", "v")}
    save_file(arrays, folder / WEIGHTS, metadata={"format": "polygate gate", "version": str(VERSION)})
    facts: dict[str, Any] = {
        "format": "polygate gate",
        "version": VERSION,
        **{name: getattr(gate, name) for name in ("bias", "threshold", "alpha", "layer", "position", "scope")},
        **{name: getattr(gate, name) for name in ("language", "budget", "solver", "threshold_from", "informative")},
        "sources": list(gate.sources),
    }
    files.write_text(folder / FACTS, json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    files.write_text(folder / NOTE, f"# Gate for {gate.language}\n" + specification(gate))


def specification(gate: Gate) -> str:
    """What the files hold and how they are used, in Markdown: enough to do without polygate."""
    return SPECIFICATION.format(
        layer=gate.layer, width=len(gate.v), rank=gate.rank, alpha=gate.alpha, harmless=_HARMLESS[gate.scope]
    )


def control_vector(gate: Gate, path: Path, architecture: str = "") -> None:
    """Write α·v as a llama.cpp control vector: tensor `direction.{layer}`, which is added after that block.

    `architecture`: llama.cpp's name of the model's, a hint in the file. Raises `PolygateError` for a gate at block 0,
    which control vectors can't reach, and where the package gguf is missing.
    """
    if gate.layer == 0:
        raise PolygateError("a control vector can't act after block 0, where this gate does", do="use another export")
    try:
        from gguf import GGUFWriter
    except ModuleNotFoundError:
        raise PolygateError("the package gguf is missing", do="pip install gguf") from None
    with files.atomic_path(path) as temporary:
        writer = GGUFWriter(temporary, "controlvector")
        if architecture:
            writer.add_string("controlvector.model_hint", architecture)
        writer.add_uint32("controlvector.layer_count", 1)
        writer.add_string("general.description", "always on: adds refusal to every prompt, can't route")
        writer.add_tensor(f"direction.{gate.layer}", (gate.alpha * gate.v.astype(np.float64)).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def hub_folder(gate: Gate, folder: Path, *, base_model: str, licence: str, architecture: str, card: str) -> None:
    """A folder to upload to a hub: the weights, the control vector where there can be one, and a model card."""
    weights(gate, folder)
    told = "This gate acts after block 0, where llama.cpp's control vectors can't: there is none."
    if gate.layer > 0:
        control_vector(gate, folder / VECTOR, architecture)
        told = (
            f"`{VECTOR}` is the refusal steering as a llama.cpp control vector (`--control-vector {VECTOR}`). It is "
            "always on: it steers harmless prompts too, for it can't read them."
        )
    head = {"library_name": "polygate", "tags": ["safety", "refusal", "steering"]}
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items())]
    lines += [f"base_model: {json.dumps(base_model)}"] if base_model else []
    lines += [f"license: {json.dumps(licence)}"] if licence else []
    text = "\n".join(
        [*lines, "---", "", f"# Gate for {gate.language}", specification(gate), "## For llama.cpp", "", told]
    )
    files.write_text(folder / NOTE, text + ("\n\n" + card.replace("\n#", "\n##").lstrip("#") if card else "\n"))
