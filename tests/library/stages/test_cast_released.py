"""CAST as released, from its files to interventions, against a twin that knows transformers and numpy alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from library.forward.test_openings import CHATML, job
from library.forward.tiny import SHAPE, save_tokenizer
from library.prompts.sources.test_cast_data import save, tables
from library.stages.test_stages import call
from library.steering.test_cast import naive_direction, naive_similarity, naive_tune
from polygate import files
from polygate.errors import PolygateError
from polygate.forward import cells
from polygate.forward.interventions import Intervention
from polygate.prompts import table
from polygate.prompts.sources import cast_data
from polygate.prompts.table import PromptTable
from polygate.settings.types import Baselines, Cast, Thresholds, dump
from polygate.stages import fit_cast_released, intervene_cast_released
from polygate.steering.cast import Cast as Fitted
from polygate.steering.cast import candidates

BASELINES = Baselines(cast=Cast(thresholds=Thresholds(last=1, step=0.01)))
LOWER, UPPER = (1,), (2, 3)
"""Of four blocks."""


@dataclass
class Run:
    """A model and CAST's files in a folder, and what the stages make of them."""

    folder: Path
    tokenizer: PreTrainedTokenizerFast
    model: Qwen2ForCausalLM
    tables: dict[str, PromptTable]

    @classmethod
    def of(cls, folder: Path, data: Path, tokenizer: PreTrainedTokenizerFast, prompts: PromptTable) -> Run:
        """A random model with that tokenizer, everything captured."""
        torch.manual_seed(0)
        shape = {**SHAPE, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        model = Qwen2ForCausalLM(Qwen2Config(**{**shape, "bos_token_id": None, "eos_token_id": None})).eval()
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        made = tables(data, folder, pairs=12, questions=3, openings=3)
        found = cls(folder, tokenizer, model, {**dict(zip(cast_data.POSITIONS, made, strict=True)), "low": prompts})
        table.write(folder / "low.parquet", prompts, {})
        for part, position in {**cast_data.POSITIONS, "low": "mean"}.items():
            one = job(folder, folder / "model", folder / f"{part}.parquet", positions=[position])
            cells.run(one, [one], folder / f"{part}.safetensors", lambda _: None)
        return found

    def fit(self, **more: Any) -> Path:
        output = self.folder / "cast.safetensors"
        given = {
            "prompts": [self.folder / f"{part}.parquet" for part in cast_data.POSITIONS],
            "activations": [self.folder / f"{part}.safetensors" for part in cast_data.POSITIONS],
            **more,
        }
        call(fit_cast_released, settings=dump({"baselines": BASELINES}), output=output, **given)
        return output

    def intervene(self, fitted: Path) -> Path:
        output = self.folder / "done.safetensors"
        own = {"activations": self.folder / "low.safetensors", "prompts": self.folder / "low.parquet"}
        how = {"strength": 2.5, "arm": "cast-released", "language": "low"}
        call(intervene_cast_released, cast=fitted, **how, **own, output=output)
        return output

    def hidden(self, ids: list[int], layer: int, last: int) -> NDArray[np.float64]:
        """Mean of a block's output over the last tokens of one text."""
        kept: list[torch.Tensor] = []
        handle = self.model.model.layers[layer].register_forward_hook(
            lambda _module, _args, output: kept.append(output if isinstance(output, torch.Tensor) else output[0])
        )
        with torch.inference_mode():
            self.model.model(torch.tensor([ids]))
        handle.remove()
        mean: NDArray[np.float64] = kept[0][0, -last:].double().mean(0).numpy()
        return mean

    def chat(self, text: str, ask: bool) -> list[int]:
        turns = [{"role": "user", "content": text}]
        return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=ask, return_dict=False))

    def of_prompts(self, part: str, rows: NDArray[np.int64], layer: int) -> NDArray[np.float64]:
        asked = [self.chat(self.tables[part].texts[row], True) for row in rows.tolist()]
        return np.stack([self.hidden(ids, layer, len(ids)) for ids in asked])

    def of_openings(self, kind: str, layer: int) -> NDArray[np.float64]:
        given = self.tables["behaviours"]
        found = []
        for text, opening, category in zip(given.texts, given.openings, given.categories, strict=True):
            if category == kind:
                begun = self.tokenizer(opening, add_special_tokens=False)["input_ids"]
                found.append(self.hidden(self.chat(text, False) + begun, layer, len(begun)))
        return np.stack(found)


