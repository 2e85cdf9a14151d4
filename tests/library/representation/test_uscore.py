"""The U-Score against plain loops over all pairs, its standard error, and who may choose a layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from library.representation.planted import LAYERS, ROWS, WIDTH
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import MULTIPLE_CHOICE, SUBSETS, Prompt, PromptTable, prompt_id
from polygate.representation import uscore
from polygate.representation.store import ActivationStore, write_store
from polygate.settings.types import Tier

Own = tuple[PromptTable, ActivationStore]
Near = Mapping[str, tuple[float, ...]]
NEAR: Near = {"p": (1.0, 1.0, 1.0), "h": (0.2, 0.9, 0.5), "m": (0.9, 0.1, 0.3), "t": (0, 0, 0)}
"""How much of its translation in the pivot `p` a prompt holds, by language and layer."""


LACKING = 5
"""First prompts of each split and class that only the pivot and `t` have, so that rows don't match by number."""


def prompts_of(language: str) -> PromptTable:
    """The prompt table of a language."""
    rows = [
        Prompt(prompt_id(subset, split, n), f"{language} {subset} {split} {n}", reference="thing")
        for split, counts in ROWS.items()
        for subset, count in zip(SUBSETS, counts, strict=True)
        for n in range(0 if language in "pt" else LACKING, count)
    ]
    rows.append(Prompt(prompt_id("harmless", "train", 0, multiple_choice=True), "which ?", MULTIPLE_CHOICE))
    return table.build(language, rows)


def world(folder: Path, near: Near = NEAR, width: int = WIDTH) -> dict[str, Own]:
    """Stores of means over tokens: a prompt holds its meaning, the same in every language, and noise."""
    names = sorted(prompts_of("p").ids)
    meaning = dict(zip(names, np.random.default_rng(7).normal(size=(len(names), width)), strict=True))
    found = {}
    for language, shares in near.items():
        random = np.random.default_rng([*language.encode()])
        prompts = prompts_of(language)
        tensors = {}
        for layer, share in enumerate(shares):
            rows = [share * meaning[name] + (1 - share) * random.normal(size=width) + 0.5 for name in prompts.ids]
            tensors[layer, uscore.POSITION] = np.array(rows, np.float32)
        path = folder / f"{language}.safetensors"
        of = {"model": "", "prompts": prompts.fingerprint()}
        write_store(path, tensors, prompts.ids, np.ones(len(prompts), np.int32), language, {}, of)
        found[language] = prompts, ActivationStore.open(path)
    return found


def by_layer(own: Mapping[str, Own]) -> pa.Table:
    return uscore.by_layer(*own["p"], [own[name] for name in own if name != "p"])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Own]:
    return world(tmp_path_factory.mktemp("uscore"))


def slow(pivot: Own, other: Own, split: str, layer: int) -> float:
    """Mean cosine of translated pairs less that of all other pairs, averaged over the classes."""

    def rows(one: Own, subset: str) -> dict[str, NDArray[np.float64]]:
        prompts, store = one
        chosen = prompts.select(split, subset)  # type: ignore[arg-type]
        values = store.read(layer, "mean", chosen).astype(np.float64)
        return {prompts.ids[row]: value for row, value in zip(chosen.tolist(), values, strict=True)}

    found = []
    for subset in ("harmful", "harmless"):
        a, b = rows(pivot, subset), rows(other, subset)
        a = {name: a[name] for name in b}
        cosines = {(i, j): a[i] @ b[j] / np.sqrt((a[i] @ a[i]) * (b[j] @ b[j])) for i in a for j in b}
        pairs = [value for (i, j), value in cosines.items() if i == j]
        apart = [value for (i, j), value in cosines.items() if i != j]
        found.append(np.mean(pairs) - np.mean(apart))
    return float(np.mean(found))


