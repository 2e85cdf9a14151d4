"""The same rules on real PolyRefuse text, with small random-weight models of two of the paper's architectures.

The third, Llama's, is that of the models of test_judges and test_alignment.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout
from random_models import random_encoder, random_model

from polygate.files import read_provenance

LANGUAGES = {"high": ["en", "de"], "mid": ["ar"], "low": ["yo"]}
NAMES = {"en", "de", "ar", "yo"}
MODELS = {"qwen2", "gemma2"}


@pytest.fixture(scope="module")
def finished_real(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Checkout:
    """A run over 4 real languages and 2 architectures."""
    checkout = Checkout.fresh(tmp_path_factory.mktemp("real") / "checkout")
    # The folder is copied into the test's own, which pytest removes; the project holds none of it.
    tokenizer = checkout.folder / "tokenizer"
    shutil.copytree(shared_data / "tokenizers/qwen2", tokenizer)
    template = (shared_data / "tokenizers/qwen2/chat_template.jinja").read_text()
    models: dict[str, Any] = {}
    for architecture in sorted(MODELS):
        random_model(architecture, checkout.folder / architecture, tokenizer, template)
        models[architecture] = {
            "folder": architecture,
            "dtype": "bfloat16" if architecture == "qwen2" else "float32",
            "attention": "eager" if architecture == "gemma2" else "sdpa",
            "parameters": 1e7,
        }
    random_encoder(checkout.folder / "encoder", tokenizer)
    settings = {
        "run": "real",
        "languages": LANGUAGES,
        "models": models,
        "prompts": {"folder": str(shared_data / "polyrefuse"), "limit": {"train": 24, "val": 6, "test": 16}},
        "datasets": {"multijail": {"source": "multijail", "folder": str(shared_data / "multijail"), "limit": 16}},
        "controls": {"encoder": "an/encoder", "folder": "encoder"},
        "baselines": {
            "methods": ["cast-released"],
            "cast": {"released": {"folder": str(shared_data / "cast"), "pairs": 24, "questions": 2, "openings": 6}},
        },
        "gate": {"rank": 2, "ranks": [1, 2], "budgets": [0, 4], "draws": 2},
        "omniguard": {"hidden": [8], "seeds": 1, "draws": 1},
        "steering": {"strengths": [1.0], "scopes": ["layer"], "layers": [1], "prompts": 3},
        "sweeps": {"strengths": [0, 1.0], "prompts": 4},
        "generation": {"max_new_tokens": 4},
        "statistics": {"resamples": 100},
        "report": {"samples": 2},
    }
    checkout.snakemake("--configfile", checkout.configure(settings))
    return checkout


def rows(checkout: Checkout, table: str) -> list[dict[str, str]]:
    with (checkout.folder / "results/real/tables" / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_cell_has_its_numbers(finished_real: Checkout) -> None:
    refusal = rows(finished_real, "refusal")
    cells = {(row["model"], row["language"]) for row in refusal if row["language"]}
    assert cells == {(model, language) for model in MODELS for language in NAMES}
    for row in refusal:
        assert 0 <= float(row["low"]) <= float(row["estimate"]) <= float(row["high"]) <= 1
        assert int(row["n"]) > 0


def test_the_surface_baseline_stands_beside_every_language(finished_real: Checkout) -> None:
    """An untrained model knows nothing, but its surface baselines still separate real prompts: that is the point."""
    found = [r for r in rows(finished_real, "separability") if r["scorer"] == "surface" and r["prompts"] == "all"]
    auc = {row["language"]: float(row["estimate"]) for row in found if row["metric"] == "auc" and row["language"]}
    assert set(auc) == NAMES
    assert min(auc.values()) > 0.55


def test_an_encoder_stands_beside_the_surface_in_every_table(finished_real: Checkout) -> None:
    for table in ("separability", "gates", "decomposition"):
        found = {row["language"] for row in rows(finished_real, table) if row["scorer"] == "semantic"}
        assert found == {"", *NAMES}, table
    assert all(row["semantic"] for table in ("positions", "transfer") for row in rows(finished_real, table))
    ood, promises = rows(finished_real, "ood"), rows(finished_real, "calibration")
    assert {row["language"] for row in ood} == {"", "en", "ar"}
    assert all(row["semantic"] and row["semantic_difference"] for row in ood)
    whole = [row for row in ood if not row["category"] and row["language"]]
    assert all(float(row["semantic_p"]) <= float(row["semantic_p_holm"]) for row in whole)
    assert {row["language"] for row in promises} == {"", *NAMES}
    assert all(row["semantic"] for row in promises if row["estimate"] and row["rule"] != "prior")
    diagnosis = rows(finished_real, "diagnosis")
    assert all(row["semantic_auc"] and row["semantic_verdict"] for row in diagnosis)
    findings = json.loads((finished_real.folder / "results/real/tables/findings.json").read_text())
    assert findings["missing_controls"] == []
    assert all("a small sentence encoder with" in model["know"]["sentence"] for model in findings["models"].values())


def test_every_point_of_the_sweeps_has_its_number(finished_real: Checkout) -> None:
    found = rows(finished_real, "sweeps")
    points = {
        (row["kind"], row["direction"], row["layer"], row["strength"]) for row in found if row["language"] == "yo"
    }
    assert {kind for kind, *_ in points} == {"layer", "strength"}
    assert all(0 <= float(row["estimate"]) <= 1 for row in found)
    assert {row["language"] for row in found} == {"", *NAMES}


def test_cast_as_released_stands_beside_ours_in_the_low_resource_language(finished_real: Checkout) -> None:
    for table in ("refusal", "selectivity"):
        found = [row for row in rows(finished_real, table) if row["arm"] == "cast-released"]
        assert {(row["model"], row["language"]) for row in found} == {(m, name) for m in MODELS for name in ("", "yo")}
        assert all(float(row["low"]) <= float(row["estimate"]) <= float(row["high"]) for row in found)
    against = [row for row in rows(finished_real, "baselines") if row["against"] == "cast-released"]
    assert {(row["model"], row["budget"]) for row in against} == {(m, budget) for m in MODELS for budget in "04"}
    with (finished_real.folder / "results/real/figures/baselines.csv").open(encoding="utf-8") as file:
        assert {row["model"] for row in csv.DictReader(file) if row["series"] == "cast-released"} == MODELS
    for model in MODELS:
        fitted = read_provenance(finished_real.folder / f"results/real/{model}/baselines/cast-released.safetensors")
        done = finished_real.folder / f"results/real/{model}/interventions/cast-released/polyrefuse/yo.safetensors"
        assert read_provenance(done)["condition"] == fitted["condition"]
        assert (fitted["tuned_on"], fitted["condition"]["layer"]) == (2 * 24, 1)


def test_the_report_is_there(finished_real: Checkout) -> None:
    assert (finished_real.folder / "reports/report.html").stat().st_size > 1_000_000
