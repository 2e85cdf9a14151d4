"""What an alignment may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from polygate.errors import PolygateError
from polygate.preflight import load
from polygate.settings.types import Examples, Settings, dump, stage_settings

LANGUAGES = {"high": ["en", "de"], "mid": ["ko"], "low": ["yo", "pt"]}
NONE = {"harmful": 0, "harmless": 0}


def configured(alignment: dict[str, Any], align: int = 120, **model: Any) -> dict[str, Any]:
    return {
        "languages": LANGUAGES,
        "models": {"m": {"hub": "a/b", "revision": "1" * 40, "alignment": alignment, **model}},
        "prompts": {"align": align},
        "gate": {"rank": 2, "ranks": [2]},
    }


def test_a_language_has_its_tiers_examples_unless_it_has_its_own() -> None:
    own = {"ko": {"harmful": 3, "harmless": 4}, "pt": NONE}
    settings = load(configured({"examples": {"low": {"harmful": 1, "harmless": 9, "asked": 7}}, "languages": own}))
    alignment = settings.models["m"].alignment
    assert alignment is not None
    budgets = alignment.budgets(settings.languages)
    assert list(budgets) == ["en", "de", "ko", "yo"]
    assert budgets["en"] == Examples(harmful=100, harmless=100)
    assert budgets["ko"] == Examples(harmful=3, harmless=4)
    assert budgets["yo"] == Examples(harmful=1, harmless=9, asked=7)
    assert stage_settings(dump({"alignment": alignment})).alignment == alignment
    resolved = alignment.resolved(settings.languages)
    assert resolved.languages == budgets
    assert stage_settings(dump({"alignment": resolved})).alignment == resolved


def test_nothing_is_set_aside_by_default() -> None:
    assert Settings().prompts.align == 0
    assert all(model.alignment is None for model in Settings().models.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (configured({"languages": {"pt": NONE}}, align=60), "models.m.alignment asks for 100 .* en, .* sets 60 aside"),
        (
            configured({"languages": {"pt": {"harmful": 60, "harmless": 0, "answered": 50}}}, align=105),
            "models.m.alignment asks for 110 .* pt, .* sets 105 aside",
        ),
        (configured({"languages": {"sw": NONE}}), "models.m.alignment.languages: 'sw' is not among languages"),
        (configured({}), "models.m.alignment: no refusal and answer sentences in language pt"),
        (configured({"languages": {"pt": {"harmful": 1}}}), "models.m.alignment.languages.pt.harmless"),
        (configured({"method": "loar"}), "did you mean lora"),
        (
            configured({"examples": {"mid": NONE | {"harmless": 7}}})
            | {"languages": {"high": ["en", "de"], "mid": []}},
            "models.m.alignment.examples: there is no mid-resource language under languages.mid",
        ),
        (configured({"exmples": {}}), "did you mean models.m.alignment.examples"),
        (configured({}, hub=None, revision=None, organism="llama"), "alignment is for pretrained models"),
        (configured({"examples": dict.fromkeys(("high", "mid", "low"), NONE)}), "no examples in any language"),
    ],
)
def test_one_line_says_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PolygateError, match=message) as error:
        load(values)
    assert "\n" not in str(error.value)
