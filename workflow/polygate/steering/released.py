"""AdaSteer's released vectors of a model: a folder with RD (refusal direction) and HD (harmfulness direction).

`RD/mean_diff.pkl` and `HD/proj.pkl` hold one vector per block, [L, d]; `class_a.pkl` and `class_b.pkl` of each the
activations of its two classes, [L, examples, d], whose means over examples are the anchors. Float16 numpy arrays.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate.errors import PolygateError
from polygate.forward.interventions import Tokens
from polygate.prompts.sources.download import fetch, folder_when_complete
from polygate.settings.types import AdaSteer as Constants
from polygate.settings.types import Coefficient
from polygate.steering.adasteer import AdaSteer, Steer
from polygate.steering.pickles import read_array

REPOSITORY = "MuyuenLP/AdaSteer"
REVISION = "c9833edef6a2d55bc689c66d4c9c6828102985b8"
FILES = (
    "HD/class_a.pkl",
    "HD/class_b.pkl",
    "HD/proj.pkl",
    "RD/class_a.pkl",
    "RD/class_b.pkl",
    "RD/mean_diff.pkl",
)
"""What is read of a model's folder."""
SUMS = Path(__file__).with_name("released.sha256")


def checksums() -> dict[str, str]:
    """sha256 (64 hex digits) of released files by `model/direction/file`, as far as they are known."""
    lines = SUMS.read_text(encoding="ascii").splitlines()
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}


def download(output: Path, model: str) -> None:
    """Download a model's files at the pinned commit into the new folder `output`.

    A file whose checksum is known must have it; of Llama's none is, and what is read of them is arrays or nothing.
    Raises `PolygateError` when the network fails, or a file is missing or isn't the pinned one.
    """
    base, known = f"https://raw.githubusercontent.com/{REPOSITORY}/{REVISION}/vectors/{model}", checksums()
    setting = "the model's adasteer.folder"
    with folder_when_complete(output) as folder:
        for name in FILES:
            content = fetch(f"{base}/{name}", 2.0, "AdaSteer's vectors", setting)
            wanted = known.get(f"{model}/{name}")
            if content is None or wanted not in (None, hashlib.sha256(content).hexdigest()):
                what = "is missing" if content is None else "has another checksum"
                do = f"point {setting} to a copy that you trust"
                raise PolygateError(f"{name} {what} at AdaSteer's pinned revision", where=base, do=do)
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def read(folder: Path, constants: Constants, tokens: Tokens = "generated") -> AdaSteer:
    """The vectors and anchors of `folder` with the model's constants, to act on `tokens`.

    The last block's vectors are left out: they were taken after the final norm. Raises `PolygateError` for files that
    are absent, broken, not of arrays, or do not fit together, and for layers that they lack.
    """
    refusal = _steer(folder, "RD", "mean_diff.pkl", constants.alpha, tokens)
    harmfulness = _steer(folder, "HD", "proj.pkl", constants.beta, tokens)
    if refusal.vectors.shape != harmfulness.vectors.shape:
        raise PolygateError(f"RD has vectors {refusal.vectors.shape}, HD {harmfulness.vectors.shape}", where=folder)
    return AdaSteer(refusal, harmfulness)


def _steer(folder: Path, direction: str, name: str, constants: Coefficient, tokens: Tokens) -> Steer:
    vectors = _array(folder / direction / name, 2)
    depth, width = vectors.shape
    if not constants.layer < depth - 1:
        raise PolygateError(
            f"the model's adasteer reads layer {constants.layer}, the released vectors have layers 0 to {depth - 2} "
            "before the final norm",
            where=folder,
        )
    anchors = []
    for part in ("class_a.pkl", "class_b.pkl"):
        path = folder / direction / part
        examples = _array(path, 3)
        if (examples.shape[0], examples.shape[2]) != (depth, width):
            what = f"holds {examples.shape[0]} layers of width {examples.shape[2]}, {name} {depth} of width {width}"
            raise PolygateError(what, where=path)
        anchors.append(examples[constants.layer].astype(np.float64).mean(axis=0))
    return Steer(tuple(range(depth - 1)), vectors[:-1].astype(np.float32), np.stack(anchors), constants, tokens)


def _array(path: Path, dimensions: int) -> NDArray[Any]:
    found = read_array(path)
    if found.ndim != dimensions or min(found.shape) < 1 or found.dtype.kind != "f":
        what = f"an array of shape {found.shape} and dtype {found.dtype}, one of {dimensions} dimensions is needed"
        raise PolygateError(what, where=path)
    return found
