"""The paper's published numbers, and what a run measured beside them.

Source of every number: Aziz, Hanif, Koto, "Low-Resource Safety Failures Are Action Failures, Not Representation
Failures", 2026, arXiv 2606.01196: its abstract, its figures and the configurations of its public release; numbers read
off curves are good to ± .01. Rates and F1 are kept here as fractions, as in the tables.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from polygate.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "arXiv 2606.01196"
MODELS: Mapping[str, tuple[str, ...]] = {
    "Qwen2.5-7B-Instruct": ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    "gemma-2-9b-it": ("gemma-2-9b", "google/gemma-2-9b-it"),
    "Llama-3.1-8B-Instruct": ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
}
"""The paper's models: how it names them → our names for them, hub ids included."""
ALL_THREE = "mean of the three models"

Quantity = Literal["refusal", "auc", "selectivity", "f1"]


@dataclass(frozen=True)
class Published:
    """One published number and what it is of.

    `model` is a key of `MODELS`, or `ALL_THREE`; `language` is empty for a mean over the tier; `arm` and `budget` say
    which steering; `bound` is "≥" where the paper gives a lower bound alone.
    """

    section: str
    quantity: Quantity
    model: str
    tier: str
    language: str
    value: float
    subset: str = ""
    arm: str = "none"
    budget: int | None = None
    bound: str = ""


def _auc() -> Iterator[Published]:
    values = {
        "mid": {
            "ar": (0.99, 1.00, 0.98),
            "ko": (0.99, 1.00, 0.97),
            "th": (0.99, 1.00, 0.96),
            "el": (0.99, 1.00, 0.98),
            "he": (0.99, 1.00, 0.98),
            "hi": (0.98, 1.00, 0.99),
            "fa": (0.99, 1.00, 0.98),
        },
        "low": {
            "sw": (0.93, 1.00, 0.94),
            "am": (0.84, 0.96, 0.80),
            "my": (0.91, 0.96, 0.82),
            "km": (0.93, 0.98, 0.83),
            "si": (0.86, 0.97, 0.90),
            "yo": (0.92, 0.95, 0.88),
        },
    }
    section = "AUC of v_HRL"
    for language in ("en", "de", "fr", "es", "it", "nl", "pl", "ru", "zh", "ja"):
        for model in MODELS:
            exact = language == "ja" and model.startswith("Llama")
            value, bound = (0.96, "") if exact else (0.99, "≥")
            yield Published(section, "auc", model, "high", language, value, bound=bound)
    for tier, languages in values.items():
        for language, of_models in languages.items():
            for model, value in zip(MODELS, of_models, strict=True):
                yield Published(section, "auc", model, tier, language, value)


def _refusal() -> Iterator[Published]:
    section = "Refusal without steering, by tier"
    for tier, harmful, harmless in (("high", 0.879, 0.011), ("mid", 0.789, 0.017), ("low", 0.439, 0.098)):
        yield Published(section, "refusal", ALL_THREE, tier, "", harmful, "harmful")
        yield Published(section, "refusal", ALL_THREE, tier, "", harmless, "harmless")
    section = "Harmful prompts refused without steering"
    rates: dict[str, tuple[float | None, ...]] = {
        "sw": (0.23, None, 0.39),
        "am": (0.04, 0.73, 0.10),
        "my": (0.30, 0.55, 0.40),
        "km": (0.31, 0.74, 0.45),
        "si": (0.41, 0.67, 0.41),
        "yo": (0.44, 0.67, 0.21),
    }
    for language, of_models in rates.items():
        for model, rate in zip(MODELS, of_models, strict=True):
            if rate is not None:
                yield Published(section, "refusal", model, "low", language, rate, "harmful")


def _gates() -> Iterator[Published]:
    section = "F1 of the rank-10 gate in low-resource languages"
    curves = {0: (0.80, 0.90, 0.16), 1: (0.75, 0.84, 0.77), 64: (0.84, 0.92, 0.82)}
    for budget, of_models in curves.items():
        for model, value in zip(MODELS, of_models, strict=True):
            yield Published(section, "f1", model, "low", "", value, budget=budget)


PUBLISHED: tuple[Published, ...] = (
    *_refusal(),
    *_auc(),
    *_gates(),
    Published(
        "Mean selectivity in low-resource languages", "selectivity", ALL_THREE, "low", "", 0.545, "", "routed", 32
    ),
)
"""Everything that this workflow measures and the paper prints."""


@dataclass(frozen=True)
class Measured:
    """An estimate of this run with its interval (NaN where there is none)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Tables:
    """The tables that published numbers are compared with, as `figures.reading.read_table` gives them."""

    refusal: pd.DataFrame
    selectivity: pd.DataFrame
    separability: pd.DataFrame
    gates: pd.DataFrame
    choices: pd.DataFrame


def names_in_run(models: Mapping[str, str]) -> dict[str, str]:
    """The paper's models → their names in this run, found by name or by hub id (`models`: name → hub id or "")."""
    found = {}
    for paper, ours in MODELS.items():
        for name, hub in models.items():
            if name in ours or hub in ours:
                found[paper] = name
    return found


