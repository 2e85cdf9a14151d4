"""Two runs compared: what differs between their settings, then every headline number of what both have.

Writes comparison.csv and comparison.md; the runs are folders `results/{run}`, here or copied from elsewhere.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polygate import files
from polygate.errors import PolygateError
from polygate.tables import comparison
from polygate.tables.cells import ROUTED
from polygate.tables.comparison import Run, shared

HEADINGS = {"auc": "AUC of v_HRL", "f1": "gate F1", "refused": "refused", "selectivity": "selectivity"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folders of results: results/{run}")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="A=B", help="models to pair; those of one name when empty"
    )
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="folder that is written to")


def run(args: argparse.Namespace) -> None:
    """Compare, write, say where."""
    runs = Run(args.runs[0]), Run(args.runs[1])
    models = comparison.pairs(runs, [_pair(text) for text in args.model])
    rows = comparison.build(runs, models)
    if not rows:
        raise PolygateError("the runs share no language, prompt and number", do="compare runs on the same prompts")
    files.make_folder(args.output)
    comparison.save(rows, args.output / "comparison.csv")
    page = "\n".join(lines(runs, models, rows)) + "\n"
    files.write_text(args.output / "comparison.md", page)
    print(page)
    print(f"Every language: {args.output / 'comparison.csv'}")


def _pair(text: str) -> tuple[str, str]:
    first, equals, second = text.partition("=")
    if not equals or not first or not second:
        raise PolygateError(f"--model {text!r} doesn't name two models", do="write it as A=B")
    return first, second


def lines(runs: tuple[Run, Run], models: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The page, as Markdown."""
    names = [run.name for run in runs]
    if names[0] == names[1]:
        names = [str(run.folder) for run in runs]
    level = 1 - runs[0].statistics.confidence
    yield f"# {names[0]} (a) beside {names[1]} (b)"
    yield ""
    yield "## What was done differently"
    yield ""
    lacking = [f"{name} has lost {lost}" for name, run in zip("ab", runs, strict=True) for lost in run.lacking()]
    told = [*lacking, *_unlike(runs, models), *_prompts(runs)]
    yield from (f"- {line}" for line in told or ["nothing that the settings, versions or prompts tell"])
    for model, of_model in itertools.groupby(rows, key=lambda row: row["model"]):
        yield ""
        yield f"## {model}"
        yield ""
        yield "Means over the languages of a tier; b − a with its interval, p corrected over this table (Holm)."
        yield ""
        yield "| | tier | a | b | b − a | p |"
        yield "|---|---|---|---|---|---|"
        every = list(of_model)
        for row in every:
            if row["headline"]:
                yield _row(row, level)
        yield ""
        yield f"Single languages that differ (p < {_short(level)}, each number corrected over its languages):"
        yield ""
        yield from _singles(row for row in every if row["p_holm"] is not None and row["p_holm"] < level)


def _row(row: Mapping[str, Any], level: float) -> str:
    p = row["p_holm"]
    said = "too few prompts" if p is None else f"**{p:.3f}**" if p < level else f"{p:.3f}"
    difference = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"| {_what(row)} | {row['tier']} | {row['a']:.3f} | {row['b']:.3f} | {difference} | {said} |"


def _what(row: Mapping[str, Any]) -> str:
    examples = "example" if row["budget"] == 1 else "examples"
    budget = "" if row["budget"] is None else f" with {row['budget']} {examples}"
    arm = {"": "", "none": ", unsteered"}.get(row["arm"], f", {row['arm']}")
    judge = f" ({row['judge']})" if row["judge"] else ""
    return " ".join(filter(None, [row["subset"], HEADINGS[row["quantity"]] + arm + budget])) + judge


def _singles(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Differences of single languages, a line for each number; those of arms on every prompt are in the table alone."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row["language"] and row["arm"] in ("", "none", ROUTED):
            of = f"{_what(row)} ({row['dataset']})"
            told.setdefault(of, []).append(f"{row['language']} {row['difference']:+.3f}")
    yield from (f"- {what}: {', '.join(languages)}" for what, languages in told.items())
    if not told:
        yield "- none"


def _short(level: float) -> str:
    return f"{level:.4f}".rstrip("0")


def _unlike(runs: tuple[Run, Run], models: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Settings and versions that differ; what one run leaves at its default is named so."""
    flat = [dict(_flat(run.settings)) for run in runs]
    for path in sorted(flat[0].keys() | flat[1].keys()):
        ours, theirs = (found.get(path, "default") for found in flat)
        if ours != theirs and path != "run":
            yield f"`{path}`: {ours} → {theirs}"
    versions = [run.versions(model) for run, model in zip(runs, models[0], strict=True)]
    for name in sorted(versions[0].keys() | versions[1].keys()):
        ours, theirs = (found.get(name, "absent") for found in versions)
        if ours != theirs:
            yield f"{name} {ours} → {theirs}"
    judges = [{judge for judge, _, _ in run.judged(model)} for run, model in zip(runs, models[0], strict=True)]
    if judges[0] != judges[1]:
        yield f"judges: {', '.join(sorted(judges[0]))} → {', '.join(sorted(judges[1]))}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _prompts(runs: tuple[Run, Run]) -> Iterator[str]:
    """Languages whose prompts can't be paired, all or some."""
    both = [language for language in runs[0].languages.all() if language in runs[1].languages.all()]
    for language in both:
        found = shared(runs, runs[0].main, language)
        if found is None:
            yield f"{language}: prompts of one run alone, nothing to pair"
        elif found.left_out:
            yield f"{language}: {len(found.test.ids)} prompts are shared, {found.left_out} are not"
