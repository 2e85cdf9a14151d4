"""paper_vs_measured.csv: every published number with what this run measured of the same thing, and a page of it.

`inside` says whether the run's interval holds the published number within its precision (or a value that its bound
allows: `relation` "at least", "at most"). `measured` is empty where the run has no such table, model, language or
budget, `inside` also where the estimate has no interval. `unlike` names what keeps the two from being comparable:
another judge, truncation, prompts, languages or weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from polygate.files import write_text
from polygate.report import measured, published
from polygate.report.comparable import Run
from polygate.report.measured import Measured
from polygate.report.published import RANGES, Published
from polygate.tables.writing import write as write_table

COLUMNS = (
    *("experiment", "quantity", "model", "tier", "language", "arm", "budget", "published", "measured", "low", "high"),
    *("inside", "unlike", "relation", "precision", "dataset", "source_language", "source"),
)


@dataclass(frozen=True)
class Pair:
    """A published number and what a run measured of the same thing, None where it measured no such thing."""

    published: Published
    measured: Measured | None
    unlike: Sequence[str] = ()

    @property
    def inside(self) -> bool | None:
        """Whether the interval holds the number; None without an interval."""
        if self.measured is None or math.isnan(self.measured.low) or math.isnan(self.measured.high):
            return None
        return self.published.within(self.measured.low, self.measured.high)

    def row(self) -> dict[str, object]:
        """The row of the table."""
        number, found = self.published, self.measured
        row: dict[str, object] = {**vars(number.key), "published": number.value, "inside": self.inside}
        row |= {name: getattr(number, name) for name in ("relation", "precision", "source")}
        if found is not None:
            bounds = {"measured": found.estimate, "low": found.low, "high": found.high}
            row |= {name: None if math.isnan(value) else value for name, value in bounds.items()}
            row["unlike"] = ", ".join(self.unlike)
        return row


def build(tables: Mapping[str, str], models: Mapping[str, str], run: Run, table: Path, page: Path) -> None:
    """The tables of a run (name → path) → `table` (CSV) and `page` (HTML).

    `models`: name in the settings → hub id, "" where the model has none; `run` says what is other than in the paper.
    """
    frames, names = measured.read_tables(tables, run.papers_judge), published.names_in_run(models)
    pairs = [
        Pair(number, measured.measure(number.key, frames, names, models), run.unlike(number.key))
        for number in published.read()
    ]
    write_table(table, COLUMNS, [pair.row() for pair in pairs])
    write_text(page, html(pairs, models, run))


def html(pairs: Sequence[Pair], models: Mapping[str, str], run: Run) -> str:
    """The page: what this run measured on top, by experiment; the other published numbers folded below."""
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    parts = {
        "NOTE": escape(_note(pairs, models), quote=False),
        "UNLIKE": "\n".join(_unlike(pairs, run)),
        "MEASURED": "\n".join(_sections([pair for pair in pairs if pair.measured is not None])),
        "OTHERS": "\n".join(_folded([pair for pair in pairs if pair.measured is None])),
    }
    for name, text in parts.items():
        template = template.replace(f"<!--{name}-->", text)
    return template


def _note(pairs: Sequence[Pair], models: Mapping[str, str]) -> str:
    judged = [pair.inside for pair in pairs if pair.inside is not None]
    if not published.names_in_run(models):
        return f"The published numbers are of other models than this run's ({', '.join(models)})."
    found = sum(pair.measured is not None for pair in pairs)
    return (
        f"Of {len(pairs)} published numbers this run measured {found}, {len(judged)} of them with an interval: "
        f"{sum(judged)} lie inside it, {len(judged) - sum(judged)} outside."
    )


def _unlike(pairs: Sequence[Pair], run: Run) -> Iterator[str]:
    """What of this run is other than in the paper, where that touches a number that was measured."""
    touched = {reason for pair in pairs if pair.measured is not None for reason in pair.unlike}
    said = [
        f"<li><b>{reason}</b>: {escape(what, quote=False)}</li>" for reason, what in run.told() if reason in touched
    ]
    if said:
        yield "<p>Where a row says so, the two are not comparable, inside or not:</p><ul>"
        yield from said
        yield "</ul>"


def _by_experiment(pairs: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    for experiment in dict.fromkeys(pair.published.key.experiment for pair in pairs):
        yield experiment, [pair for pair in pairs if pair.published.key.experiment == experiment]


def _sections(pairs: Sequence[Pair]) -> Iterator[str]:
    for experiment, of_it in _by_experiment(pairs):
        held = sum(pair.inside is True for pair in of_it)
        yield f"<section><h2>{escape(_title(experiment))} <small>{held} of {len(of_it)} inside</small></h2>"
        yield '<table><thead><tr><th scope="col">Of what</th><th scope="col">Published</th>'
        yield '<th scope="col">Measured <span>[interval]</span></th><th scope="col" class="drawn">On one scale</th>'
        yield '<th scope="col">Inside?</th></tr></thead>'
        yield from _bodies(of_it, columns=5)
        yield "</table></section>"


def _folded(pairs: Sequence[Pair]) -> Iterator[str]:
    for experiment, of_it in _by_experiment(pairs):
        yield f"<details><summary>{escape(_title(experiment))} <small>{len(of_it)} published</small></summary>"
        yield '<table><thead><tr><th scope="col">Of what</th><th scope="col">Published</th></tr></thead>'
        yield from _bodies(of_it, columns=2)
        yield "</table></details>"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]


def _bodies(pairs: Sequence[Pair], *, columns: int) -> Iterator[str]:
    """A body of rows for every quantity and model of an experiment."""

    quantities = list(dict.fromkeys(pair.published.key.quantity for pair in pairs))
    models = [published.MEAN, published.BEST, *published.MODELS, published.ANY, published.POOLED]

    def of(pair: Pair) -> tuple[int, int]:
        return quantities.index(pair.published.key.quantity), models.index(pair.published.key.model)

    for (quantity, model), found in groupby(sorted(pairs, key=of), of):
        group = list(found)
        arms = {pair.published.key.arm for pair in group} - {"none"}
        name = {"auc": "AUC", "f1": "F1"}.get(quantities[quantity], _title(quantities[quantity]))
        head = ", ".join(part for part in (name, *(arms if len(arms) == 1 else ()), models[model]) if part)
        yield f'<tbody><tr class="group"><th colspan="{columns}" scope="rowgroup">{escape(head)}</th></tr>'
        yield from (_row(pair, with_arm=len(arms) > 1) for pair in group)
        yield "</tbody>"


def _row(pair: Pair, *, with_arm: bool) -> str:
    number, found = pair.published, pair.measured
    cells = [
        f"<td>{escape(_where(number, with_arm=with_arm))}</td>",
        f'<td title="{escape(number.source)}">{escape(_printed(number))}</td>',
    ]
    if found is not None:
        verdict = {True: "inside", False: "outside", None: "no interval"}[pair.inside]
        other = f' <span class="unlike">other {escape(", ".join(pair.unlike))}</span>' if pair.unlike else ""
        bounds = "" if pair.inside is None else f" <span>[{found.low:.3f}, {found.high:.3f}]</span>"
        cells += [
            f"<td>{found.estimate:.{0 if _whole(number) else 3}f}{bounds}</td>",
            f'<td class="drawn">{_drawn(pair)}</td>',
            f'<td class="{verdict.replace(" ", "-")}">{verdict}{other}</td>',
        ]
    return "<tr>" + "".join(cells) + "</tr>"


def _where(number: Published, *, with_arm: bool) -> str:
    key = number.key
    place = key.language or (f"{key.tier}-resource" if key.tier else "")
    if key.source_language:
        place = f"{key.source_language} → {place}"
    examples = "" if key.budget is None else f"b\u00a0=\u00a0{key.budget}"
    arm = key.arm if with_arm else ""
    return ", ".join(part for part in (place, key.dataset, arm, examples) if part)


def _printed(number: Published) -> str:
    """The number with the digits that its precision is worth."""
    digits = 0 if _whole(number) else 3 if number.precision == 0.0005 else 2
    text = f"{number.value:.{digits}f}"
    return {"at least": "≥ ", "at most": "≤ "}.get(number.relation, "") + text


def _whole(number: Published) -> bool:
    return RANGES[number.key.quantity] == published.COUNT


def _drawn(pair: Pair) -> str:
    """Interval, estimate (dot) and published number (upright stroke) on the quantity's whole range."""
    low, high = RANGES[pair.published.key.quantity]
    found = pair.measured
    if found is None or pair.inside is None or math.isinf(high):
        return ""
    at = [
        2 + 116 * (value - low) / (high - low)
        for value in (found.low, found.high, found.estimate, pair.published.value)
    ]
    return (
        '<svg viewBox="0 0 120 14" width="120" height="14" aria-hidden="true"><path class="scale" d="M2 7H118"/>'
        f'<path class="interval" d="M{at[0]:.1f} 7H{at[1]:.1f}"/><circle cx="{at[2]:.1f}" cy="7" r="2.5"/>'
        f'<path class="published" d="M{at[3]:.1f} 1V13"/></svg>'
    )
