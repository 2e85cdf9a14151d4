"""Judges in the settings: known by name, the first for every language, and no key in any message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polygate.errors import PolygateError
from polygate.preflight import check_keys, load
from polygate.settings.types import Judging, stage_settings

KEY = "sk-Proj_0123456789"
FIXED = {"organism": "qwen2", "layer": 1, "strength": 1.0, "ablation": "all"}


def organisms(judging: dict[str, Any], **more: Any) -> dict[str, Any]:
    languages = {"high": ["h1", "h2"], "mid": [], "low": ["l1"]}
    return {
        "pivot": "h1",
        "languages": languages,
        "prompts": {"source": "organism"},
        "models": {"m": FIXED},
        "gate": {"rank": 1, "ranks": [1]},
        "judging": judging,
        **more,
    }


def test_the_list_of_judges_has_taken_the_place_of_the_judge() -> None:
    with pytest.raises(PolygateError, match=r"judging: judge has become the list judges: write judges: \[rules\]"):
        load(organisms({"judge": "rules"}))


@pytest.mark.parametrize(
    ("judging", "message"),
    [
        ({"judges": ["rules", "gpt"]}, r"judges: 'gpt' is none of rules: describe it under apis or guards"),
        ({"judges": []}, r"judging\.judges .*at least 1"),
        ({"judges": ["rules", "rules"]}, "rules stands in it twice"),
        ({"apis": {"rules": {}}}, "'rules' names two judges"),
        ({"apis": {"a": {}, "A": {}}}, "'a' and 'A' differ only in case"),
        ({"guards": {"g": {"verdict": "(yes|no)"}}}, "give exactly one of hub, folder"),
        ({"guards": {"g": {"verdict": "(yes|no)", "hub": "a/b"}}}, "needs a pinned revision"),
        ({"guards": {"g": {"folder": "/"}}}, "give verdict, or the guard that it is like"),
        ({"guards": {"g": {"folder": "/", "verdict": "yes|no"}}}, "must have one group, has 0"),
        ({"guards": {"g": {"folder": "/", "verdict": "(yes"}}}, "no regular expression"),
        ({"guards": {"g": {"folder": "/", "verdict": "(a)", "template": "{prompt}"}}}, "must hold .*completion.*once"),
        ({"guards": {"g": {"folder": "/nowhere", "verdict": "(a)"}}}, r"guards\.g\.folder = /nowhere: no such folder"),
        ({"labels": "/nowhere.csv"}, r"judging\.labels = /nowhere\.csv: no such file"),
        (
            {"judges": ["a", "rules"], "apis": {"a": {"languages": ["h1"]}}},
            r"a doesn't judge h2, l1: put another judge first",
        ),
        ({"judges": ["rules", "a"], "apis": {"a": {"languages": ["en"]}}}, r"a doesn't judge h1, h2, l1: leave it out"),
    ],
)
def test_what_is_wrong_with_a_judge_is_said_in_one_line(judging: dict[str, Any], message: str) -> None:
    with pytest.raises(PolygateError, match=message):
        load(organisms(judging))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("harmful-test-0000,l9,none,1", "line 2: language 'l9' is not among h1, h2, l1"),
        ("harmful-test-0000,l1,cast,1", "line 2: arm 'cast' is not among none, addition, ablation"),
        ("harmful-test-0000,l1,none,perhaps", "line 2: label 'perhaps'"),
    ],
)
def test_what_is_wrong_with_labels_is_said_before_any_job(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f"prompt_id,language,arm,label\n{line}\n")
    with pytest.raises(PolygateError, match=rf"judging\.labels = .*: {message}.*, in .*people\.csv"):
        load(organisms({"labels": str(path)}))
    path.write_text("prompt_id,language,arm,label\nharmful-test-0000,l1,none,refused\n")
    load(organisms({"labels": str(path)}))


def test_a_guard_can_be_the_first_where_nothing_is_chosen(tmp_path: Path) -> None:
    judging = {"judges": ["g"], "guards": {"g": {"folder": str(tmp_path), "verdict": "(yes|no)"}}}
    assert load(organisms(judging)).judging.judge == "g"
    with pytest.raises(PolygateError, match=r"guard 'g' can't be the first .* as for m: put another first"):
        load(organisms(judging, models={"m": {"organism": "qwen2"}}))


@pytest.mark.parametrize("setting", ["key", "base_url"])
def test_a_key_that_stands_where_its_name_should_is_not_repeated(setting: str) -> None:
    given = {"judges": ["rules", "a"], "apis": {"a": {setting: f"https://me:{KEY}@x.org" if setting != "key" else KEY}}}
    with pytest.raises(PolygateError, match=rf"judging\.apis\.a\.{setting}: must be ") as raised:
        load(organisms(given))
    assert KEY not in str(raised.value)
    with pytest.raises(PolygateError, match="--settings: judging") as raised:
        stage_settings(f'{{"judging": {{"apis": {{"a": {{"{setting}": "https://me:{KEY}@x"}}}}}}}}')
    assert KEY not in str(raised.value)


def test_keys_are_looked_for_before_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(organisms({"judges": ["rules", "a"], "apis": {"a": {"key": "A_KEY"}, "b": {"key": "B_KEY"}}}))
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(PolygateError, match=r"A_KEY is not set, in judging\.apis\.a: export it, or leave"):
        check_keys(found)
    monkeypatch.setenv("A_KEY", KEY)
    # One that is described and not named among the judges asks for nothing.
    check_keys(found)


def test_languages_without_phrases_need_another_judge_than_the_rules(tmp_path: Path) -> None:
    guards = {"g": {"folder": str(tmp_path), "verdict": "(yes|no)"}}
    values = {"languages": {"low": ["ha"]}, "judging": {"judges": ["g"], "guards": guards}}
    assert load(values).languages.low == ["ha"]
    with pytest.raises(PolygateError, match="no refusal is recognised in ha"):
        load({**values, "judging": {"judges": ["g", "rules"], "guards": guards}})


def test_a_judge_reads_nothing_of_the_others() -> None:
    apis = {"a": {"key": None}, "b": {}}
    whole = Judging.model_validate({"judges": ["rules", "a", "b"], "apis": apis, "labels": "x.csv", "phrases": "y"})
    alone = Judging.model_validate({"judges": ["a"], "apis": {"a": {"key": None}}})
    assert whole.only("a") == alone
    assert whole.only("rules") == Judging.model_validate({"phrases": "y"})
    assert whole.paid == ["a", "b"]
