"""A store far larger than memory, streamed."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path

import numpy as np
from measuring import added_memory, timed

from polygate import kernels

WIDTH = 3584


def scale(gigabytes: float) -> None:
    """Project a sparse store of many gigabytes, with a few rows of ones, and print time, rate and added memory."""
    rows = int(gigabytes * 1e9) // (2 * WIDTH)
    marked = [0, rows // 2, rows - 1]
    entry = {"dtype": "BF16", "shape": [rows, WIDTH], "data_offsets": [0, rows * WIDTH * 2]}
    header = json.dumps({"a": entry}).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sparse.safetensors"
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for row in marked:
                file.seek(8 + len(header) + row * WIDTH * 2)
                file.write(np.full(WIDTH, 0x3F80, "<u2").tobytes())
        found = []
        seconds = timed(lambda: found.append(kernels.project(path, ["a"], np.ones((5, WIDTH)))))
        scores = found.pop()
        if np.flatnonzero(scores[0, :, 0]).tolist() != marked or not (scores[0, marked] == WIDTH).all():
            raise SystemExit("wrong scores")
        of_scores = scores.nbytes
        del scores
        peak = added_memory(lambda: kernels.project(path, ["a"], np.ones((5, WIDTH))))
    print(
        f"{gigabytes:g} GB on 5 directions: {seconds:.1f} s, {gigabytes / seconds:.1f} GB/s, "
        f"{peak:.0f} MB of memory, {of_scores / 1e6:.0f} of them scores"
    )
