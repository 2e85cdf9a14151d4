"""The analysis of one model at the paper's size: few-shot recoverability, and every probe compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow.parquet as pq
import world
from measuring import Row, run
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from world import World

from polygate.decision.probes.recoverability import recoverability
from polygate.decision.probes.rows import Language, load_all
from polygate.settings.types import Gate, Probes

PEER_FITS = 12
ROWS = 3060
"""Rows of the release's few-shot table, which took 60 s."""


def stages(folder: Path) -> Iterator[Row]:
    """Both stages over a made-up model of the paper's size."""
    made = world.make(folder)
    languages = load_all(made.tiers, made.prompts, made.activations, 0, Probes(), 0)
    yield few_shot(languages)
    yield comparison(made, languages, folder)


def few_shot(languages: Sequence[Language]) -> Row:
    """Recoverability in all languages without its small networks; seconds for as many rows as the paper's release."""
    times = []
    for _ in range(3):
        begun = perf_counter()
        draws, _ = recoverability(languages, "en", 0, mlp=False)
        times.append(perf_counter() - begun)
    own = sorted(times)[1] * ROWS / draws.num_rows
    target = languages[-1]
    chosen = list(target.examples.items())[:: len(target.examples) // PEER_FITS]
    begun = perf_counter()
    for setup, rows in chosen:
        x, y, test = target.train[rows], target.labels(setup[0]), target.test()
        roc_auc_score(target.test_harmful, test @ (x[y].mean(axis=0) - x[~y].mean(axis=0)))
        # What is the same in all examples says nothing: it becomes 0, as ours does.
        scale = np.where(np.ptp(x, axis=0) > 0, x.std(0), np.inf) * np.sqrt(x.shape[1])
        model = LogisticRegression(C=100, max_iter=1000).fit((x - x.mean(0)) / scale, y)
        roc_auc_score(target.test_harmful, test @ (model.coef_[0] / scale))
    peer = (perf_counter() - begun) / (2 * len(chosen)) * ROWS
    return Row(
        "few-shot recoverability", f"{ROWS:,} rows (of {draws.num_rows:,})", own,
        f"scikit-learn, a fit at a time ({2 * len(chosen)} timed, scaled)", peer,
        peer / own, None, float("nan"), "≤ 1 s", "yes" if own <= 1 else "no",
    )  # fmt: skip


def comparison(made: World, languages: Sequence[Language], folder: Path) -> Row:
    """The whole comparison as the workflow runs it, a process of its own."""
    settings = {
        "gate": Gate().model_dump(mode="json"),
        "probes": Probes().model_dump(mode="json"),
        "pivot": "en",
        "seed": 0,
    }
    outputs = [folder / "draws.parquet", folder / "means.parquet"]
    own, peak = run(
        [
            *(sys.executable, "-m", "polygate.cli", "compare-probes", "--settings", json.dumps(settings)),
            *("--tiers", *made.tiers, "--languages", *made.languages, "--choices", str(made.choices)),
            *("--activations", *map(str, made.activations), "--prompts", *map(str, made.prompts)),
            *("--draws", str(outputs[0]), "--means", str(outputs[1])),
        ]
    )
    rows = pq.read_metadata(outputs[0]).num_rows
    fits, spent = naive_fits(languages)
    peer = spent * count_fits(outputs[0]) / fits
    met = own <= 60 and peak <= 1500
    return Row(
        "probes compared", f"23 languages, 3,584 wide, {rows:,} rows", own,
        f"scikit-learn, a fit at a time ({fits} timed, scaled)", peer, peer / own, None, peak,
        "≤ 60 s, ≤ 1500 MB", "yes" if met else "no",
    )  # fmt: skip


def count_fits(draws: Path) -> int:
    """Distinct fits in a table of draws."""
    keys = ["language", "probe", "sources", "rank", "budget", "draw"]
    table = pq.read_table(draws, columns=keys)
    return int(table.group_by(keys).aggregate([]).num_rows)


def naive_fits(languages: Sequence[Language]) -> tuple[int, float]:
    """Fits of rank 8 with scikit-learn, each with its AUC, two sweeps and F1: their number and seconds."""
    high, target = [language for language in languages if language.tier == "high"], languages[-1]
    basis = np.linalg.svd(np.stack([language.difference() for language in high]), full_matrices=False)[2][:8].T
    source = np.concatenate([language.train @ basis for language in high])
    labels = np.concatenate([language.harmful for language in high])
    own, test = target.train @ basis, target.test() @ basis
    begun = perf_counter()
    chosen = list(target.examples.values())[:: max(1, len(target.examples) // PEER_FITS)]
    for rows in chosen:
        x, y = np.concatenate([source, own[rows]]), np.concatenate([labels, target.harmful[rows]])
        mean, scale = x.mean(0), x.std(0)
        model = LogisticRegression(C=100, class_weight="balanced", max_iter=1000).fit((x - mean) / scale, y)
        scores = model.decision_function((test - mean) / scale)
        roc_auc_score(target.test_harmful, scores)
        for values, truth in ((model.decision_function((own[rows] - mean) / scale), target.harmful[rows]),
                              (scores, target.test_harmful)):  # fmt: skip
            best = max(np.unique(values)[::8], key=lambda t, v=values, y=truth: f1_score(y, v > t))
            f1_score(target.test_harmful, scores > best)
    return len(chosen), perf_counter() - begun
