"""What keeps a run's numbers and the paper's from being comparable is said of what it touches, and of nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polygate.report import published
from polygate.report.comparable import Run, of_run
from polygate.report.published import Key
from polygate.settings.types import Languages, Settings

MODEL = {"qwen2.5-7b": {"hub": "Qwen/Qwen2.5-7B-Instruct", "revision": "0" * 40}}
PAPERS_JUDGE = {"judges": ["paid"], "apis": {"paid": {"model": "gpt-4o-mini-2024-07-18"}}}
UPSTREAM = {
    "languages": {"high": ["en", "de"], "mid": ["ar"], "low": ["yo"]},
    "gate": {"rank": 1, "ranks": [1]},
}


def run(**settings: Any) -> Run:
    given = {"models": MODEL, "judging": PAPERS_JUDGE, **settings}
    return Run(**of_run(Settings.model_validate(given)))


def key(language: str = "yo", experiment: str = "unsteered refusal", model: str = "", **more: Any) -> Key:
    paper = Languages()
    given: dict[str, Any] = {"tier": paper.tier(language) if language else "low", "arm": "none", "budget": None}
    given |= {"quantity": "harmful refusal", "dataset": "", "source_language": "", **more}
    return Key(experiment=experiment, model=model or next(iter(published.MODELS)), language=language, **given)


def test_with_the_papers_judge_and_length_only_what_it_translated_itself_differs() -> None:
    """Upstream holds Yoruba, not Swahili; a mean over the low tier holds both, and AUC in Yoruba none of them."""
    found = run()
    assert found.unlike(key("yo")) == []
    assert found.unlike(key("yo", "separability")) == []
    assert found.unlike(key("sw")) == ["prompts"]
    assert found.unlike(key("")) == ["prompts"]
    assert [reason for reason, _ in found.told()] == ["prompts"]
    assert "(el, he, hi, fa, sw, am, my, km, si)" in dict(found.told())["prompts"]


@pytest.mark.parametrize("experiment", ["unsteered refusal", "routing", "layer sweep", "judge against people"])
def test_another_judge_and_length_touch_what_is_judged(experiment: str) -> None:
    found = run(judging={}, generation={"max_new_tokens": 32})
    assert found.unlike(key("yo", experiment)) == ["judge", "truncation"]
    assert found.unlike(key("yo", "separability")) == []
    told = dict(found.told())
    assert told["judge"] == "rules judges completions; in the paper gpt-4o-mini did"
    assert told["truncation"] == "completions are cut off after 32 tokens; the paper's after 128"


def test_where_the_papers_judge_stands_beside_the_first_it_judges_what_is_compared() -> None:
    found = run(judging={**PAPERS_JUDGE, "judges": ["rules", "paid"]})
    assert found.papers_judge == "paid"
    assert found.unlike(key("yo")) == found.unlike(key("yo", "routing")) == []
    assert found.unlike(key("yo", "layer sweep")) == ["judge"]
    assert dict(found.told())["judge"] == "rules judges completions of the layer sweep; in the paper gpt-4o-mini did"
    assert run().papers_judge == run(judging={}).papers_judge == ""


def test_other_languages_touch_means_and_whatever_the_high_resource_ones_are_sources_of() -> None:
    found = run(**UPSTREAM)
    assert found.unlike(key("yo")) == []
    assert found.unlike(key("")) == ["languages"]
    assert found.unlike(key("yo", "separability")) == ["languages"]
    assert found.unlike(key("yo", "cross-lingual transfer", source_language="yo")) == ["languages"]


def test_limits_other_files_and_coarser_weights_are_said(tmp_path: Path) -> None:
    for settings in ({"limit": {"test": 16}}, {"normalise": "terminal_punctuation"}, {"align": 8}):
        assert run(prompts=settings).unlike(key("yo")) == ["prompts"]
    (tmp_path / "yo.csv").write_text("prompt_id,text\n")
    own = run(prompts={"extra": tmp_path})
    assert (own.unlike(key("yo")), own.unlike(key("en"))) == (["prompts"], [])
    rounded = run(models={"qwen2.5-7b": {**MODEL["qwen2.5-7b"], "quantisation": "4bit"}})
    assert rounded.unlike(key("yo")) == ["weights"]
    assert rounded.unlike(key("yo", model=published.MEAN)) == ["weights"]
    assert rounded.unlike(key("yo", model="gemma-2-9b-it")) == []
    assert run(datasets={"multijail": {"source": "multijail", "limit": 9}}).unlike(
        key("en", "out of distribution", dataset="multijail")
    ) == ["prompts"]


def test_a_bound_of_any_model_is_no_number_of_the_papers() -> None:
    bound = Key("conformal calibration", "miss rate", published.ANY, "", "", "conformal", 4, "", "")
    assert run(judging={}, **UPSTREAM).unlike(bound) == []
