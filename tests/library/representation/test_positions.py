"""Harmfulness by token position: found where it is planted and nowhere else, as a slow twin computes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from library.representation.planted import LAYERS, WIDTH, World, naive_auc
from library.stages.test_stages import call
from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.representation import directions, positions
from polygate.representation.directions import ClassMeans, open_matching
from polygate.representation.positions import PositionMeans
from polygate.representation.store import ActivationStore, write_store
from polygate.stages import position_means as position_means_stage
from polygate.stages import positions as positions_stage

POSITIONS = ("t_inst", "t_post_inst", "mean")
SOURCES, TARGET = ("a", "b", "c"), "t"


@dataclass
class Places(World):
    """A world whose signal stands at one position; elsewhere are its harmless prompts' kind of noise alone."""

    signal: str = "t_inst"

    def at(self, prompts: PromptTable) -> dict[str, NDArray[np.float32]]:
        """Position → activations [L, n, d]."""
        random = np.random.default_rng([7, *prompts.language.encode()])
        planted = self.activations(prompts)
        return {
            name: planted if name == self.signal else random.normal(size=planted.shape).astype(np.float32)
            for name in POSITIONS
        }

    def store(self, language: str) -> tuple[ActivationStore, PromptTable]:
        """Written and opened."""
        prompts = self.prompts(language)
        path = self.folder / f"{language}.safetensors"
        tensors = {(layer, name): x[layer] for layer in range(LAYERS) for name, x in self.at(prompts).items()}
        counts = np.ones(len(prompts), np.int32)
        of = {"model": self.model, "prompts": prompts.fingerprint()}
        write_store(path, tensors, prompts.ids, counts, language, {}, of)
        table.write(self.folder / f"{language}.parquet", prompts, {})
        return open_matching(path, prompts), prompts

    def scores(self, *sources: str) -> tuple[pa.Table, PromptTable]:
        """Scores of the target."""
        means = {name: positions.position_means(*self.store(name)) for name in sources or SOURCES}
        store, prompts = self.store(TARGET)
        return positions.scores(store, prompts, positions.for_target(TARGET, means, "a")), prompts


def of_test(found: pa.Table, position: str, layer: int, direction: str = "v_hrl") -> tuple[list[float], list[str]]:
    """Scores and ids of one column's test prompts."""
    rows = [
        row
        for row in found.to_pylist()
        if (row["split"], row["position"], row["layer"], row["direction"]) == ("test", position, layer, direction)
    ]
    return [row["score"] for row in rows], [row["prompt_id"] for row in rows]


@pytest.mark.parametrize("signal", POSITIONS)
def test_harmfulness_is_read_where_it_stands_and_nowhere_else(tmp_path: Path, signal: str) -> None:
    found, prompts = Places(tmp_path, signal=signal).scores()
    labels = prompts.harmful[prompts.select("test")]
    for position in POSITIONS:
        for layer in range(LAYERS):
            auc = naive_auc(of_test(found, position, layer)[0], labels)
            assert auc > 0.98 if position == signal else 0.2 < auc < 0.8, (position, layer, auc)


def slow_scores(world: Places, direction: str) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Scores of the target's test prompts from the definition, one language, position and layer at a time."""
    target = world.prompts(TARGET)
    found = {}
    for position in POSITIONS:
        for layer in range(LAYERS):
            units, harmful, harmless = [], [], []
            for name in SOURCES:
                prompts = world.prompts(name)
                x = world.at(prompts)[position][layer].astype(np.float64)
                train = (prompts.split == "train") & ~prompts.multiple_choice
                harmful += list(x[train & prompts.harmful])
                harmless += list(x[train & ~prompts.harmful])
                difference = x[train & prompts.harmful].mean(axis=0) - x[train & ~prompts.harmful].mean(axis=0)
                units.append(difference / np.sqrt((difference**2).sum()))
            stack = np.array(units)
            # The first right singular vector is the leading eigenvector of the stack's Gram matrix.
            v = np.linalg.eigh(stack.T @ stack)[1][:, -1]
            if direction == "v_hrl_pooled":
                v = np.mean(harmful, axis=0) - np.mean(harmless, axis=0)
                v /= np.sqrt((v**2).sum())
            v = v * (1 if v @ units[0] > 0 else -1)
            x = world.at(target)[position][layer].astype(np.float64)
            found[position, layer] = np.array([sum(a * b for a, b in zip(x[i], v, strict=True)) for i in _test(target)])
    return found


def _test(prompts: PromptTable) -> list[int]:
    return [i for i in range(len(prompts)) if prompts.split[i] == "test"]


