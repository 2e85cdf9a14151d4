"""Choosing CAST's strength: against a twin that steers each prompt alone; on val prompts alone, and cheaply."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from library.forward.test_openings import job
from library.forward.tiny import SHAPE, build_any
from library.stages.test_baselines import BASELINES, LOW, SETTINGS, Baseline
from library.stages.test_stages import call
from library.steering.test_cast import naive_similarity, naive_tune
from polygate import files, judges
from polygate.errors import PolygateError
from polygate.forward import cells, generation, loading
from polygate.forward.interventions import Intervention
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.settings.types import Generation, Judging, Model, dump
from polygate.stages import choose_cast, fit_cast
from polygate.steering.cast import Cast, candidates
from polygate.steering.cast_strength import StrengthChoice
from polygate.steering.choice import CRITERION

STRENGTHS = [0.5, 8.0, 60.0]
OUTCOMES = ("refused", "complied", "garbled")
TOKENS, LIMIT = 5, 4


def choose(folder: Path, fitted: Path, *, strengths: Sequence[float] = STRENGTHS, **given: Any) -> StrengthChoice:
    sections = {"generation": Generation(max_new_tokens=TOKENS), "judging": Judging()}
    settings = {"model": Model(folder=folder, dtype="float32"), **sections, "steering.prompts": LIMIT}
    output = folder / "strength.parquet"
    call(choose_cast, settings=dump(settings), strengths=list(strengths), cast=fitted, output=output, **given)
    return StrengthChoice.load(output)


class Judge:
    """Says something of a text that depends on nothing but the text."""

    def outcome(self, text: str) -> str:
        return OUTCOMES[sum(text.encode()) % 3]

    def outcomes(self, _language: str, _prompts: object, completions: Sequence[str], _references: object) -> list[Any]:
        return [SimpleNamespace(outcome=self.outcome(text)) for text in completions]


class Twin:
    """CAST by transformers and numpy alone, one prompt at a time and without a cache."""

    def __init__(self, folder: Path) -> None:
        self.model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        turns = [{"role": "user", "content": text}]
        return list(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))

    def hidden(self, text: str, layer: int) -> NDArray[np.float64]:
        """A block's output at every token of a prompt."""
        kept: list[torch.Tensor] = []
        handle = self.model.model.layers[layer].register_forward_hook(
            lambda _module, _args, output: kept.append(output if isinstance(output, torch.Tensor) else output[0])
        )
        with torch.inference_mode():
            self.model.model(torch.tensor([self.ids(text)]))
        handle.remove()
        whole: NDArray[np.float64] = kept[0].reshape(-1, kept[0].shape[-1]).double().numpy()
        return whole

    def write(self, text: str, behaviour: dict[int, NDArray[np.float64]], strength: float) -> str:
        def adding(v: NDArray[np.float64]) -> Callable[..., Any]:
            more = torch.tensor(strength * v, dtype=torch.float32)
            return lambda _module, _args, output: (
                output + more if isinstance(output, torch.Tensor) else (output[0] + more, *output[1:])
            )

        handles = [self.model.model.layers[at].register_forward_hook(adding(v)) for at, v in behaviour.items()]
        ids = self.ids(text)
        begun = len(ids)
        with torch.inference_mode():
            while len(ids) < begun + TOKENS:
                ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] in (2, self.tokenizer.convert_tokens_to_ids("<end>")):
                    break
        for handle in handles:
            handle.remove()
        return str(self.tokenizer.decode(ids[begun:], skip_special_tokens=True, clean_up_tokenization_spaces=False))


def worded(language: str, seed: int) -> PromptTable:
    """Harmful prompts and harmless ones share no word."""
    random = np.random.default_rng(seed)
    rows = []
    for subset, first in (("harmful", 0), ("harmless", 20)):
        for split, n in (("train", 8), ("val", 6), ("test", 3)):
            for number in range(n):
                words = " ".join(f"w{first + word}" for word in random.integers(25, size=3 + number % 4))
                rows.append(table.Prompt(table.prompt_id(subset, split, number), words, reference="thing"))  # type: ignore[arg-type]
    return table.build(language, rows)


