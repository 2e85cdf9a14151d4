"""The report's first page: the three questions, answered per model from `findings.json`, and one figure.

Snakemake shows the text of its `report:` directive (reStructuredText with Jinja) when a report is opened. That text is
made here from `reports/workflow.rst`, the frame, by putting the answers in place of its line ANSWERS.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

from polygate.errors import PolygateError
from polygate.files import read_json, write_text
from polygate.tables import marking
from polygate.tables.rows import Row

QUESTIONS: Mapping[str, str] = {
    "know": "Does it know?",
    "act": "Does it act?",
    "repair": "Can a handful of examples repair it?",
}
MEANING: Mapping[str, str] = {
    "know": "The harmfulness direction of high-resource languages tells harmful from harmless prompts of others, "
    "beyond what their surface, or a small encoder that never learnt to refuse, gives away.",
    "act": "The model, left alone, refuses harmful prompts in words (strict), and only those.",
    "repair": "A gate that saw a few examples of the language routes each prompt: the model acts on what it knows.",
}
MISSING: Mapping[str, str] = {
    "semantic": "This run has no sentence encoder (controls.encoder: none), so the second control is missing: what the "
    "models know, and how their gates do, is compared with the prompts' surface alone.",
}
"""What is said of a control that a run lacks, under the question that needs it."""
TONES: Mapping[str, str] = {"yes": "yes", "no": "no"}
"""Class of a verdict; all others ("in part", "at a price", "can't tell") are in between."""


@dataclass(frozen=True)
class Run:
    """What the first lines say about a run: its name, its models, its languages by tier.

    `as_released`: where it does as the paper's release does, and not as polygate does by itself. `organisms`: what is
    said of models that were taught here.
    """

    name: str
    models: Sequence[str]
    languages: Mapping[str, Sequence[str]]
    as_released: Sequence[str] = ()
    organisms: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """E.g. "Run demo: 3 models, 12 languages (5 high-, 3 mid-, 4 low-resource)."."""
        tiers = ", ".join(f"{len(names)} {tier}-" for tier, names in self.languages.items() if names)
        total = sum(map(len, self.languages.values()))
        models = f"{len(self.models)} model{'s' if len(self.models) != 1 else ''}"
        return f"Run {self.name}: {models}, {total} language{'s' if total != 1 else ''} ({tiers}resource)."


def write(
    findings: Path | str,
    figure: Path | str,
    frame: Path | str,
    output: Path | str,
    *,
    run: Run,
    translation: Path | str | None = None,
) -> None:
    """`findings.json`, the figure (SVG) and `reports/workflow.rst` → the text of the first page.

    `translation.csv`, where there is one, names the languages whose translations are below the thresholds.
    Raises `PolygateError` when the frame lacks one of its places.
    """
    found = read_json(findings)
    models = found.get("order") or sorted(found["models"])
    text = Path(frame).read_text(encoding="utf-8")
    for place, html in (
        ("HEADING", [*_heading(run), *(_translated(Path(translation)) if translation else [])]),
        ("ANSWERS", _answers(found, models)),
        ("FIGURE", _figure(Path(figure).read_bytes(), _alternative(found, models))),
    ):
        text = _put(text, place, html, frame)
    write_text(output, text)


def _put(text: str, place: str, html: Sequence[str], frame: Path | str) -> str:
    """`html` in place of the one line that holds nothing but `place`, with its indentation."""
    found = re.findall(rf"^( *){place}$", text, flags=re.MULTILINE)
    if len(found) != 1:
        raise PolygateError(f"the line {place} must stand in it once, not {len(found)} times", where=frame)
    lines = "\n".join(found[0] + line for line in html)
    return re.sub(rf"^ *{place}$", lambda _: lines, text, flags=re.MULTILINE)


def _heading(run: Run) -> list[str]:
    return [
        '<h1 class="polygate-title">Does it know, does it act, can a handful of examples repair it?</h1>',
        f'<p class="polygate-run">{_text(run.sentence)}</p>',
        *(f'<p class="polygate-run">{_text(line)}</p>' for line in run.organisms),
        *(f'<p class="polygate-run">As the paper\'s release does: {_text(line)}.</p>' for line in run.as_released),
    ]


def _translated(translation: Path) -> list[str]:
    """A line that names the languages below the thresholds, nothing where all translations pass."""
    missed = marking.missed(translation)
    if not missed:
        return []
    told = "; ".join(f"{language} ({', '.join(map(_missed, rows))})" for language, rows in missed.items())
    return [
        f'<p class="polygate-missing">{_text(f"Translations below the thresholds: {told}.")} Whatever is said of '
        "these languages may be said of their translations: they are marked in every table.</p>"
    ]


def _missed(row: Row) -> str:
    """E.g. "chrf of harmful prompts 38.2 where 45 is asked"."""
    estimate, threshold = (float(row[name]) for name in ("estimate", "threshold"))
    return f"{row['metric']} of {row['subset']} prompts {estimate:.3g} where {threshold:g} is asked"


def _answers(found: Mapping[str, Any], models: Sequence[str]) -> list[str]:
    """HTML without blank lines, so that it stays part of one raw block."""
    lines = []
    for question, title in QUESTIONS.items():
        lines.append(f'<section class="polygate-question" data-question="{question}">')
        lines.append(f'<h2>{_text(title)}</h2><p class="polygate-meaning">{_text(MEANING[question])}</p>')
        if question == "know":
            lines += [f'<p class="polygate-missing">{_text(MISSING[name])}</p>' for name in _missing(found)]
        lines += [_answer(model, found["models"][model][question]) for model in models]
        lines.append("</section>")
    return lines


def _missing(found: Mapping[str, Any]) -> Sequence[str]:
    missing: Sequence[str] = found.get("missing_controls", [])
    return missing


def _figure(svg: bytes, alternative: str) -> list[str]:
    # docutils refuses lines of more than 10,000 characters; browsers ignore line breaks within a data URI.
    data = wrap(base64.b64encode(svg).decode("ascii"), 4000)
    return [
        '<figure class="polygate-figure"><img src="data:image/svg+xml;base64,',
        *data,
        f'" alt="{_text(alternative)}"/>',
        "<figcaption>Means over the languages of a tier; the thin lines are intervals, often smaller than the mark.",
        "</figcaption></figure>",
    ]


def _answer(model: str, answer: Mapping[str, Any]) -> str:
    """A line to be read at a glance; the whole answer, with its intervals, unfolds from it."""
    verdict = str(answer.get("answer", ""))
    badge = f'<span class="polygate-verdict {TONES.get(verdict, "between")}">{_text(verdict)}</span>' if verdict else ""
    short = str(answer.get("short", ""))
    return (
        f'<details class="polygate-answer" data-model="{_text(model)}"><summary><strong>{_text(model)}</strong> '
        f"{badge} {_text(short[:1].upper() + short[1:])}.</summary><p>{_text(answer['sentence'])}</p></details>"
    )


def _alternative(found: Mapping[str, Any], models: Sequence[str]) -> str:
    return " ".join(str(found["models"][model].get("summary", "")) for model in models)


def _text(text: str) -> str:
    """Escaped for HTML, and for Jinja, which reads the page once more."""
    return escape(" ".join(str(text).split())).replace("{", "&#123;").replace("}", "&#125;")
