"""A gate for a tiny random model, and prompts half of which it flags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from library.forward.tiny import WORDS
from polygate.decision.gate import Gate
from polygate.forward.capture import capture
from polygate.forward.loading import LoadedModel
from polygate.settings.types import Scope

TEXTS = [" ".join(WORDS[(7 * i + k) % 50] for k in range(3 + i % 5)) for i in range(8)]


def gate_for(loaded: LoadedModel, scope: Scope = "none", layer: int = 1) -> Gate:
    """A gate of rank 2 that flags half of TEXTS, and steers hard enough to change them."""
    random = np.random.default_rng(3)
    x = capture(loaded, TEXTS, ("t_post_inst",)).tensors[layer, "t_post_inst"]
    basis = random.normal(size=(loaded.width, 2)).astype(np.float32)
    v = random.normal(size=loaded.width)
    made = Gate(
        basis=basis,
        mean=np.zeros(2),
        scale=np.ones(2),
        weights=np.array([1.0, -0.5]),
        bias=0.2,
        threshold=0.0,
        v=(v / np.linalg.norm(v)).astype(np.float32),
        alpha=25.0,
        scope=scope,
        layer=layer,
        position="t_post_inst",
        solver="convex",
        threshold_from="examples",
        informative=True,
        language="sw",
        budget=4,
        draw=0,
        sources=("en",),
        balance={"en": (4, 4)},
    )
    scores = made.score(x.float().numpy())
    return replace(made, threshold=float(np.sort(scores)[3:5].mean()))