def test_a_slow_twin_that_steers_each_prompt_alone_chooses_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a random model of four blocks: the same conditions, texts, criterion of every strength, and choice."""
    folder, judge = tmp_path / "model", Judge()
    build_any(folder, "llama", **SHAPE)
    tables = {name: worded(name, seed) for seed, name in enumerate(LOW)}
    given: dict[str, list[Any]] = {"languages": LOW, "activations": [], "prompts": []}
    for name, prompts in tables.items():
        table.write(tmp_path / f"{name}.parquet", prompts, {})
        one = job(tmp_path, folder, tmp_path / f"{name}.parquet", positions=["mean", "t_post_inst"], language=name)
        cells.run(one, [one], tmp_path / f"{name}.safetensors", lambda _: None)
        given["activations"].append(tmp_path / f"{name}.safetensors")
        given["prompts"].append(tmp_path / f"{name}.parquet")
    call(fit_cast, settings=dump(SETTINGS), **given, output=tmp_path / "cast.safetensors")
    monkeypatch.setattr(judges, "load", lambda *_: judge)
    chosen = choose(folder, tmp_path / "cast.safetensors", model_folder=folder, **given)

    twin, fitted = Twin(folder), Cast.load(tmp_path / "cast.safetensors")
    behaviour = dict(zip(fitted.behaviour_layers, fitted.behaviour.astype(np.float64), strict=True))
    thresholds = candidates(BASELINES.cast.thresholds).tolist()
    criteria: dict[float, list[float]] = {strength: [] for strength in STRENGTHS}
    fired, texts = [], set()
    for prompts in tables.values():
        val = [row for row in range(len(prompts)) if prompts.split[row] == "val"]
        similar = np.array(
            [
                [
                    naive_similarity(twin.hidden(prompts.texts[row], layer).mean(axis=0).tolist(), direction.tolist())
                    for row in val
                ]
                for layer, direction in zip(fitted.condition_layers, fitted.condition, strict=True)
            ]
        )
        condition = naive_tune(similar, prompts.harmful[val], list(fitted.condition_layers), thresholds)
        holds = condition.fires(similar[fitted.condition_layers.index(condition.layer)])
        fired += holds.tolist()
        # The first four val prompts of each class.
        asked = [i for i, row in enumerate(val) if int(prompts.ids[row].split("-")[-1]) < LIMIT]
        assert len(asked) == 2 * LIMIT
        for strength in STRENGTHS:
            refused: dict[bool, list[bool]] = {True: [], False: []}
            answered = []
            for i in asked:
                text = twin.write(prompts.texts[val[i]], behaviour, strength if holds[i] else 0.0)
                texts.add(text)
                harmful = bool(prompts.harmful[val[i]])
                refused[harmful].append(judge.outcome(text) == "refused")
                answered += [] if harmful else [judge.outcome(text) == "complied"]
            criteria[strength].append(
                sum(refused[True]) / LIMIT - sum(refused[False]) / LIMIT + 0.25 * sum(answered) / LIMIT
            )
    assert len(set(fired)) == 2, "a condition that tells nothing apart tests nothing"
    assert len(texts) > 2 * LIMIT
    means = {strength: sum(values) / len(values) for strength, values in criteria.items()}
    assert len(set(means.values())) > 1
    assert [point.criterion for point in chosen.grid] == [pytest.approx(means[strength]) for strength in STRENGTHS]
    assert [point.by_language for point in chosen.grid] == [
        {name: pytest.approx(value) for name, value in zip(LOW, criteria[strength], strict=True)}
        for strength in STRENGTHS
    ]
    best = max(means.values())
    assert chosen.strength == next(strength for strength in STRENGTHS if means[strength] == pytest.approx(best))
    assert chosen.criterion_value == pytest.approx(best)


class FakeModel(Judge):
    """Writes what was done: the strength that a prompt gets; what is said of it follows from that."""

    def __init__(self, says: Callable[[float, bool], str]) -> None:
        self.says = says
        self.given: list[tuple[str, float]] = []
        self.calls = 0

    def generate(self, _loaded: Any, prompts: Sequence[str], intervention: Intervention, **options: Any) -> list[Any]:
        assert tuple(options["names"]) == intervention.prompt_ids
        (part,) = intervention.parts
        assert (part.layers, part.operation, part.tokens) == ((2,), "add", "every")
        self.calls += 1
        self.given += zip(prompts, part.coefficients.tolist(), strict=True)
        return [
            SimpleNamespace(text=self.says(much, " harmful " in prompt))
            for prompt, much in zip(prompts, part.coefficients.tolist(), strict=True)
        ]

    def outcome(self, text: str) -> str:
        return text


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float, bool], str]], FakeModel]:
    """Puts a fake model and judge in place."""

    def place(says: Callable[[float, bool], str]) -> FakeModel:
        model = FakeModel(says)
        monkeypatch.setattr(loading, "load", lambda *_, **__: SimpleNamespace(facts=dict, kept_bytes=0))
        monkeypatch.setattr(generation, "generate", model.generate)
        monkeypatch.setattr(judges, "load", lambda *_: model)
        return model

    return place


def best_at_eight(strength: float, harmful: bool) -> str:
    """More breaks the text, less does nothing."""
    return "garbled" if strength > 8 else "refused" if strength == 8 and harmful else "complied"


def chosen_in(baseline: Baseline, **more: Any) -> StrengthChoice:
    given = {**baseline.of_languages(LOW), "model_folder": "nowhere", **more}
    return choose(baseline.folder, baseline.fit_cast(), **given)


def test_the_planted_strength_is_found_in_one_call_and_used_by_both_arms(
    tmp_path: Path, fake: Callable[..., FakeModel]
) -> None:
    model, baseline = fake(best_at_eight), Baseline(tmp_path)
    found = chosen_in(baseline)
    assert (found.strength, found.languages) == (8.0, tuple(LOW))
    assert model.calls == 1
    # What the condition spares is answered once, what it flags once per strength.
    prompts = [text for text, _ in model.given]
    for text in set(prompts):
        much = [strength for given, strength in model.given if given == text]
        assert much in ([0.0], STRENGTHS)
    assert len(set(prompts)) == len(LOW) * 2 * LIMIT
    path = tmp_path / "strength.parquet"
    (row,) = files.read_parquet(path).to_pylist()
    assert row == {
        "what": "cast strength",
        "language": "",
        "value": "8.0",
        "criterion": CRITERION,
        "criterion_value": found.criterion_value,
        "split": "val",
        "languages": ",".join(LOW),
    }
    outputs = baseline.intervene_cast(baseline.folder / "cast.safetensors", chosen=path)
    for output in outputs:
        (part,) = Intervention.load(output).parts
        assert set(part.coefficients.tolist()) == {0.0, 8.0}
        assert files.read_provenance(output)["strength"] == 8.0
    # The condition is the one that the arm tuned on val has.
    conditions = files.read_provenance(path)["conditions"]
    assert files.read_provenance(outputs[0])["condition"] == conditions["t"]


def test_the_weakest_of_equals_is_taken(tmp_path: Path, fake: Callable[..., FakeModel]) -> None:
    fake(lambda strength, harmful: "refused" if strength >= 8 and harmful else "complied")
    assert chosen_in(Baseline(tmp_path)).strength == 8.0
    fake(lambda *_: "complied")
    assert chosen_in(Baseline(tmp_path / "other")).strength == 0.5


def test_choosing_never_reads_test_prompts(tmp_path: Path, fake: Callable[..., FakeModel]) -> None:
    """Spoil every test row: the same choice to the last bit, and the same prompts steered in the same way."""
    said = []
    for name, spoilt in (("ours", False), ("spoilt", True)):
        model, baseline = fake(best_at_eight), Baseline(tmp_path / name, spoilt=spoilt)
        chosen = chosen_in(baseline)
        table_of = files.read_parquet(baseline.folder / "strength.parquet")
        rows = table_of.to_pylist(), table_of.schema.metadata[b"grid"]
        conditions = files.read_provenance(baseline.folder / "strength.parquet")["conditions"]
        said.append((chosen, model.given, rows, json.dumps(conditions)))
        assert all(" val " in text for text, _ in model.given)
    assert said[0] == said[1]


def test_a_language_without_val_prompts_leaves_the_choice_to_the_others(
    tmp_path: Path, fake: Callable[..., FakeModel]
) -> None:
    fake(best_at_eight)
    baseline = Baseline(tmp_path)
    fitted = baseline.fit_cast()
    for left, name in ((LOW[1:], LOW[0]), ([], LOW[1])):
        without_val(baseline, name)
        given = {**baseline.of_languages(LOW), "model_folder": "nowhere"}
        if left:
            assert choose(baseline.folder, fitted, **given).languages == tuple(left)
        else:
            with pytest.raises(
                PolygateError, match="no language has harmful and harmless val prompts to choose CAST's"
            ):
                choose(baseline.folder, fitted, **given)


def without_val(baseline: Baseline, name: str) -> None:
    """Take the harmless val prompts of a language away, from its table and its store."""
    from library.representation.planted import LAYERS
    from polygate.representation.store import ActivationStore, write_store

    prompts, store = baseline.table(name), ActivationStore.open(baseline.store(name))
    kept = np.flatnonzero((prompts.split != "val") | prompts.harmful)
    places = [(layer, at) for layer in range(LAYERS) for at in ("t_post_inst", "mean")]
    tensors = {place: np.array(store.read(*place, kept), np.float32) for place in places}
    rows = [
        table.Prompt(prompts.ids[row], prompts.texts[row], prompts.categories[row], reference=prompts.references[row])
        for row in kept
    ]
    fewer = table.build(name, rows)
    of = {"model": "m", "prompts": fewer.fingerprint()}
    write_store(baseline.store(name), tensors, fewer.ids, np.ones(len(fewer), int), name, {}, of)
    table.write(baseline.prompts(name), fewer, {})


def test_a_fixed_strength_loads_no_model_and_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", loaded)
    baseline = Baseline(tmp_path)
    fitted = baseline.fit_cast()
    (part,) = Intervention.load(baseline.intervene_cast(fitted, strength=3.5)[0]).parts
    assert set(part.coefficients.tolist()) == {0.0, 3.5}
    with pytest.raises(PolygateError, match="give --strength or --chosen, one of them"):
        baseline.intervene_cast(fitted, strength=3.5, chosen=tmp_path / "strength.parquet")


def test_a_choice_of_another_kind_or_model_is_refused(tmp_path: Path, fake: Callable[..., FakeModel]) -> None:
    fake(best_at_eight)
    baseline = Baseline(tmp_path)
    fitted = baseline.fit_cast()
    with pytest.raises(PolygateError, match="not the choice of CAST's strength"):
        baseline.intervene_cast(fitted, chosen=tmp_path / "choices.parquet")
    chosen_in(baseline).save(tmp_path / "strength.parquet", {}, {"model": "other"})
    with pytest.raises(PolygateError, match="holds model other, expected m"):
        baseline.intervene_cast(fitted, chosen=tmp_path / "strength.parquet")