@pytest.mark.parametrize("direction", positions.DIRECTIONS)
def test_scores_are_those_of_the_definition(tmp_path: Path, direction: str) -> None:
    world = Places(tmp_path)
    found, prompts = world.scores()
    for (position, layer), expected in slow_scores(world, direction).items():
        scores, ids = of_test(found, position, layer, direction)
        assert ids == [prompts.ids[i] for i in _test(prompts)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_at_the_last_token_the_directions_are_those_of_everything_else(tmp_path: Path) -> None:
    world = Places(tmp_path, signal="t_post_inst")
    stores = {name: world.store(name) for name in (*SOURCES, TARGET)}
    whole = {name: directions.class_means(*given) for name, given in stores.items()}
    expected = directions.for_target(TARGET, {n: whole[n] for n in SOURCES}, whole[TARGET], pivot="a", rank=3)
    means = {name: positions.position_means(*stores[name]) for name in SOURCES}
    found = positions.for_target(TARGET, means, "a")["t_post_inst"]
    np.testing.assert_array_equal(found[:, 0], expected.pc1_of_diffs)
    np.testing.assert_array_equal(found[:, 1], expected.pooled_dim)


def test_a_target_lends_nothing_to_what_it_is_tested_with(tmp_path: Path) -> None:
    """Scores of test prompts stay the same, to the last bit, whatever the target's own train prompts are."""
    world = Places(tmp_path)
    before, prompts = world.scores()
    store, _ = world.store(TARGET)
    changed = {
        (layer, name): x[layer] + 50 * (prompts.split == "train")[:, None].astype(np.float32)
        for layer in range(LAYERS)
        for name, x in world.at(prompts).items()
    }
    write_store(store.path, changed, prompts.ids, store.token_count, TARGET, {}, {"prompts": prompts.fingerprint()})
    means = {name: positions.position_means(*world.store(name)) for name in SOURCES}
    moved = ActivationStore.open(store.path)
    assert positions.scores(moved, prompts, positions.for_target(TARGET, means, "a")).equals(before)


def test_class_means_survive_the_file(tmp_path: Path) -> None:
    means = positions.position_means(*Places(tmp_path).store("a"))
    means.save(tmp_path / "means.safetensors", "a", {}, {"model": "m1"})
    back = PositionMeans.load(tmp_path / "means.safetensors", language="a", model="m1")
    assert tuple(back.at) == POSITIONS
    for position in POSITIONS:
        np.testing.assert_array_equal(back.at[position].harmful, means.at[position].harmful)
        np.testing.assert_array_equal(back.at[position].harmless, means.at[position].harmless)
        assert back.at[position].counts == (40, 30)
    with pytest.raises(PolygateError, match="holds model m1, expected m2"):
        PositionMeans.load(tmp_path / "means.safetensors", model="m2")


def made_up(*names: str, width: int = WIDTH) -> PositionMeans:
    random = np.random.default_rng(width)
    shape = (LAYERS, width)
    return PositionMeans(
        {name: ClassMeans(random.normal(size=shape), random.normal(size=shape), (3, 3)) for name in names}
    )


def test_sources_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="target language a is among its own sources"):
        positions.for_target("a", {"a": made_up("t_inst")}, "a")
    with pytest.raises(PolygateError, match="no source languages"):
        positions.for_target("t", {}, "a")
    for other in (made_up("t_inst", "mean"), made_up("t_inst", width=5)):
        with pytest.raises(PolygateError, match="different positions or shapes"):
            positions.for_target("t", {"a": made_up("t_inst"), "b": other}, "a")
    store, prompts = Places(tmp_path).store(TARGET)
    with pytest.raises(PolygateError, match=r"activations at t_inst, t_post_inst, mean .* directions at t_inst "):
        positions.scores(store, prompts, positions.for_target(TARGET, {"a": made_up("t_inst")}, "a"))


def test_the_stages_write_what_the_library_finds(tmp_path: Path) -> None:
    world = Places(tmp_path, model="m1")
    expected, prompts = world.scores()
    for name in SOURCES:
        call(
            position_means_stage,
            activations=tmp_path / f"{name}.safetensors",
            prompts=tmp_path / f"{name}.parquet",
            language=name,
            output=tmp_path / f"means-{name}.safetensors",
        )
    arguments = {
        "pivot": "a",
        "target": TARGET,
        "sources": list(SOURCES),
        "means": [tmp_path / f"means-{name}.safetensors" for name in SOURCES],
        "activations": tmp_path / f"{TARGET}.safetensors",
        "prompts": tmp_path / f"{TARGET}.parquet",
        "output": tmp_path / "scores.parquet",
    }
    call(positions_stage, **arguments)
    found = files.read_parquet(tmp_path / "scores.parquet")
    assert found.equals(expected)
    said = files.parquet_metadata(found)
    assert (said["language"], said["model"], said["prompts"]) == (TARGET, "m1", prompts.fingerprint())
    swapped = [arguments["means"][1], arguments["means"][0], arguments["means"][2]]
    with pytest.raises(PolygateError, match="holds language b, expected a"):
        call(positions_stage, **{**arguments, "means": swapped})
