"""What is generated from the settings says what the settings say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from polygate.settings import document
from polygate.settings.check import setting_paths
from polygate.settings.types import Settings, paper


def test_generated_files_are_in_step_with_the_code() -> None:
    difference = document.drift()
    assert not difference, f"run `make docs`:\n{difference}"


def test_drift_is_shown_as_a_diff(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in document.documents().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("rank: 10", "rank: 9"))
    difference = document.drift(tmp_path)
    assert "-  rank: 9" in difference
    assert "+  rank: 10" in difference
    monkeypatch.setattr(document, "drift", lambda: difference)
    assert document.main(["--check"]) == 1
    assert "+  rank: 10" in capsys.readouterr().out


def test_the_schema_describes_every_setting_and_refuses_unknown_ones() -> None:
    schema = document.schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert json.loads(document.schema_text()) == schema


def test_the_configuration_file_holds_every_setting_with_its_meaning() -> None:
    text = document.yaml_text()
    content = yaml.safe_load(text)
    for path in setting_paths():
        if path.startswith(("models.", "datasets.", "judging.apis.", "judging.guards.")):
            assert re.search(rf"^ *# +{path.rpartition('.')[2]}: ", text, re.MULTILINE)
            continue
        here = content
        for part in path.split("."):
            assert part in here, path
            here = here[part]
    assert Settings.model_validate(content) == paper()


def test_every_setting_has_a_row_and_a_meaning_in_the_readme() -> None:
    rows = {
        cells[1].strip("` "): cells for line in document.readme_text().splitlines() if (cells := line.split("|"))[1:]
    }
    for path in setting_paths():
        assert path in rows
        assert rows[path][2].strip(), f"{path} has no type"
        assert rows[path][-2].strip(), f"{path} has no meaning"


@pytest.mark.parametrize(
    "value", ["no", "yes", "on", "null", "1e3", "0e9e39", "a b", "x: y", "en", "Qwen/Qwen2.5-7B", ""]
)
def test_a_word_is_quoted_where_yaml_would_read_something_else(value: str) -> None:
    assert yaml.safe_load(document._inline(value)) == value if value else True
    assert yaml.safe_load(f"[{document._inline(value)}]") == [value]
