"""Gates out of distribution: harmless prompts of the same language, the pivot's for want of any, controls beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from library.controls.standin import FACTS, embed
from library.stages.test_stages import BUDGETS, GATE, HIGH, Chain, call, directed
from library.stages.test_stages import FIXED as FIXED_CHOICE
from polygate import files, kernels
from polygate.controls.semantic import Embedded, semantic_gates
from polygate.decision import calibration
from polygate.decision import ood as library
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.representation.store import ActivationStore
from polygate.settings.types import Controls, dump
from polygate.stages import ood

CONTROLS = Controls(encoder="a/b", folder=Path())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    made = directed(tmp_path_factory.mktemp("ood"))
    made.choose(FIXED_CHOICE)
    made.gates("t")
    return made


def scored(chain: Chain, output: Path, **changes: Any) -> None:
    given = {
        "prompts": chain.table("t"),
        "activations": chain.store("t"),
        "own_prompts": chain.table("t"),
        "own_activations": chain.store("t"),
        **changes,
    }
    call(
        ood,
        settings=dump({"gate": GATE, "controls": CONTROLS, "seed": 0}),
        dataset="",
        target="t",
        gates=chain.path("gates", "t"),
        pivot_prompts=chain.table("a"),
        pivot_activations=chain.store("a"),
        sources=HIGH,
        source_prompts=[chain.table(name) for name in HIGH],
        output=output,
        **given,
    )


def test_gates_say_of_the_fitted_data_set_what_they_said_there(chain: Chain, tmp_path: Path) -> None:
    scored(chain, tmp_path / "out.parquet")
    found = files.read_parquet(tmp_path / "out.parquet").to_pandas()
    first = files.read_parquet(chain.path("gate_scores", "t.parquet")).to_pandas()
    first = first[first["split"] == "test"]
    keys = ["prompt_id", "rank", "budget", "draw"]
    both = found[found["scorer"] == "gate"].drop_duplicates(keys).merge(first, on=keys, suffixes=("", "_first"))
    assert len(both) == len(first)
    assert (both["score"] == both["score_first"]).all()
    assert (both["flagged"] == both["flagged_first"]).all()
    assert set(found["budget"]) == set(BUDGETS)
    # One gate on the surface for each budget and draw of the others.
    setups = {name: set(zip(rows["budget"], rows["draw"], strict=True)) for name, rows in found.groupby("scorer")}
    assert setups["gate"] == setups["surface"]


@pytest.fixture(scope="module")
def embedded(chain: Chain) -> dict[str, Path]:
    """Embeddings of every language by a stand-in that reads words, among them the one that names the class."""
    paths = {name: chain.path("embeddings", f"{name}.safetensors") for name in [*HIGH, "t"]}
    for name, path in paths.items():
        prompts = table.read(chain.table(name))
        Embedded(prompts, embed(prompts.texts), FACTS).save(path, {})
    return paths


def with_embeddings(chain: Chain, embedded: dict[str, Path], output: Path, **changes: Path) -> None:
    given: dict[str, Any] = {"embeddings": embedded["t"], "own_embeddings": embedded["t"], **changes}
    sources = [embedded[name] for name in HIGH]
    scored(chain, output, **given, pivot_embeddings=embedded["a"], source_embeddings=sources)


def test_gates_on_embeddings_say_what_a_fit_by_hand_says(
    chain: Chain, embedded: dict[str, Path], tmp_path: Path
) -> None:
    with_embeddings(chain, embedded, tmp_path / "out.parquet")
    found = files.read_parquet(tmp_path / "out.parquet").to_pandas()
    own, sources = table.read(chain.table("t")), [table.read(chain.table(name)) for name in HIGH]
    train = [(one, one.select("train", multiple_choice=True)) for one in sources]
    texts = [one.texts[row] for one, rows in train for row in rows]
    harmful = np.concatenate([one.harmful[rows] for one, rows in train])
    test = own.select("test", "harmful")
    for budget, draw in ((0, 0), (1, 2), (8, 1)):
        drawn = calibration.draw_examples(own, budget, draw, 0) if budget else np.empty(0, np.int64)
        known = embed([*texts, *(own.texts[row] for row in drawn)]).astype(float)
        labels = np.concatenate([harmful, own.harmful[drawn]])
        twin = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(known, labels)
        mine = found[(found["scorer"] == "semantic") & (found["budget"] == budget) & (found["draw"] == draw)]
        mine = mine[mine["subset"] == "harmful"]
        assert mine["prompt_id"].tolist() == [own.ids[row] for row in test]
        expected = twin.decision_function(embed([own.texts[row] for row in test]).astype(float))
        assert mine["score"].to_numpy() == pytest.approx(expected, abs=1e-9)
        # The threshold is that of the examples, or of the sources, alone.
        of, languages = (own.texts[row] for row in drawn), None
        if not budget:
            of, languages = iter(texts), np.repeat(np.arange(len(HIGH)), [len(rows) for _, rows in train])
        seen = twin.decision_function(embed(list(of)).astype(float))
        swept = kernels.sweep_threshold(seen, labels if not budget else own.harmful[drawn], languages, "macro_f1")
        assert mine["flagged"].tolist() == (expected > swept.threshold).tolist()


def test_with_an_encoder_gates_and_surface_say_what_they_say_without(
    chain: Chain, embedded: dict[str, Path], tmp_path: Path
) -> None:
    scored(chain, tmp_path / "without.parquet")
    with_embeddings(chain, embedded, tmp_path / "with.parquet")
    without, found = (files.read_parquet(tmp_path / f"{name}.parquet").to_pandas() for name in ("without", "with"))
    assert set(without["scorer"]) == {"gate", "surface"}
    setups = {name: set(zip(rows["budget"], rows["draw"], strict=True)) for name, rows in found.groupby("scorer")}
    assert setups["gate"] == setups["surface"] == setups["semantic"]
    rest = found[found["scorer"] != "semantic"].reset_index(drop=True)
    assert rest.equals(without)


def test_embeddings_of_other_prompts_and_of_another_encoder_are_refused(
    chain: Chain, embedded: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        with_embeddings(chain, embedded, tmp_path / "out.parquet", own_embeddings=embedded["a"])
    prompts = table.read(chain.table("t"))
    Embedded(prompts, embed(prompts.texts)[:, :8], FACTS).save(tmp_path / "narrow.safetensors", {})
    with pytest.raises(PolygateError, match="of different encoders") as failed:
        with_embeddings(chain, embedded, tmp_path / "out.parquet", embeddings=tmp_path / "narrow.safetensors")
    other = {**FACTS, "encoder": "a/c"}
    Embedded(prompts, embed(prompts.texts), other).save(tmp_path / "other.safetensors", {})
    with pytest.raises(PolygateError, match="by encoder 'a/c', prefix '', the settings ask for encoder 'a/b'"):
        with_embeddings(chain, embedded, tmp_path / "out.parquet", own_embeddings=tmp_path / "other.safetensors")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out.parquet").exists()


def test_where_the_language_has_no_harmless_test_prompts_the_pivots_stand_in(chain: Chain) -> None:
    own, pivot = table.read(chain.table("t")), table.read(chain.table("a"))
    stores = [ActivationStore.open(chain.store(name)) for name in ("t", "a")]
    parts = [
        library.Prompts(found, store, found.select("test")) for found, store in zip((own, pivot), stores, strict=True)
    ]
    assert library.paired(*parts).table.language == "t"
    kept = [row for row in range(len(own)) if not own.ids[row].startswith("harmless-test")]
    hole = PromptTable(
        "t",
        tuple(own.ids[row] for row in kept),
        own.split[kept],
        own.subset[kept],
        *(tuple(getattr(own, name)[row] for row in kept) for name in ("texts", "categories", "sources", "references")),
    )
    stand_in = library.paired(library.Prompts(hole, stores[0], hole.select("test")), parts[1])
    assert stand_in.table.language == "a"
    assert set(np.array(stand_in.table.ids)[stand_in.rows]) == {
        pivot.ids[row] for row in pivot.select("test", "harmless")
    }
    # Then gates on embeddings read the pivot's too.
    lacking, whole = (Embedded(found, embed(found.texts), FACTS) for found in (hole, pivot))
    stand_in = library.paired(
        library.Prompts(hole, stores[0], hole.select("test"), lacking.values),
        library.Prompts(pivot, stores[1], pivot.select("test"), whole.values),
    )
    others = table.read(chain.table("b"))
    gates = list(semantic_gates([Embedded(others, embed(others.texts), FACTS)], lacking, GATE, 0))
    said = library.score([stand_in], [], [], gates).to_pandas()
    assert set(said["spoken"]) == {"a"}
    for gate in gates:
        mine = said[(said["budget"] == gate.budget) & (said["draw"] == gate.draw)]
        expected = gate.fit.score(embed([pivot.texts[row] for row in pivot.select("test", "harmless")]))
        assert mine["score"].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_a_target_among_its_sources_and_activations_of_others_are_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        scored(chain, tmp_path / "out.parquet", prompts=chain.table("a"), activations=chain.store("a"))
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        scored(chain, tmp_path / "out.parquet", own_prompts=chain.table("a"))
    assert not (tmp_path / "out.parquet").exists()
