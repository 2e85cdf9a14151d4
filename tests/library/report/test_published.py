"""Measured beside published: the same thing is compared with the same thing, or with nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from polygate.report import published

HUBS = {"q": "Qwen/Qwen2.5-7B-Instruct", "g": "google/gemma-2-9b-it", "l": "meta-llama/Llama-3.1-8B-Instruct"}
Make = Callable[[str], published.Tables]


def row(**what: Any) -> dict[str, Any]:
    return {"tier": "low", "language": "", "draw": float("nan"), "budget": float("nan"), **what}


def bounds(estimate: float, width: float = 0.02) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - width, "high": estimate + width}


@pytest.fixture
def tables() -> published.Tables:
    """A run of the paper's models that measured four things, among rows that must not be taken for them."""
    refusal, separability, gates = [], [], []
    for name, shift in (("q", -0.1), ("g", 0.0), ("l", 0.1)):
        common = {"arm": "none", "subset": "harmful", "outcome": "refused"}
        refusal.append(row(model=name, **common, **bounds(0.439 + shift)))
        refusal.append(row(model=name, **common | {"outcome": "complied"}, **bounds(0.9)))
        refusal.append(row(model=name, **common | {"arm": "routed", "budget": 16.0}, **bounds(0.9)))
        for layer in (0, 1):
            seen = {"scorer": "v_hrl", "prompts": "all", "metric": "auc", "layer": layer, "language": "am"}
            separability.append(row(model=name, **seen, **bounds(0.84 if layer else 0.1)))
        for rank, draw in ((10, float("nan")), (8, float("nan")), (10, 0.0)):
            what = {"metric": "f1", "scorer": "gate", "rank": rank, "draw": draw, "budget": 0.0}
            gates.append(row(model=name, **what, **bounds(0.8 if rank == 10 and draw != draw else 0.1)))
    choices = [{"model": name, "what": "layer", "value": "1"} for name in HUBS]
    selectivity = [row(model="q", arm="routed", budget=16.0, **bounds(0.5))]
    return published.Tables(*map(pd.DataFrame, (refusal, selectivity, separability, gates, choices)))


def find(rows: list[dict[str, str]], **what: str) -> dict[str, str]:
    (found,) = [row for row in rows if all(row[name] == value for name, value in what.items())]
    return found


def test_models_are_found_by_hub_id_or_by_name() -> None:
    by_hub = published.names_in_run(HUBS)
    assert by_hub == dict(zip(published.MODELS, HUBS, strict=True))
    assert published.names_in_run({"gemma-2-9b": "", "other": "some/other"}) == {"gemma-2-9b-it": "gemma-2-9b"}


def test_the_chosen_layer_the_routing_rank_and_the_mean_over_draws_are_compared(tables: published.Tables) -> None:
    rows = published.beside(tables, HUBS)
    auc = find(rows, section="AUC of v_HRL", model="Qwen2.5-7B-Instruct", language="am")
    assert (auc["published"], auc["measured"], auc["inside"]) == ("0.84", "0.840", "true")
    other = find(rows, section="AUC of v_HRL", model="gemma-2-9b-it", language="am")
    assert (other["published"], other["measured"], other["inside"]) == ("0.96", "0.840", "false")
    gate = find(rows, section="F1 of the rank-10 gate in low-resource languages", model="gemma-2-9b-it", budget="0")
    assert (gate["published"], gate["measured"]) == ("0.90", "0.800")


def test_a_mean_over_the_three_models_needs_all_three(tables: published.Tables) -> None:
    what = {"section": "Refusal without steering, by tier", "tier": "low", "subset": "harmful"}
    whole = find(published.beside(tables, HUBS), **what)
    assert (whole["measured"], whole["low"], whole["high"], whole["inside"]) == ("0.439", "0.419", "0.459", "true")
    two = {name: hub for name, hub in HUBS.items() if name != "l"}
    assert find(published.beside(tables, two), **what)["measured"] == ""


def test_a_budget_that_the_run_lacks_is_not_replaced_by_another(tables: published.Tables) -> None:
    routed = find(published.beside(tables, HUBS), section="Mean selectivity in low-resource languages")
    assert (routed["budget"], routed["measured"]) == ("32", "")


def test_other_models_are_compared_with_nothing(tables: published.Tables) -> None:
    assert not any(row["measured"] for row in published.beside(tables, {"qwen2": "", "llama": ""}))


def test_a_lower_bound_holds_for_everything_above_it(tables: published.Tables) -> None:
    frame = tables.separability.assign(language="en", tier="high", estimate=0.999, low=0.995, high=1.0)
    changed = published.Tables(tables.refusal, tables.selectivity, frame, tables.gates, tables.choices)
    english = find(published.beside(changed, HUBS), section="AUC of v_HRL", model="gemma-2-9b-it", language="en")
    assert (english["bound"], english["published"], english["inside"]) == ("≥", "0.99", "true")


def test_every_published_number_is_there_once() -> None:
    keys = Counter((n.quantity, n.model, n.tier, n.language, n.subset, n.arm, n.budget) for n in published.PUBLISHED)
    assert max(keys.values()) == 1
    assert Counter(n.quantity for n in published.PUBLISHED) == {"refusal": 23, "auc": 69, "f1": 9, "selectivity": 1}


def test_page_and_table_say_the_same(tables: published.Tables, tmp_path: Path) -> None:
    paths = {}
    for name in ("refusal", "selectivity", "separability", "gates", "choices"):
        paths[name] = tmp_path / f"{name}.csv"
        getattr(tables, name).to_csv(paths[name], index=False)
    published.write(**paths, models=HUBS, data=tmp_path / "published.csv", page=tmp_path / "published.html")
    page = (tmp_path / "published.html").read_text(encoding="utf-8")
    data = pd.read_csv(tmp_path / "published.csv", keep_default_na=False)
    assert page.count("<tr><td>") == len(data)
    assert page.count("✓") == (data["inside"].astype(str).str.lower() == "true").sum() > 0
