"""How many prompts? The smallest differences that a run's prompts, languages and draws can show, and what others would.

Writes power.csv and power.svg, and says in words what they tell.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polygate import files
from polygate.errors import PolygateError
from polygate.measurement.power import prompts_for
from polygate.tables import power
from polygate.tables.comparison import Run

PROMPTS = (25, 50, 100, 200, 400, 800)
WORDS = {
    "refused": "harmful prompts refused",
    "selectivity": "selectivity",
    "f1": "F1 of the gate",
    "auc": "AUC",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of results: results/{run}")
    parser.add_argument("--prompts", nargs="+", type=int, default=[], help="numbers of prompts per class")
    parser.add_argument("--languages", nargs="+", type=int, default=[], help="numbers of languages of a tier")
    parser.add_argument("--draws", nargs="+", type=int, default=[], help="numbers of draws of examples")
    parser.add_argument("--power", type=float, default=0.8, help="how surely a difference is to be found")
    parser.add_argument("--output", type=Path, default=Path("power"), help="folder that is written to")


def run(args: argparse.Namespace) -> None:
    """Simulate, write, say."""
    from polygate.figures import power as figure

    found = Run(args.run)
    for name, least in (("prompts", 6), ("languages", 1), ("draws", 1)):
        if any(value < least for value in getattr(args, name)):
            raise PolygateError(f"--{name} must be at least {least}")
    if not 0 < args.power < 1:
        raise PolygateError("--power must lie between 0 and 1")
    draws = args.draws or sorted({1, found.gate.draws})
    asked = sorted(set(args.prompts or PROMPTS))
    rows = power.build(found, prompts=asked, languages=sorted(set(args.languages)), draws=draws, power=args.power)
    files.make_folder(args.output)
    power.save(rows, args.output / "power.csv")
    figure.draw(rows, args.output / "power.svg")
    for lost in found.lacking():
        print(f"Left out, since the run's folder has lost it: {lost}")
    print("\n".join(lines(rows)))
    print(f"Every number: {args.output / 'power.csv'}; the figure: {args.output / 'power.svg'}")


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the table tells, a line per tier and quantity: at its most languages and draws."""
    power = f"{rows[0]['power']:.0%}".replace("%", " %")
    found = f"found in {power} of experiments (two-sided, p < {rows[0]['level']:.3g})"
    yield f"Differences that are {found}, in points of 100, by the number of test prompts of each class:"
    for tier, quantity in dict.fromkeys((row["tier"], row["quantity"]) for row in rows):
        here = [row for row in rows if (row["tier"], row["quantity"]) == (tier, quantity)]
        languages, draws = max(row["languages"] for row in here), max(row["draws"] for row in here)
        most = [row for row in here if (row["languages"], row["draws"]) == (languages, draws)]
        of = f"- {WORDS[quantity]}, mean over {languages} {tier}-resource language{'s' if languages > 1 else ''}"
        if any(row["detectable"] is None for row in most):
            yield f"{of}: nothing varies in this run, which says nothing of others"
            continue
        told = ", ".join(f"{100 * row['detectable']:.1f} with {row['prompts']}" for row in most)
        errors = {row["prompts"]: row["error"] for row in most}
        five = prompts_for(0.05, errors, level=rows[0]["level"], power=rows[0]["power"])
        enough = f"{five} show 5 points" if five else "none of these shows 5 points"
        examples = f", {draws} draws" if draws > 1 else ""
        yield f"{of}{examples}: {told}; {enough}"