def test_scores_are_those_of_loops_over_all_pairs(own: dict[str, Own]) -> None:
    scored = by_layer(own)
    for split in uscore.SPLITS:
        scores = uscore.layer_scores(scored, split)
        assert set(scores) == {(name, layer) for name in "hmt" for layer in range(LAYERS)}
        for (language, layer), value in scores.items():
            assert value == pytest.approx(slow(own["p"], own[language], split, layer), abs=1e-7)


def test_every_shared_prompt_but_multiple_choice_ones_has_its_part(own: dict[str, Own]) -> None:
    ids: dict[str, set[str]] = {}
    for row in by_layer(own).select(["language", "prompt_id"]).to_pylist():
        ids.setdefault(row["language"], set()).add(row["prompt_id"])
    for language, found in ids.items():
        prompts = own[language][0]
        chosen = np.concatenate([prompts.select(split) for split in uscore.SPLITS])
        assert found == {prompts.ids[row] for row in chosen.tolist()}
    assert len(ids["t"]) == sum(ROWS["train"]) + sum(ROWS["test"]) == len(ids["h"]) + 4 * LACKING


def test_the_standard_error_is_the_spread_over_other_prompts() -> None:
    """Of 400 samples of 40 prompts: the influences' squares sum to the variance of U, on average."""
    values, errors = [], []
    for seed in range(400):
        random = np.random.default_rng(seed)
        pivot = random.normal(size=(40, 6)) + 0.7
        other = 0.8 * pivot + 0.5 * random.normal(size=(40, 6))
        found = uscore.likeness(pivot.astype(np.float32), other.astype(np.float32))
        values.append(found.score)
        errors.append((found.influence**2).sum())
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(values), rel=0.12)


def test_unrelated_prompts_score_nothing_and_the_same_ones_most(own: dict[str, Own]) -> None:
    scores = uscore.layer_scores(by_layer(own), "test")
    assert max(abs(scores["t", layer]) for layer in range(LAYERS)) < 0.1
    rows = np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32)
    assert uscore.likeness(rows, 3 * rows).score == pytest.approx(1.0, abs=0.02)


TIERS: Mapping[str, Tier] = {"p": "high", "h": "high", "m": "mid", "t": "low"}


def test_high_resource_languages_choose_the_layer_and_mid_ones_only_without_them(own: dict[str, Own]) -> None:
    scored = by_layer(own)
    assert uscore.best_layer(scored, TIERS) == 1
    assert uscore.best_layer(scored.filter(pc.not_equal(scored["language"], "h")), TIERS) == 0
    assert uscore.best_layer(scored.filter(pc.equal(scored["language"], "t")), TIERS) is None
    assert uscore.best_layer(uscore.SCHEMA.empty_table(), TIERS) is None


def test_test_prompts_choose_nothing(own: dict[str, Own]) -> None:
    scored = by_layer(own)
    test = pc.equal(scored["split"], "test")
    turned = pc.if_else(test, pc.multiply(scored["pair"], -5.0), scored["pair"])
    changed = scored.set_column(scored.column_names.index("pair"), "pair", turned)
    assert uscore.layer_scores(changed, "test") != uscore.layer_scores(scored, "test")
    assert uscore.best_layer(changed, TIERS) == uscore.best_layer(scored, TIERS)


def test_only_translations_of_the_same_prompt_are_paired(own: dict[str, Own]) -> None:
    pivot, other = own["p"][0], own["h"][0]
    for split in uscore.SPLITS:
        shared = uscore.shared_prompts(pivot, other, split)
        assert [len(one.ids) for one in shared.values()] == [count - LACKING for count in ROWS[split]]
        for one in shared.values():
            assert [pivot.ids[row] for row in one.pivot] == [other.ids[row] for row in one.other] == list(one.ids)
            assert one.pivot.tolist() != one.other.tolist()


def test_a_store_of_another_width_is_refused(own: dict[str, Own], tmp_path: Path) -> None:
    other = world(tmp_path, {"x": (0.1, 0.1, 0.1)}, width=WIDTH + 1)["x"]
    with pytest.raises(PolygateError, match="width 25, but 24 in p"):
        uscore.by_layer(*own["p"], [other])
