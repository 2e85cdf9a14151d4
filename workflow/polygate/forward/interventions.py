"""A way of steering as data, decided before anything is generated: which vectors, where, on which tokens, how much.

Whatever decides how a prompt is steered (a gate, a condition, a coefficient read off its activations) is a function
of the prompt alone, so it is computed beforehand and kept as one coefficient per prompt and part. Unsteered text,
addition, ablation, conditional steering and a point of a sweep are all the same kind of file. Needs numpy only.

- add: h ← h + c·v;
- ablate: h ← h - c·(h·u)u with the unit vector u = v/|v|; c = 1 is directional ablation, h ← h - (h·u)u.

A coefficient of 0 leaves its prompt alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.errors import PolygateError

Operation = Literal["add", "ablate"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Tokens = Literal["every", "answering", "generated"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
"""every: every token that isn't padding; answering: the prompt's last token and every generated one; generated:
generated tokens alone."""


@dataclass(frozen=True, eq=False)
class Part:
    """One vector per decoder block, and how much of it each prompt gets.

    `layers`: 0-based decoder blocks, ascending. `vectors` float32 [len(layers), d]: added as they are, or made unit
    vectors (in float64) where they are ablated. `coefficients` float64 [n], one per prompt; 0 leaves it alone.
    Raises `PolygateError` for shapes that don't fit, numbers that are not finite and a zero vector to ablate.
    """

    layers: tuple[int, ...]
    vectors: NDArray[np.float32]
    operation: Operation
    tokens: Tokens
    coefficients: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        object.__setattr__(self, "vectors", np.ascontiguousarray(self.vectors, dtype=np.float32))
        object.__setattr__(self, "coefficients", np.ascontiguousarray(self.coefficients, dtype=np.float64))
        if self.operation not in OPERATIONS or self.tokens not in TOKENS:
            raise PolygateError(f"steering with unknown operation {self.operation!r} or tokens {self.tokens!r}")
        if not self.layers or self.layers[0] < 0 or list(self.layers) != sorted(set(self.layers)):
            raise PolygateError(f"steering at layers {list(self.layers)}, which are not ascending from 0 on")
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.layers) or not self.vectors.shape[1]:
            raise PolygateError(f"steering vectors of shape {self.vectors.shape} for {len(self.layers)} layers")
        if self.coefficients.ndim != 1:
            raise PolygateError(f"steering coefficients of shape {self.coefficients.shape}, one per prompt is needed")
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.coefficients).all()):
            raise PolygateError("a steering vector or coefficient is NaN or infinite")
        if self.operation == "ablate" and not self.vectors.any(axis=1).all():
            empty = self.layers[int(np.argmin(self.vectors.any(axis=1)))]
            raise PolygateError(f"the vector to ablate at layer {empty} is zero")

    @property
    def idle(self) -> bool:
        """Whether the part leaves every prompt alone; of no prompts at all, it still says what it does."""
        return bool(len(self.coefficients)) and not self.coefficients.any()

    def units(self) -> NDArray[np.float64]:
        """The vectors scaled to length 1, float64 [len(layers), d]."""
        wide = self.vectors.astype(np.float64)
        scaled: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        return scaled

    def digest(self) -> str:
        """64 hex digits of all that the part does."""
        described = [self.layers, self.vectors.shape, self.operation, self.tokens]
        found = hashlib.sha256(json.dumps(described).encode())
        found.update(self.vectors.astype("<f4").tobytes())
        found.update(self.coefficients.astype("<f8").tobytes())
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Intervention:
    """What is done to n prompts: `parts`, applied in this order where several act on the same block.

    `prompt_ids` names the prompts, in the order of their table. Raises `PolygateError` for a part with coefficients
    for another number of prompts.
    """

    prompt_ids: tuple[str, ...]
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_ids", tuple(self.prompt_ids))
        object.__setattr__(self, "parts", tuple(self.parts))
        for part in self.parts:
            if len(part.coefficients) != len(self.prompt_ids):
                raise PolygateError(
                    f"{len(part.coefficients)} steering coefficients for {len(self.prompt_ids)} prompts"
                )

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def is_swept(self) -> bool:
        """Whether its rows are points of a sweep, `{prompt_id}@{point}`: prompts may stand in it many times."""
        return bool(self.prompt_ids) and all(POINT in name for name in self.prompt_ids)

    def rows(self, index: Sequence[int] | NDArray[np.integer[Any]]) -> Intervention:
        """The intervention on some of the prompts, in the order of `index` (int [k])."""
        chosen = np.asarray(index, dtype=np.int64)
        parts = tuple(replace(part, coefficients=part.coefficients[chosen]) for part in self.parts)
        return Intervention(tuple(self.prompt_ids[row] for row in chosen.tolist()), parts)

    def of_prompts(self, prompt_ids: Iterable[str], where: object = None) -> Intervention:
        """The intervention on the prompts named, in their order; `PolygateError` for one that it says nothing of."""
        wanted = tuple(prompt_ids)
        if wanted == self.prompt_ids:
            return self
        place = {name: row for row, name in enumerate(self.prompt_ids)}
        lacking = next((name for name in wanted if name not in place), None)
        if lacking is not None:
            raise PolygateError(f"the intervention is on other prompts: nothing is said of {lacking!r}", where=where)
        return self.rows([place[name] for name in wanted])

    def check_prompts(self, prompt_ids: Sequence[str]) -> None:
        """`PolygateError` unless these are the intervention's prompts, in its order."""
        pairs = zip(prompt_ids, self.prompt_ids, strict=False)
        differing = next((f"{ours!r} where {theirs!r} is meant" for ours, theirs in pairs if ours != theirs), "")
        if differing or len(prompt_ids) != len(self):
            counted = f"{len(prompt_ids)} prompts, {len(self)} are meant"
            raise PolygateError(f"the intervention is on other prompts: {differing or counted}")

    def check_fits(self, layers: int, width: int) -> None:
        """`PolygateError` unless every part fits a model with `layers` decoder blocks and a stream of `width`."""
        for part in self.parts:
            if part.layers[-1] >= layers or part.vectors.shape[1] != width:
                raise PolygateError(
                    f"steering vectors of width {part.vectors.shape[1]} up to layer {part.layers[-1]}, "
                    f"but the model has layers 0 to {layers - 1} of width {width}",
                    do="use vectors of this model",
                )

    @property
    def acting(self) -> tuple[Part, ...]:
        """The parts that do something to some prompt."""
        return tuple(part for part in self.parts if not part.idle)

    @property
    def action(self) -> str:
        """What is done, in short: none, add, ablate or add+ablate."""
        return "+".join(sorted({part.operation for part in self.acting})) or NOTHING

    def digest(self) -> str:
        """Which intervention this is: 16 hex digits of what its parts do, "none" when they leave every prompt alone.

        Prompt ids are not part of it: the same completions may be those of several arms.
        """
        acting = [part.digest() for part in self.acting]
        return hashlib.sha256(json.dumps(acting).encode()).hexdigest()[:16] if acting else NOTHING

    def save(self, path: str | Path, provenance: Mapping[str, Any], of: Mapping[str, object] | None = None) -> None:
        """Write as safetensors: `part.{i}.vectors`, `part.{i}.coefficients`; ids and parts in the metadata, as JSON.

        `of` says what the file is of: model, language, arm …
        """
        tensors: dict[str, NDArray[Any]] = {}
        for number, part in enumerate(self.parts):
            # One row stands for all where every layer has the same vector.
            same = bool((part.vectors == part.vectors[0]).all())
            tensors[f"part.{number}.vectors"] = part.vectors[:1] if same else part.vectors
            tensors[f"part.{number}.coefficients"] = part.coefficients
        described = [{"layers": part.layers, "operation": part.operation, "tokens": part.tokens} for part in self.parts]
        metadata = {"prompt_ids": json.dumps(self.prompt_ids), "parts": json.dumps(described)}
        files.write_safetensors(path, tensors, metadata, provenance, of)

    @classmethod
    def load(cls, path: str | Path, **wanted: object) -> Intervention:
        """Read what `save` wrote; `PolygateError` when the file is broken, foreign, or of something else (`wanted`)."""
        tensors, metadata = files.read_safetensors(path)
        files.expect(path, metadata, **wanted)
        with files.understood(path, "an intervention"):
            try:
                parts = [
                    Part(
                        layers=tuple(said["layers"]),
                        vectors=_whole(tensors[f"part.{number}.vectors"], len(said["layers"])),
                        operation=said["operation"],
                        tokens=said["tokens"],
                        coefficients=tensors[f"part.{number}.coefficients"],
                    )
                    for number, said in enumerate(json.loads(metadata["parts"]))
                ]
                return cls(tuple(json.loads(metadata["prompt_ids"])), tuple(parts))
            except PolygateError as error:
                raise PolygateError(str(error), where=path) from None


def _whole(vectors: NDArray[np.float32], layers: int) -> NDArray[np.float32]:
    return np.tile(vectors, (layers, 1)) if len(vectors) == 1 else vectors


POINT = "@"
"""Stands between the id of a prompt and the point of a sweep that it is steered by."""
NOTHING = "none"
"""The digest of leaving every prompt alone."""


def nothing(prompt_ids: Iterable[str]) -> Intervention:
    """The unsteered arm: no parts."""
    return Intervention(tuple(prompt_ids))
