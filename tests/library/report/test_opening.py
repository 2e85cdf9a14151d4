"""The first page answers the three questions for every model, and nothing in the answers can break the page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from docutils.core import publish_parts
from jinja2 import Environment

from polygate.errors import PolygateError
from polygate.report import opening
from polygate.settings.types import Settings

QUESTIONS = ("know", "act", "repair")
RUN = opening.Run("demo", ["one", "two"], {"high": ["h1", "h2"], "mid": [], "low": ["l1"]})


def answer(sentence: str) -> dict[str, str]:
    return {"answer": "in part", "short": f"in short: {sentence}", "sentence": sentence}


def findings(sentence: str = "It does, .98 [.97, .99].") -> dict[str, Any]:
    models = {
        model: {
            **{name: answer(f"{model} {name}: {sentence}") for name in QUESTIONS},
            "summary": f"{model}: in short.",
        }
        for model in ("two", "one")
    }
    return {"models": models, "order": ["one", "two"]}


@pytest.fixture
def frame(root: Path) -> Path:
    return root / "reports" / "workflow.rst"


def rendered(folder: Path, frame: Path, found: dict[str, Any], run: opening.Run = RUN) -> str:
    """The page as Snakemake makes it: Jinja, then docutils."""
    (folder / "findings.json").write_text(json.dumps(found))
    (folder / "figure.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'>" + b" " * 30_000 + b"</svg>")
    opening.write(folder / "findings.json", folder / "figure.svg", frame, folder / "opening.rst", run=run)
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((folder / "opening.rst").read_text()).render(categories={}, files=[])
    settings = {"halt_level": 2, "report_level": 2}
    return str(publish_parts(text, writer="html", settings_overrides=settings)["html_body"])


class Paragraphs(HTMLParser):
    """Text of the answers, and names of all elements."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._model = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "details":
            self._model = dict(attrs).get("data-model") or ""
            if self._model:
                self.answers.setdefault(self._model, []).append("")

    def handle_data(self, data: str) -> None:
        if self._model:
            self.answers[self._model][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self._model = ""


def read(page: str) -> Paragraphs:
    parser = Paragraphs()
    parser.feed(page)
    return parser


def test_every_model_answers_every_question_in_the_order_of_the_run(tmp_path: Path, frame: Path) -> None:
    page = read(rendered(tmp_path, frame, findings()))
    assert list(page.answers) == ["one", "two"]
    for model, answers in page.answers.items():
        assert len(answers) == len(QUESTIONS)
        for question, answer in zip(QUESTIONS, answers, strict=True):
            assert f"In short: {model} {question}" in answer
            assert answer.count(f"{model} {question}: It does, .98 [.97, .99].") == 2
    assert page.tags.count("img") == 1


@pytest.mark.parametrize("hostile", ["</script><b>", "{{ 7 * 7 }}", "{% for x in y %}", "`no` _role_: **", "a\n\nb"])
def test_whatever_an_answer_holds_is_shown_as_it_stands(tmp_path: Path, frame: Path, hostile: str) -> None:
    page = read(rendered(tmp_path, frame, findings(hostile)))
    assert " ".join(hostile.split()) in page.answers["one"][0]
    assert "b" not in page.tags
    assert "script" not in page.tags


def test_a_frame_without_a_place_for_the_answers_is_refused(tmp_path: Path, frame: Path) -> None:
    broken = tmp_path / "workflow.rst"
    broken.write_text(frame.read_text().replace("   ANSWERS\n", ""))
    with pytest.raises(PolygateError, match=r"ANSWERS must stand in it once, not 0 times, in .*workflow\.rst"):
        rendered(tmp_path, broken, findings())


def test_the_first_line_counts_models_and_languages() -> None:
    assert RUN.sentence == "Run demo: 2 models, 3 languages (2 high-, 1 low-resource)."


def test_models_that_were_taught_here_are_called_organisms_at_the_top(tmp_path: Path, frame: Path) -> None:
    models = {"real": {"folder": "m"}, "taught": {"folder": "m", "alignment": {}}, "invented": {"organism": "llama"}}
    lines = Settings.model_validate({"models": models, "prompts": {"align": 100}}).organisms()
    assert len(lines) == 2
    page = rendered(tmp_path, frame, findings(), replace(RUN, organisms=lines))
    for line, name, other in zip(lines, ("invented", "taught"), ("nothing", "real weights"), strict=True):
        assert line.startswith(f"Model organisms ({name}) ")
        assert other in line
        assert line.endswith("they test the instrument, not the paper's claim.")
        assert page.count(line.replace("'", "&#x27;")) + page.count(line) == 1
        assert page.index(line[:30]) < page.index("Does it know?</h2>")
    assert "Model organism" not in rendered(tmp_path, frame, findings())
    assert Settings.model_validate({"models": {"real": models["real"]}}).organisms() == []


def test_what_follows_the_release_is_said_at_the_top(tmp_path: Path, frame: Path) -> None:
    (tmp_path / "findings.json").write_text(json.dumps(findings()))
    (tmp_path / "figure.svg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    settings = Settings.model_validate({"models": {"m": {"folder": "m"}}, "gate": {"ties": "harmful"}})
    run = replace(RUN, as_released=settings.as_released())
    opening.write(tmp_path / "findings.json", tmp_path / "figure.svg", frame, tmp_path / "opening.rst", run=run)
    text = (tmp_path / "opening.rst").read_text()
    line = "As the paper's release does: a score at the threshold counts as harmful (gate.ties: harmful)."
    assert text.count(line) == 1
    assert text.index("gate.ties") < text.index("Does it know?")
    assert Settings.model_validate({"models": {"m": {"folder": "m"}}}).as_released() == []
