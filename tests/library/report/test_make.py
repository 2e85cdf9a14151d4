"""The nested call builds a report, and refuses what Snakemake itself lets pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from polygate.errors import PolygateError
from polygate.report import make

SNAKEFILE = """
report: "opening.rst"

rule table:
    output:
        report("table.csv", caption="caption.rst", category="Tables", labels={"table": "one"}),
    shell:
        "echo a,b > {output}"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> make.Nested:
    """A finished workflow of one rule."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "opening.rst").write_text("The first page.\n")
    (folder / "caption.rst").write_text("A table of {{ snakemake.config.word }}.\n")
    config = {"word": "wonders", "folder": str(folder)}
    (folder / "config.json").write_text(json.dumps(config))
    nested = make.Nested(folder / "Snakefile", config, folder)
    command = [sys.executable, "-m", "snakemake", "table.csv", "--cores", "1", "--quiet", "all"]
    subprocess.run([*command, "--configfile", "config.json"], cwd=folder, check=True, capture_output=True)
    (folder / "style.css").write_text(".polygate { color: red }")
    return nested


def build(nested: make.Nested, *targets: str) -> Path:
    folder = nested.directory
    output = folder / "out" / "report.html"
    output.unlink(missing_ok=True)
    make.build(nested, targets, folder / "style.css", output, title="the title", log=folder / "report.log")
    return output


def test_the_report_holds_captions_style_and_title(finished: make.Nested) -> None:
    report = build(finished, "table.csv")
    page = report.read_text(encoding="utf-8")
    assert "<title>the title</title>" in page
    assert "A table of wonders." in page
    assert ".polygate { color: red }" in page
    assert list(report.parent.iterdir()) == [report]
    assert str(finished.directory) not in page


def test_the_configuration_that_is_published_names_no_path_of_this_machine(tmp_path: Path) -> None:
    config = {"run": "a", "models": {"m": {"folder": f"{tmp_path}/model", "layer": 3}}, "list": ["mine", str(tmp_path)]}
    make.write_config(tmp_path / "config.yaml", config)
    text = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    models = {"m": {"folder": "…/model", "layer": 3}}
    assert yaml.safe_load(text) == {"run": "a", "models": models, "list": ["mine", f"…/{tmp_path.name}"]}


def test_a_broken_caption_is_refused_and_leaves_no_report(finished: make.Nested) -> None:
    caption = finished.directory / "caption.rst"
    sound = caption.read_text()
    caption.write_text("Broken :nosuchrole:`text`.\n")
    try:
        with pytest.raises(PolygateError, match=r"a text of the report is broken .*nosuchrole"):
            build(finished, "table.csv")
    finally:
        caption.write_text(sound)
    assert list((finished.directory / "out").iterdir()) == []


def test_a_target_that_cannot_be_made_is_one_line(finished: make.Nested) -> None:
    with pytest.raises(PolygateError, match=r"the report can't be built \(.*\), in .*report\.log"):
        build(finished, "absent.csv")
