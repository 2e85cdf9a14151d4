"""The stages of AdaSteer and CAST: from stores to interventions, on train and val prompts alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from library.representation.planted import LAYERS, World
from library.stages.test_stages import call
from library.steering.test_adasteer import write_released
from polygate import files
from polygate.decision.calibration import draw_examples
from polygate.errors import PolygateError
from polygate.forward.interventions import Intervention
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.representation.store import write_store
from polygate.settings.types import AdaSteer, Baselines, Cast, Coefficient, Thresholds, dump
from polygate.stages import fit_adasteer, fit_cast, intervene_adasteer, intervene_cast, read_adasteer
from polygate.steering import adasteer
from polygate.steering.cast import Cast as Fitted
from polygate.steering.choice import Choice

LOW, SEEN = ["s", "t"], ["m"]
BASELINES = Baselines(
    methods=["adasteer", "cast"],
    examples=8,
    cast=Cast(condition=[0.0, 0.4], behaviour=[0.5, 0.9], thresholds=Thresholds(last=1, step=0.01)),
)
SETTINGS = {"baselines": BASELINES, "seed": 0}
CONSTANTS = AdaSteer(
    alpha=Coefficient(layer=1, multiplier=0.01, offset=-100, lowest=-1, highest=0),
    beta=Coefficient(layer=2, multiplier=0.02),
)


class Baseline:
    """The stages over one folder, and the planted world in it, with means over tokens that are its last tokens."""

    def __init__(self, folder: Path, spoilt: bool = False) -> None:
        self.folder, world = folder, World(folder)
        for name in (*LOW, *SEEN):
            prompts = world.prompts(name)
            x = world.activations(prompts)
            if spoilt:
                x[:, prompts.select("test")] = 7.0
            tensors = {(layer, at): x[layer] for layer in range(LAYERS) for at in ("t_post_inst", "mean")}
            of = {"model": "m", "prompts": prompts.fingerprint()}
            write_store(self.store(name), tensors, prompts.ids, np.ones(len(prompts), int), name, {}, of)
            table.write(self.prompts(name), prompts, {})
        Choice(2, 1.5, "layer").save(folder / "choices.parquet", {}, {"model": "m"})

    def store(self, name: str) -> Path:
        return self.folder / "activations" / f"{name}.safetensors"

    def prompts(self, name: str) -> Path:
        return self.folder / "prompts" / f"{name}.parquet"

    def table(self, name: str) -> PromptTable:
        return table.read(self.prompts(name))

    def of_languages(self, names: list[str]) -> dict[str, Any]:
        stores, prompts = [self.store(name) for name in names], [self.prompts(name) for name in names]
        return {"languages": names, "activations": stores, "prompts": prompts}

    def fit_adasteer(self, **more: Any) -> Path:
        output = self.folder / "adasteer.safetensors"
        seen = {"seen" if key == "languages" else f"seen_{key}": v for key, v in self.of_languages(SEEN).items()}
        given = {**self.of_languages(LOW), **seen, "choices": self.folder / "choices.parquet", "output": output}
        call(fit_adasteer, settings=dump({**SETTINGS, **more}), **given)
        return output

    def fit_cast(self) -> Path:
        output = self.folder / "cast.safetensors"
        call(fit_cast, settings=dump(SETTINGS), **self.of_languages(LOW), output=output)
        return output

    def intervene_adasteer(self, fitted: Path, language: str = "t") -> Intervention:
        output = self.folder / "done.safetensors"
        own = {"activations": self.store(language), "prompts": self.prompts(language), "language": language}
        call(intervene_adasteer, adasteer=fitted, arm="adasteer", **own, output=output)
        return Intervention.load(output, model="m", arm="adasteer", language=language)

    def intervene_cast(self, fitted: Path, language: str = "t", **strength: Any) -> list[Path]:
        outputs = [self.folder / "val.safetensors", self.folder / "examples.safetensors"]
        own = {"activations": self.store(language), "prompts": self.prompts(language), "language": language}
        arms = {"arms": ["cast", "cast-b8"], "outputs": outputs}
        call(intervene_cast, settings=dump(SETTINGS), cast=fitted, **own, **arms, **(strength or {"strength": 1.5}))
        return outputs


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return Baseline(tmp_path)


def test_published_constants_are_kept_and_others_fitted(baseline: Baseline) -> None:
    found = adasteer.AdaSteer.load(baseline.fit_adasteer(adasteer=CONSTANTS), model="m")
    assert found.harmfulness is not None
    assert [steer.constants for steer in found.steers.values()] == [CONSTANTS.alpha, CONSTANTS.beta]
    path = baseline.fit_adasteer()
    fitted = adasteer.AdaSteer.load(path, model="m")
    assert fitted.harmfulness is None
    constants = fitted.refusal.constants
    assert (constants.lowest, constants.offset) == (0, -100)
    assert constants.highest is not None
    assert constants.highest > 0
    assert files.read_provenance(path)["strength"] == 1.5


def test_adasteer_steers_harmful_prompts_of_the_target_most(baseline: Baseline) -> None:
    done = baseline.intervene_adasteer(baseline.fit_adasteer())
    prompts = baseline.table("t")
    test = prompts.select("test")
    assert done.prompt_ids == tuple(prompts.ids[row] for row in test)
    strengths, harmful = done.parts[0].coefficients, prompts.harmful[test]
    assert strengths[harmful].mean() > 3 * strengths[~harmful].mean()


def test_cast_is_tuned_on_val_and_on_the_gates_examples(baseline: Baseline) -> None:
    fitted = baseline.fit_cast()
    prompts, found = baseline.table("t"), Fitted.load(fitted)
    assert (found.condition_layers, found.behaviour_layers) == ((0, 1), (2,))
    store = fit_adasteer.open_matching(baseline.store("t"), prompts)
    rows = {"cast": prompts.select("val"), "cast-b8": draw_examples(prompts, 8, 0, 0)}
    for (arm, chosen), output in zip(rows.items(), baseline.intervene_cast(fitted), strict=True):
        condition = found.tuned(store, chosen, prompts.harmful[chosen])
        said = files.read_provenance(output)
        assert said["condition"]["threshold"] == condition.threshold
        assert said["tuned_on"] == len(chosen) == 16
        done = Intervention.load(output, model="m", arm=arm, language="t")
        assert done.digest() == found.intervention(store, prompts.select("test"), condition, 1.5).digest()


def test_no_test_prompt_decides_what_another_gets(baseline: Baseline, tmp_path: Path) -> None:
    """With all activations of test prompts replaced, everything fitted and tuned is the same."""
    other = Baseline(tmp_path / "other", spoilt=True)
    for fit in ("fit_adasteer", "fit_cast"):
        ours, theirs = (files.read_safetensors(getattr(one, fit)())[0] for one in (baseline, other))
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])
    conditions = [
        [files.read_provenance(path)["condition"] for path in one.intervene_cast(one.folder / "cast.safetensors")]
        for one in (baseline, other)
    ]
    assert conditions[0] == conditions[1]


def test_nothing_is_fitted_on_a_data_set_that_is_only_tested_on(baseline: Baseline) -> None:
    path = baseline.prompts("t")
    columns = files.read_parquet(path)
    metadata = {**(columns.schema.metadata or {}), b"use": b"test"}
    metadata = {key: value for key, value in metadata.items() if not key.startswith(b"polygate")}
    files.write_parquet(path, columns.replace_schema_metadata(metadata), {})
    for fit in (baseline.fit_adasteer, baseline.fit_cast):
        with pytest.raises(PolygateError, match="only ever tested on"):
            fit()


def test_files_of_another_model_are_refused(baseline: Baseline) -> None:
    fitted = baseline.fit_adasteer()
    tensors, metadata = files.read_safetensors(fitted)
    files.write_safetensors(fitted, tensors, {"adasteer": metadata["adasteer"]}, {}, {"model": "other"})
    with pytest.raises(PolygateError, match="holds model other, expected m"):
        baseline.intervene_adasteer(fitted)


def test_released_vectors_become_the_same_kind_of_file(baseline: Baseline, tmp_path: Path) -> None:
    write_released(tmp_path / "released", depth=LAYERS + 1, width=24)
    constants = CONSTANTS.model_copy(update={"beta": Coefficient(layer=2, multiplier=0.02)})
    output = tmp_path / "released.safetensors"
    settings = dump({"baselines": BASELINES, "adasteer": constants})
    call(read_adasteer, settings=settings, folder=tmp_path / "released", output=output)
    done = baseline.intervene_adasteer(output)
    assert [part.layers for part in done.parts] == 2 * [(0, 1, 2)]
    assert json.loads(files.read_provenance(output)["alpha"])["layer"] == 1
    write_released(tmp_path / "narrow", depth=LAYERS + 1, width=23)
    call(read_adasteer, settings=settings, folder=tmp_path / "narrow", output=output)
    with pytest.raises(PolygateError, match="have width 23 and reach layer 2, but the model has layers 0 to 2"):
        baseline.intervene_adasteer(output)
