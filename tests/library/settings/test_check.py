"""A wrong setting is one line: file, key, value, what is allowed, the nearest valid name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polygate.errors import PolygateError
from polygate.preflight import load, load_file
from polygate.settings.check import setting_paths
from polygate.settings.types import Settings

RUN_AS_A_NUMBER = (
    "run = 20261128: must be text: YAML reads it as a number: write it in quotes, on the command line within others"
)


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
        (
            "models: {m: {organism: llama, layer: no}}",
            "models.m.layer = false: must be a number: YAML reads a bare yes or no as true or false; "
            "chosen on validation when empty",
        ),
        (
            "steering: {layers: [0, yes]}",
            "steering.layers = [0, true]: must be a number: YAML reads a bare yes or no as true or false; "
            "every block when empty",
        ),
        ("models: {m: {organism: llama, layer: 4}}", "models.m.layer = 4: model m has 4 decoder blocks: the last is 3"),
        ("models: {m: {organism: llama, strength: -1}}", "models.m.strength = -1: must be more than 0.0"),
        ("models: {m: {organism: llama, parameters: .inf}}", "models.m.parameters = Infinity: must be a finite number"),
        ("steering: {strengths: [1, 0]}", "steering.strengths.1 = 0: must be more than 0.0"),
        ("steering: {strengths: [.nan]}", "steering.strengths.0 = NaN: must be a finite number"),
        ("steering: {strengths: [.inf]}", "steering.strengths.0 = Infinity: must be a finite number"),
        ("steering: {layers: [-1]}", "steering.layers.0 = -1: must be at least 0"),
        ("steering: {layers: []}", "steering.layers = []: needs at least 1, has 0"),
        ("steering: {scopes: [layer, layer]}", 'steering.scopes = ["layer", "layer"]: layer stands in it twice'),
        (
            "baselines: {methods: [adastear]}",
            "baselines.methods.0 = adastear: must be adasteer, adasteer-released, cast or cast-released: did you mean "
            "adasteer?",
        ),
        ("baselines: {methods: [cast, cast]}", 'baselines.methods = ["cast", "cast"]: cast stands in it twice'),
        ("baselines: {cast: {strength: 0}}", "baselines.cast.strength = 0: must be more than 0.0"),
        (
            "baselines: {cast: {strength: no}}",
            "baselines.cast.strength = false: must be a number: YAML reads a bare yes or no as true or false; "
            "chosen on validation from the candidates when empty",
        ),
        ("baselines: {cast: {strengths: []}}", "baselines.cast.strengths = []: needs at least 1, has 0"),
        ("baselines: {cast: {strengths: [-1, 1]}}", "baselines.cast.strengths.0 = -1: must be more than 0.0"),
        ("baselines: {cast: {strengths: [1, .nan]}}", "baselines.cast.strengths.1 = NaN: must be a finite number"),
        (
            "baselines: {cast: {strengths: [5, 1.5]}}",
            "baselines.cast.strengths = [5, 1.5]: must be distinct and ascending",
        ),
        ("baselines: {cast: {strengths: [1, 1]}}", "baselines.cast.strengths = [1, 1]: must be distinct and ascending"),
        (
            "baselines: {cast: {condition: [0.1, 0.5]}}",
            "baselines.cast: condition ends at 0.5 of the depth, where behaviour has begun (0.46875): conditions must "
            "lie below all behaviours",
        ),
        (
            "baselines: {cast: {behaviour: [0.9, 0.6]}}",
            "baselines.cast: behaviour: the first layer, 0.9 of the depth, lies above the last, 0.6",
        ),
        (
            "{baselines: {methods: [cast], cast: {condition: [0.3, 0.4]}}, models: {m: {organism: llama}}}",
            "baselines.cast.condition = [0.3, 0.4]: model m has 4 decoder blocks, none of them there: widen it, or "
            "take cast out",
        ),
        (
            "{baselines: {methods: [cast-released], cast: {condition: [0.3, 0.4]}}, models: {m: {organism: llama}}}",
            "baselines.cast.condition = [0.3, 0.4]: model m has 4 decoder blocks, none of them there: widen it, or "
            "take cast out",
        ),
        (
            "baselines: {cast: {released: {folder: nowhere/cast}}}",
            f"baselines.cast.released.folder = nowhere/cast: no such folder: relative paths start in {Path.cwd()}",
        ),
        ("baselines: {cast: {released: {openings: 0}}}", "baselines.cast.released.openings = 0: must be at least 1"),
        (
            "{baselines: {methods: [cast-released]}, prompts: {source: organism}}",
            "baselines.methods: cast-released needs models that read English, organisms don't",
        ),
        ("datasets: {Cast-released: {source: xstest}}", "datasets: 'cast-released' is the name of CAST's own data"),
        (
            "baselines: {cast: {thresholds: {first: 0.5, last: 0.1}}}",
            "baselines.cast.thresholds: last 0.1 lies below first 0.5",
        ),
        (
            "{baselines: {methods: [cast]}, prompts: {limit: {train: 8}}, gate: {budgets: [0, 8]}}",
            "baselines.examples: 32 per class can't be taken from prompts.limit.train = 8 prompts",
        ),
        (
            "models: {m: {organism: llama, adasteer: {alpha: {layer: 4, multiplier: 1}, "
            "beta: {layer: 0, multiplier: 1}}}}",
            "models.m.adasteer.alpha.layer = 4: model m has 4 decoder blocks: the last is 3",
        ),
        (
            "models: {m: {organism: llama, adasteer: {alpha: {layer: 0, multiplier: 1, lowest: 2, highest: 1}}}}",
            "models.m.adasteer.alpha: lowest 2 lies above highest 1: (and 1 more: models.m.adasteer.beta)",
        ),
        ("seed: 4294967296", "seed = 4294967296: must be at most 4294967295"),
        ("seed: 010", "not valid YAML at line 1: YAML takes 010 for 8"),
        ("statistics: {resamples: 300000000}", "statistics.resamples = 300000000: must be at most 100000"),
        (
            "models: {m: {hub: a/b, revision: main}}",
            "models.m.revision = main: must be a commit: its 40 hex digits: "
            "branches and tags move, and results with them",
        ),
        ("run: cells", "run: 'cells' is the name of the cache's folder in results"),
        ("run: Cells", "run: 'Cells' is the name of the cache's folder in results"),
        ("run: 2026_11_28", RUN_AS_A_NUMBER),
        ("models: {tables: {organism: llama}}", "models: 'tables' is the name of another folder in results/paper"),
        (
            "models: {m: {organism: llama}, M: {organism: llama}}",
            "models 'm' and 'M' differ only in case: some disks take them for one file",
        ),
        (
            "languages: {high: [en, EN]}",
            "languages: languages 'en' and 'EN' differ only in case: some disks take them for one file",
        ),
        ("run: " + "x" * 101, "run = " + "x" * 57 + "…: must have at most 100 characters"),
        (
            'prompts: {folder: "a{b}"}',
            "prompts.folder = a{b}: a path with '{' can't be used here: rename it, or link to it under another name",
        ),
        (
            'models: {m: {gguf: "a{b}.gguf"}}',
            "models.m.gguf = a{b}.gguf: a path with '{' can't be used here: "
            "rename it, or link to it under another name",
        ),
        (
            "languages: {mid: []}\nsteering: {chosen_on: [mid]}",
            "steering.chosen_on: there is no mid-resource language under languages.mid",
        ),
        ("run: a\ngate: {rank: 1}\nrun: b", "not valid YAML at line 3: run is already set at line 1"),
        ("gate: {rank: 1, draws: 1, rank: 2}", "not valid YAML at line 1: rank is already set at line 1"),
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


def test_a_folder_that_lacks_a_file_of_casts_is_named_where_it_is_read(tmp_path: Path) -> None:
    path, folder = tmp_path / "my.yaml", tmp_path / "cast"
    folder.mkdir()
    for name in ("alpaca.json", "condition_harmful.json"):
        (folder / name).write_text("{}")
    path.write_text(f"baselines: {{methods: [cast-released], cast: {{released: {{folder: {folder}}}}}}}")
    with pytest.raises(PolygateError, match=r"released\.folder = .*: there is no behavior_refusal\.json in it, in"):
        load_file(path)
    path.write_text(f"baselines: {{methods: [cast], cast: {{released: {{folder: {folder}}}}}}}")
    assert load_file(path).baselines.arms() == ["cast", "cast-b32"]


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


def test_a_value_of_the_command_line_is_not_laid_to_a_file_that_says_another(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("run: tiny\ngate: {rank: 2, ranks: [1, 2], draws: 0}\n")
    gate = {"rank": 2, "ranks": [1, 2], "draws": 0}
    with pytest.raises(PolygateError) as caught:
        load({"run": 20261128, "gate": {**gate, "draws": 1}}, [path])
    assert str(caught.value) == f"--config: {RUN_AS_A_NUMBER}"
    with pytest.raises(PolygateError, match=f"^{path}: gate.draws = 0"):
        load({"run": "other", "gate": gate}, [path])
    with pytest.raises(PolygateError, match=f"^{path} and --config: pivot 'xx' must be"):
        load({"run": "tiny", "gate": {**gate, "draws": 1}, "pivot": "xx"}, [path])


def test_aliases_and_merged_keys_are_no_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("models:\n  a: &a {organism: llama, seed: 1}\n  b: {<<: *a, seed: 2}\n  c: *a\n")
    assert {name: model.seed for name, model in load_file(path).models.items()} == {"a": 1, "b": 2, "c": 1}


def folder_of(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    "config", [{"num_hidden_layers": 6}, {"text_config": {"num_hidden_layers": 6}}, {"n_layer": 6}]
)
def test_layers_beyond_a_folders_config_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    model = {"folder": str(folder_of(tmp_path / "model", config))}
    assert load({"models": {"m": {**model, "layer": 5}}}).models["m"].layer == 5
    with pytest.raises(PolygateError, match=r"models\.m\.layer = 6: model m has 6 decoder blocks: the last is 5"):
        load({"models": {"m": {**model, "layer": 6}}})
    with pytest.raises(PolygateError, match=r"steering\.layers\.1 = 9: model m has 6 decoder blocks"):
        load({"models": {"m": model}, "steering": {"layers": [2, 9]}})


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match=r"models\.m\.folder = .*there is no config\.json in it"):
        load({"models": {"m": {"folder": str(tmp_path)}}})


def test_a_file_that_no_language_reads_stops_before_any_job(tmp_path: Path) -> None:
    (tmp_path / "SW.csv").touch()
    with pytest.raises(PolygateError, match=r"^settings: prompts\.extra = .*: SW\.csv is not read"):
        load({"prompts": {"extra": str(tmp_path)}})


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


def test_a_language_in_which_no_refusal_is_recognised_stops_the_run(tmp_path: Path) -> None:
    values = {"languages": {"low": ["sw", "ha", "xx"]}}
    with pytest.raises(PolygateError, match=r"recognised in ha, xx: .*judging\.phrases"):
        load(values)
    for name in ("ha", "xx"):
        (tmp_path / f"{name}.yaml").write_text("refusals: [a]\n")
    assert load({**values, "judging": {"phrases": str(tmp_path)}}).languages.low == ["sw", "ha", "xx"]
    (tmp_path / "xx.yaml").write_text("refusals: 3\n")
    with pytest.raises(PolygateError, match="not a list of phrases"):
        load({**values, "judging": {"phrases": str(tmp_path)}})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "the folder can't be read"),
        ("SW.yaml", "SW.yaml is not read: a file of phrases in sw is called sw.yaml"),
        ("sw.yml", "sw.yml is not read: a file of phrases in sw is called sw.yaml"),
    ],
)
def test_phrases_that_would_not_be_read_are_one_line(tmp_path: Path, name: str | None, message: str) -> None:
    folder = tmp_path / "phrases"
    if name is not None:
        folder.mkdir()
        (folder / name).write_text("refusals: [a]\n")
    with pytest.raises(PolygateError, match=rf"judging\.phrases = \S+: {message}"):
        load({"judging": {"phrases": str(folder)}})