def measure(published: Published, tables: Tables, names: Mapping[str, str]) -> Measured | None:
    """What this run measured of the same thing, None where it measured no such thing.

    A mean over the three models needs all three; its bounds are the means of their bounds, which is wide enough however
    much the models agree on prompts.
    """
    if published.model != ALL_THREE:
        name = names.get(published.model)
        return None if name is None else _one(published, tables, name)
    each = [_one(published, tables, names[model]) for model in MODELS if model in names]
    whole = [one for one in each if one is not None]
    if len(whole) < len(MODELS):
        return None
    count = len(whole)
    return Measured(
        sum(one.estimate for one in whole) / count,
        sum(one.low for one in whole) / count,
        sum(one.high for one in whole) / count,
    )


def _one(published: Published, tables: Tables, model: str) -> Measured | None:
    from polygate.figures.reading import at_chosen_layer

    frame: pd.DataFrame = {
        "refusal": tables.refusal,
        "selectivity": tables.selectivity,
        "auc": tables.separability,
        "f1": tables.gates,
    }[published.quantity]
    rows = frame[
        (frame["model"] == model) & (frame["tier"] == published.tier) & (frame["language"] == published.language)
    ]
    if published.quantity == "auc":
        rows = rows[(rows["scorer"] == "v_hrl") & (rows["prompts"] == "all") & (rows["metric"] == "auc")]
        rows = at_chosen_layer(rows, tables.choices)
    elif published.quantity == "f1":
        rows = rows[(rows["metric"] == "f1") & (rows["scorer"] == "gate") & (rows["rank"] == 10) & rows["draw"].isna()]
        rows = rows[rows["budget"] == published.budget]
    else:
        rows = rows[rows["arm"] == published.arm]
        if published.budget is not None:
            rows = rows[rows["budget"] == published.budget]
        if published.quantity == "refusal":
            rows = rows[(rows["outcome"] == "refused") & (rows["subset"] == published.subset)]
    if len(rows) != 1:
        return None
    row = rows.iloc[0]
    return Measured(float(row["estimate"]), float(row["low"]), float(row["high"]))


COLUMNS = (
    *("section", "model", "tier", "language", "subset", "arm", "budget"),
    *("bound", "published", "measured", "low", "high", "inside", "source"),
)


def beside(tables: Tables, models: Mapping[str, str]) -> list[dict[str, str]]:
    """Every published number with what this run measured, as text; `inside` says whether the interval holds it."""
    names = names_in_run(models)
    rows = []
    for number in PUBLISHED:
        found = measure(number, tables, names)
        row = {
            "section": number.section,
            "model": number.model,
            "tier": number.tier,
            "language": number.language,
            "subset": number.subset,
            "arm": number.arm if number.quantity in ("refusal", "selectivity") else "",
            "budget": "" if number.budget is None else str(number.budget),
            "bound": number.bound,
            "published": f"{number.value:.3f}" if round(number.value, 2) != number.value else f"{number.value:.2f}",
            "source": SOURCE,
        }
        if found is not None:
            held = found.high >= number.value and (bool(number.bound) or found.low <= number.value)
            row |= {"measured": f"{found.estimate:.3f}", "low": f"{found.low:.3f}", "high": f"{found.high:.3f}"}
            row["inside"] = "true" if held else "false"
        rows.append({name: row.get(name, "") for name in COLUMNS})
    return rows


def write(
    *,
    refusal: Path | str,
    selectivity: Path | str,
    separability: Path | str,
    gates: Path | str,
    choices: Path | str,
    models: Mapping[str, str],
    data: Path | str,
    page: Path | str,
) -> None:
    """The tables of a run → `data` (CSV) and `page` (HTML): measured beside published.

    `models`: name in the settings → hub id, "" where the model has none.
    """
    from polygate.figures.reading import read_table

    common = ("model", "tier", "language", "estimate", "low", "high")
    tables = Tables(
        read_table(refusal, (*common, "arm", "budget", "subset", "outcome")),
        read_table(selectivity, (*common, "arm", "budget")),
        read_table(separability, (*common, "layer", "scorer", "prompts", "metric")),
        read_table(gates, (*common, "rank", "budget", "draw", "metric", "scorer")),
        read_table(choices, ("model", "what", "value")),
    )
    rows = beside(tables, models)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(data, text.getvalue())
    write_text(page, _page(rows, list(models)))


def _page(rows: Sequence[Mapping[str, str]], models: Sequence[str]) -> str:
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    none = not any(row["measured"] for row in rows)
    note = (
        f"This run measured {', '.join(models)}, none of the paper's models: the published numbers stand here for "
        "context only."
        if none
        else "Where this run measured the same thing, its estimate and interval stand beside it; a tick says that the "
        "interval holds the published number."
    )
    body = []
    for section in dict.fromkeys(row["section"] for row in rows):
        body.append(f'<tr class="section"><th colspan="4" scope="rowgroup">{escape(section)}</th></tr>')
        body += [_row(row) for row in rows if row["section"] == section]
    return template.replace("<!--NOTE-->", escape(note)).replace("<!--ROWS-->", "\n".join(body))


def _row(row: Mapping[str, str]) -> str:
    where = row["language"] or f"{row['tier']}-resource"
    parts = [where, row["model"], row["subset"]]
    if row["budget"]:
        parts.append(f"{row['budget']} examples per class")
    measured = f"{row['measured']} [{row['low']}, {row['high']}]" if row["measured"] else "–"
    mark = {"true": "✓", "false": "differs"}.get(row["inside"], "")
    cells = [", ".join(part for part in parts if part), f"{row['bound']} {row['published']}".strip(), measured, mark]
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
