"""Judges beside the rules (a guard, a paid one, people) and translations given back, through their rules."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import Checkout
from random_models import random_model

from library.judges.endpoint import KEY, serving
from polygate.files import parquet_metadata, read_parquet
from polygate.prompts.sources import polyrefuse
from polygate.settings.types import Limit, Prompts

TARGETS = [f"results/real/tables/{name}.csv" for name in ("agreement", "corrected", "translation")]
LIMIT = {"train": 8, "val": 2, "test": 8}
ARMS = ("none", "addition", "ablation")


def write(path: Path, header: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


def rows(checkout: Checkout, table: str) -> list[dict[str, str]]:
    with (checkout.folder / f"results/real/tables/{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_judges_people_and_back_translations_go_through_their_rules(
    fresh: Callable[[], Checkout], shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = fresh()
    tokenizer = checkout.folder / "tokenizer"
    shutil.copytree(shared_data / "tokenizers/qwen2", tokenizer)
    template = (shared_data / "tokenizers/qwen2/chat_template.jinja").read_text()
    random_model("llama", checkout.folder / "llama", tokenizer, template)
    limited = Prompts(limit=Limit(**LIMIT))
    english, yoruba = (polyrefuse.read(shared_data / "polyrefuse", name, limited) for name in ("en", "yo"))
    source = dict(zip(english.ids, english.texts, strict=True))
    back = [(name, text, source[name].rpartition(" ")[0]) for name, text in zip(yoruba.ids, yoruba.texts, strict=True)]
    write(checkout.folder / "translations/yo.csv", ("prompt_id", "text", "back_translation"), back)
    asked = [yoruba.ids[row] for row in yoruba.select("test", "harmful")]
    said = [(name, "yo", "none", "refused" if i % 2 else "not refused") for i, name in enumerate(asked[:6])]
    write(checkout.folder / "people.csv", ("prompt_id", "language", "arm", "label"), said)
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    with serving() as endpoint:
        guard = {"folder": "llama", "dtype": "float32", "parameters": 1e7, "max_new_tokens": 3, "languages": ["yo"]}
        guard |= {"template": "{prompt} {completion}", "verdict": "refusal: (yes|no)"}
        paid = {"base_url": endpoint.url, "key": "LOOPBACK_KEY", "languages": ["yo"]}
        model = {"folder": "llama", "dtype": "float32", "parameters": 1e7}
        settings: dict[str, object] = {
            "run": "real",
            "languages": {"high": ["en", "de"], "mid": [], "low": ["yo"]},
            "models": {"llama": {**model, "layer": 1, "strength": 1.0, "ablation": "layer"}},
            "prompts": {"folder": str(shared_data / "polyrefuse"), "limit": LIMIT},
            "controls": {"encoder": "none"},
            "gate": {"rank": 1, "ranks": [1], "budgets": [0], "draws": 1},
            "generation": {"max_new_tokens": 4},
            "judging": {
                "judges": ["rules", "guard", "paid"],
                "guards": {"guard": guard},
                "apis": {"paid": paid},
                "labels": "people.csv",
            },
            "translation": {"checked": {"yo": None}, "files": "translations"},
            "statistics": {"resamples": 100},
        }
        name = checkout.configure(settings)
        checkout.snakemake(*TARGETS, "--configfile", name)
        calls = sum(endpoint.calls.values())
        # What was paid for stays paid, however often it is judged.
        checkout.snakemake(*TARGETS, "--forcerun", "judge_paid", "--configfile", name)
        assert sum(endpoint.calls.values()) == calls > 0
    folder = checkout.folder / "results/real/llama/judgements"
    outcomes = {}
    for judge in ("rules", "guard", "paid"):
        tables = [read_parquet(folder / judge / arm / "polyrefuse/yo.parquet") for arm in ARMS]
        outcomes[judge] = {one for table in tables for one in table["outcome"].to_pylist()}
        who = {parquet_metadata(table).get("asked", "") for table in tables}
        assert len(who) == 1
        assert bool(who.pop()) == (judge != "rules")
    # A guard with random weights says no verdict; the endpoint says "no refusal" of what holds no "sorry".
    assert outcomes["guard"] <= {"unparsed", "garbled"}
    assert "unparsed" not in outcomes["paid"]
    agreement = rows(checkout, "agreement")
    pairs = {(row["judge"], row["against"]) for row in agreement}
    assert pairs >= {("rules", "guard"), ("rules", "paid"), ("rules", "people"), ("paid", "people")}
    people = [row for row in agreement if (row["against"], row["language"], row["measure"]) == ("people", "yo", "both")]
    assert {(row["judge"], row["n"]) for row in people} >= {("rules", "6"), ("paid", "6")}
    corrected = rows(checkout, "corrected")
    assert {(row["judge"], row["labelled"]) for row in corrected} >= {("rules", "6"), ("paid", "6")}
    translation = [row for row in rows(checkout, "translation") if row["language"] == "yo" and row["metric"] == "bleu"]
    assert translation
    assert all(0 < float(row["estimate"]) < 100 for row in translation)
