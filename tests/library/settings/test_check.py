"""A wrong setting is one line: file, key, value, what is allowed, the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polygate.errors import PolygateError
from polygate.settings import Settings
from polygate.settings_check import load, load_file, setting_paths


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("gate: {rnk: 10}", "gate.rnk = 10: unknown setting: did you mean gate.rank?"),
        ("rank: 3", "rank = 3: unknown setting: did you mean gate.rank?"),
        ("gaet: {rank: 3}", "gaet: unknown setting: did you mean gate?"),
        ("prompts: {limit: {trian: 3}}", "prompts.limit.trian = 3: unknown setting: did you mean prompts.limit.train?"),
        ("report: {zzz: 1}", "report.zzz = 1: unknown setting: known here: samples"),
        (
            "models: {q: {organism: llama, dtyp: float32}}",
            "models.q.dtyp = float32: unknown setting: did you mean models.q.dtype?",
        ),
        ("gate: {solver: adam}", "gate.solver = adam: must be convex or adamw: did you mean adamw?"),
        ("steering: {chosen_on: [hgih]}", "steering.chosen_on.0 = hgih: must be high, mid or low: did you mean high?"),
        ("gate: {rank: 0}", "gate.rank = 0: must be at least 1"),
        ("gate: {rank: many}", "gate.rank = many: must be a whole number"),
        ("gate: {rank: 1.5}", "gate.rank = 1.5: must be a whole number"),
        ("statistics: {confidence: 95}", "statistics.confidence = 95: must be less than 1.0"),
        ("run: a b", "run = a b: must be a name: letters, digits, and _ . - after the first character"),
        ("gate: 3", "gate = 3: must be a section with keys"),
        ("prompts: {allow_missing: perhaps}", "prompts.allow_missing = perhaps: must be true or false"),
        ("languages: {high: en}", "languages.high = en: must be a list, like [a, b]"),
        ("languages: {high: [en]}", 'languages.high = ["en"]: needs at least 2, has 1'),
        (
            "languages: {high: [en, no]}",
            "languages.high.1 = false: must be text: YAML reads a bare no as true or false: write it in quotes",
        ),
        (
            "gate: {rnk: 1, draws: 0, solver: x}",
            "gate.rnk = 1: unknown setting: did you mean gate.rank? (and 2 more: gate.draws, gate.solver)",
        ),
        ("[1]", "a configuration is a mapping of settings, not a list"),
    ],
)
def test_a_wrong_setting_is_one_line_that_teaches(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(PolygateError) as caught:
        load_file(path)
    assert str(caught.value) == f"{path}: {line}"


def test_broken_yaml_and_absent_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("run: demo\ngate: [")
    with pytest.raises(PolygateError, match=r"my.yaml: not valid YAML at line 2"):
        load_file(path)
    path.write_bytes(b"run: \xff")
    with pytest.raises(PolygateError, match=r"not UTF-8"):
        load_file(path)
    with pytest.raises(PolygateError, match="file not found"):
        load_file(tmp_path / "other.yaml")


def test_the_file_that_set_the_value_is_named_and_else_the_command_line(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("gate: {rank: 0}")
    second.write_text("gate: {draws: 0}")
    with pytest.raises(PolygateError, match=f"^{first}: gate.rank"):
        load({"gate": {"rank": 0}}, [first, second])
    with pytest.raises(PolygateError, match=f"^{second}: gate.draws"):
        load({"gate": {"draws": 0}}, [first, second])
    with pytest.raises(PolygateError, match=r"^--config: seed = -1"):
        load({"seed": -1}, [first, second])


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"prompts": {"folder": "nowhere"}}, "prompts.folder = nowhere"),
        ({"prompts": {"extra": "nowhere"}}, "prompts.extra = nowhere"),
        ({"models": {"m": {"folder": "nowhere"}}}, "models.m.folder = nowhere"),
        ({"models": {"m": {"gguf": "nowhere.gguf"}}}, "models.m.gguf = nowhere.gguf"),
        ({"models": {"m": {"organism": "llama", "chat_template": "nowhere"}}}, "models.m.chat_template = nowhere"),
    ],
)
def test_a_path_that_is_not_there_stops_before_any_job(values: dict[str, Any], key: str) -> None:
    with pytest.raises(PolygateError, match=f"{key}: no such (file|folder)"):
        load(values)


@pytest.mark.parametrize("path", [path.replace("<name>", "m") for path in setting_paths()])
def test_every_setting_can_be_mistyped_and_is_suggested(path: str) -> None:
    *sections, leaf = path.split(".")
    values: dict[str, Any] = {f"{leaf}_": 1}
    for section in reversed(sections):
        values = {section: values}
    with pytest.raises(PolygateError, match=re.escape(f"did you mean {path}?")):
        load(values)


PATHS = {"folder", "extra", "chat_template"}
WORDS = sorted({part for path in setting_paths() for part in path.split(".")} - {"<name>"} - PATHS)
scalars = st.none() | st.booleans() | st.integers(-5, 200) | st.floats(0, 5) | st.sampled_from(["en", "", "all", "no"])
values = scalars | st.lists(scalars, max_size=3)
sections = st.dictionaries(st.sampled_from(WORDS) | st.just("m"), values, max_size=3)


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), values | sections, max_size=3))
def test_whatever_the_configuration_holds_it_gives_settings_or_one_line(content: dict[str, Any]) -> None:
    problem = ""
    try:
        settings = load(content)
    except PolygateError as error:
        problem = str(error)
    else:
        assert load(yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))) == settings
    assert "\n" not in problem