def low(texts: list[str]) -> PromptTable:
    rows = [
        table.Prompt(table.prompt_id("harmful" if number % 2 else "harmless", "test", number // 2), text)
        for number, text in enumerate(texts)
    ]
    return table.build("low", rows)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """In words of a made-up vocabulary."""
    folder = tmp_path_factory.mktemp("made_up")
    save_tokenizer(folder / "words")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "words")
    prompts = low([f"w{i} w{i + 3} w1" for i in range(12)])
    return Run.of(folder, save(folder / "cast"), tokenizer, prompts)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Run:
    """The first of CAST's own prompts and openings, and of PolyRefuse's in Yoruba, with a real vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers/qwen2", local_files_only=True)
    tokenizer.chat_template = CHATML
    rows = json.loads((shared_data / "polyrefuse/harmful_test_translated_yo.json").read_text())[:12]
    prompts = low([row["instruction_translated"] for row in rows])
    return Run.of(tmp_path_factory.mktemp("real"), shared_data / "cast", tokenizer, prompts)


@pytest.mark.parametrize("data", ["made_up", "real"])
def test_a_slow_twin_finds_the_same_directions_condition_and_prompts(request: pytest.FixtureRequest, data: str) -> None:
    run: Run = request.getfixturevalue(data)
    fitted = run.fit()
    found = Fitted.load(fitted)
    assert (found.condition_layers, found.behaviour_layers) == (LOWER, UPPER)
    asked = run.tables["conditions"]
    condition = naive_direction(
        *(run.of_prompts("conditions", asked.select("train", subset), 1) for subset in table.SUBSETS)
    )
    np.testing.assert_allclose(found.condition[0], condition, atol=1e-5)
    for place, layer in enumerate(UPPER):
        behaviour = naive_direction(run.of_openings("refusing", layer), run.of_openings("compliant", layer))
        np.testing.assert_allclose(found.behaviour[place], behaviour, atol=1e-5)
    val, test = asked.select("val"), run.tables["low"].select("test")
    similar = {
        part: np.array([naive_similarity(x.tolist(), condition.tolist()) for x in run.of_prompts(part, rows, 1)])
        for part, rows in (("conditions", val), ("low", test))
    }
    thresholds = candidates(BASELINES.cast.thresholds).tolist()
    expected = naive_tune(similar["conditions"][None], asked.harmful[val], [1], thresholds)
    assert found.fixed == expected
    path = run.intervene(fitted)
    assert files.read_provenance(path)["condition"]["threshold"] == expected.threshold
    (part,) = Intervention.load(path, arm="cast-released", language="low").parts
    assert (part.layers, part.operation, part.tokens) == (UPPER, "add", "every")
    np.testing.assert_array_equal(part.coefficients, 2.5 * expected.fires(similar["low"]))
    np.testing.assert_array_equal(part.vectors, found.behaviour)


def test_the_condition_is_tuned_on_pairs_that_nothing_was_fitted_on(made_up: Run, tmp_path: Path) -> None:
    """Without its second part the directions are the same, and there is nothing to tune on."""
    tensors, _ = files.read_safetensors(made_up.fit())
    conditions = made_up.tables["conditions"]
    kept = [prompt_id for prompt_id, split in zip(conditions.ids, conditions.split, strict=True) if split == "train"]
    rows = [table.Prompt(name, conditions.texts[conditions.ids.index(name)]) for name in kept]
    shutil.copy(made_up.folder / "behaviours.parquet", tmp_path / "behaviours.parquet")
    table.write(tmp_path / "conditions.parquet", table.build("en", rows), {})
    one = job(tmp_path, made_up.folder / "model", tmp_path / "conditions.parquet", positions=["mean"])
    cells.run(one, [one], tmp_path / "conditions.safetensors", lambda _: None)
    with pytest.raises(PolygateError, match="CAST can't be tuned in en: it needs harmful and harmless prompts"):
        made_up.fit(
            prompts=[tmp_path / "conditions.parquet", made_up.folder / "behaviours.parquet"],
            activations=[tmp_path / "conditions.safetensors", made_up.folder / "behaviours.safetensors"],
        )
    assert set(tensors) == {"condition", "behaviour", "thresholds"}


def test_activations_of_other_prompts_or_another_model_are_refused(made_up: Run) -> None:
    parts = [made_up.folder / f"{part}.safetensors" for part in cast_data.POSITIONS]
    with pytest.raises(PolygateError, match="activations of"):
        made_up.fit(activations=parts[::-1])
    fitted = made_up.fit()
    tensors, metadata = files.read_safetensors(fitted)
    other = made_up.folder / "other.safetensors"
    files.write_safetensors(other, tensors, {"cast": metadata["cast"]}, {}, {"model": "other"})
    with pytest.raises(PolygateError, match="holds model other, expected"):
        made_up.intervene(other)


def test_what_is_tuned_in_each_language_brings_no_condition(made_up: Run) -> None:
    found = Fitted.load(made_up.fit())
    adapted = made_up.folder / "adapted.safetensors"
    Fitted(found.condition_layers, found.condition, found.behaviour_layers, found.behaviour, found.thresholds).save(
        adapted, {}, {"model": found.metadata["model"]}
    )
    with pytest.raises(PolygateError, match="holds no condition of its own"):
        made_up.intervene(adapted)
