"""What reruns: exactly what a change touches."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from checkout import Checkout

from polygate import files

PER_LANGUAGE = {
    "capture": 1,
    "means": 1,
    "directions": 1,
    "positions": 1,
    "gates": 1,
    "intervene": 1,
    "complete_unsteered": 1,
    "complete_steered": 2,
    "judge": 1,
    "route": 1,
}
"""Jobs of one model and one language."""


def aggregates(planned: Counter[str]) -> Counter[str]:
    """The part of a plan that belongs to no language: probes of all languages, tables, figures, report."""
    names = (
        "compare_probes",
        "omniguard",
        "transfer",
        "uscore",
        "recoverability",
        "conformal",
        "table_",
        "figure_",
        "paper_vs_measured",
        "report_",
        "make_report",
        "default",
    )
    return Counter({rule: n for rule, n in planned.items() if rule.startswith(names)})


def add_language(checkout: Checkout, settings: dict[str, Any], name: str) -> dict[str, Any]:
    """A low-resource language from a plain file: the low language's prompts with their words in reverse order."""
    table = pq.read_table(checkout.folder / "results/tiny/prompts/organism/l1.parquet").to_pylist()
    folder = checkout.folder / "mine"
    folder.mkdir()
    lines = []
    for row in table:
        text = " ".join(reversed(row["text"].split()))
        kept = {key: row[key] for key in ("prompt_id", "split", "subset", "category", "reference")}
        lines.append(json.dumps({**kept, "text": text}, ensure_ascii=False))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    languages = {**settings["languages"], "low": [*settings["languages"]["low"], name]}
    return {**settings, "languages": languages, "prompts": {**settings["prompts"], "extra": "mine"}}


def test_a_finished_workflow_has_nothing_to_do(finished_tiny: Checkout) -> None:
    assert finished_tiny.planned("--configfile", "settings.yaml") == Counter()


def test_a_new_language_runs_its_own_jobs_and_the_aggregates_only(
    finished: Checkout, tiny_settings: dict[str, Any]
) -> None:
    before = finished.tables("tiny")
    config = finished.configure(add_language(finished, tiny_settings, "x1"), "more.yaml")
    planned = finished.planned("--configfile", config)
    expected = Counter({"prompts_extra": 1, "surface": 1, **PER_LANGUAGE})
    assert planned - aggregates(planned) == expected
    target = "results/tiny/tables/refusal.csv"
    finished.snakemake("--configfile", config, "--", target)
    after = finished.tables("tiny")
    assert before.keys() == after.keys()
    # Corrected over languages, and so another language's concern, are the p-values, which stand last.
    old, new = (
        [line.rsplit(",", 2)[0] for line in tables["refusal.csv"].decode().splitlines()] for tables in (before, after)
    )
    kept = [line for line in old if ",l1," in line or ",h1," in line]
    assert kept
    assert set(kept) <= set(new)
    assert any(",x1," in line for line in new)
    assert finished.planned("--configfile", config, "--", target) == Counter()


def test_a_new_data_set_runs_its_own_jobs_and_the_aggregates_only(
    finished: Checkout, tiny_settings: dict[str, Any]
) -> None:
    before = finished.tables("tiny")
    new = {"source": "organism", "part": "over_refusal", "limit": 4}
    config = finished.configure({**tiny_settings, "datasets": {**tiny_settings["datasets"], "looks": new}}, "more.yaml")
    planned = finished.planned("--configfile", config)
    jobs = ("prompts_dataset", "capture", "complete_unsteered", "intervene", "gate_scores", "judge", "route")
    steered = {"complete_steered": 2 * 4}
    assert planned - aggregates(planned) == Counter({**dict.fromkeys(jobs, 4), **steered})
    finished.snakemake("--configfile", config, "--", "tables", "results/tiny/tables/paper_vs_measured.csv")
    after = finished.tables("tiny")
    changed = {name for name in after if after[name] != before[name] and not name.startswith(".")}
    assert changed == {"refusal.csv"}
    assert set(before["refusal.csv"].splitlines()) <= set(after["refusal.csv"].splitlines())
    assert any(line.startswith(b"looks,") for line in after["refusal.csv"].splitlines())


def test_an_encoder_runs_its_own_jobs_and_so_does_what_is_added_beside_it(
    finished: Checkout, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Read off plans: against one with an encoder, a data set and a language more plan what is theirs."""

    def planned(settings: dict[str, Any]) -> Counter[str]:
        return finished.planned("--configfile", finished.configure(settings, "more.yaml"))

    encoded = {**tiny_settings, "controls": {"encoder": "an/encoder", "folder": str(tmp_path)}}
    alone = planned(encoded)
    # Four languages of what is fitted on, and of the data set whose harmful prompts gates are tried on.
    assert alone - aggregates(alone) == Counter({"embed": 4 + 4, "semantic": 4, "ood": 4})
    assert (alone["conformal_semantic"], alone["conformal"]) == (1, 0)
    again = {"source": "organism", "part": "ood", "limit": 3}
    more = planned({**encoded, "datasets": {**tiny_settings["datasets"], "again": again}})
    own = ("prompts_dataset", "capture", "complete_unsteered", "gate_scores", "judge_arm", "ood", "embed")
    assert more - aggregates(more) - alone == Counter(dict.fromkeys(own, 4))
    assert more["conformal"] == 0
    more = planned(add_language(finished, encoded, "x1"))
    own_language = Counter({"prompts_extra": 1, "surface": 1, "embed": 1, "semantic": 1, **PER_LANGUAGE})
    assert more - aggregates(more) - alone == own_language


def test_a_steered_arm_of_another_data_set_needs_its_intervention_text_and_judgement_only(
    finished_tiny: Checkout,
) -> None:
    target = "results/tiny/qwen2/judgements/rules/addition/ood/l1.parquet"
    planned = finished_tiny.planned("--configfile", "settings.yaml", "--", target)
    assert planned == Counter({"intervene": 1, "complete_steered": 1, "judge_arm": 1})


def test_a_new_way_of_steering_runs_its_own_jobs_and_the_aggregates_only(
    finished: Checkout, tiny_settings: dict[str, Any]
) -> None:
    config = finished.configure({**tiny_settings, "baselines": {"methods": ["cast"], "examples": 4}}, "more.yaml")
    planned = finished.planned("--configfile", config)
    expected = {"fit_cast": 1, "choose_cast": 1, "intervene_cast": 1, "complete_steered": 2, "judge_arm": 2}
    assert planned - aggregates(planned) == Counter(expected)


def test_other_candidates_for_casts_strength_choose_anew_and_refit_nothing(
    finished: Checkout, tiny_settings: dict[str, Any]
) -> None:
    """Its choice runs for real, and says how each candidate did."""

    def configured(**cast: Any) -> list[str]:
        thresholds = {"last": 1.0, "step": 0.001}
        baselines = {"methods": ["cast", "adasteer"], "examples": 4, "cast": {"thresholds": thresholds, **cast}}
        return ["--configfile", finished.configure({**tiny_settings, "baselines": baselines}, "more.yaml")]

    folder = "results/tiny/qwen2"
    made = [f"{folder}/{name}/organism/l1.safetensors" for name in ("interventions/cast", "interventions/adasteer")]
    finished.snakemake(*configured(strengths=[1, 10]), "--", *made, "results/tiny/tables/choices.csv")
    chosen = pq.read_table(finished.folder / folder / "baselines/cast-strength.parquet")
    grid = json.loads(chosen.schema.metadata[b"grid"])
    assert [point["strength"] for point in grid] == [1, 10]
    with (finished.folder / "results/tiny/tables/choices.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if row["what"] == "cast strength"]
    best = max(point["criterion"] for point in grid)
    assert (row["model"], row["split"], row["languages"]) == ("qwen2", "val", "l1")
    assert float(row["criterion_value"]) == best
    assert float(row["value"]) == next(point["strength"] for point in grid if point["criterion"] == best)
    told = files.read_provenance(finished.folder / made[0])
    assert told["strength"] == float(row["value"])

    assert finished.planned(*configured(strengths=[1, 10]), "--", *made) == Counter()
    assert finished.planned(*configured(strengths=[1, 20]), "--", *made) == Counter(
        {"choose_cast": 1, "intervene_cast": 1}
    )
    # A fixed strength asks no model; without a choice there is nothing else to redo.
    assert finished.planned(*configured(strength=2), "--", *made) == Counter({"intervene_cast": 1})
    assert finished.planned(*configured(strength=2), "--", "results/tiny/tables/choices.csv")["table_choices"] == 1


def test_a_new_model_runs_its_own_jobs_and_the_aggregates_only(
    finished_tiny: Checkout, tiny_settings: dict[str, Any]
) -> None:
    models = {**tiny_settings["models"], "llama": {**tiny_settings["models"]["qwen2"], "organism": "llama"}}
    config = finished_tiny.configure({**tiny_settings, "models": models}, "model.yaml")
    planned = finished_tiny.planned("--configfile", config)
    # Of two data sets beside in four languages one is answered in words, the other by its options.
    words = dict.fromkeys(("capture", "complete_unsteered", "gate_scores", "judge_arm", "ood"), 4)
    options = {"capture": 4, "gate_scores": 4, "intervene": 4, "score_unsteered": 4, "score_steered": 8}
    expected = Counter({rule: 4 * n for rule, n in PER_LANGUAGE.items()}) + Counter(words) + Counter(options)
    # Means at other positions are of the high-resource languages alone.
    assert planned - aggregates(planned) == expected + Counter({"train_organism": 1, "choose": 1, "position_means": 2})


def test_a_new_budget_fits_gates_and_routes_by_them_and_no_model_runs(
    finished_tiny: Checkout, tiny_settings: dict[str, Any]
) -> None:
    gate = {**tiny_settings["gate"], "budgets": [0, 1, 2, 4]}
    planned = finished_tiny.planned("--configfile", finished_tiny.configure({**tiny_settings, "gate": gate}, "b.yaml"))
    expected = {"gates": 4, "surface": 4, "gate_scores": 8, "ood": 4, "route": 4}
    assert planned - aggregates(planned) == Counter(expected)
    assert not {"compare_probes", "omniguard", "transfer", "uscore", "recoverability"} & set(planned)


def test_a_new_judge_is_asked_about_the_completions_that_are_there(
    finished_tiny: Checkout, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    guards = {"guard": {"verdict": "(yes|no)", "folder": str(tmp_path), "languages": ["l1"]}}
    judging = {"judges": ["rules", "guard"], "guards": guards}
    config = finished_tiny.configure({**tiny_settings, "judging": judging}, "judge.yaml")
    planned = finished_tiny.planned("--configfile", config)
    # Three arms of one data set, and what the model answers to another left alone.
    asked = dict.fromkeys(("guard_prompts", "guard_answers", "judge_guard"), 3 + 1)
    assert planned - aggregates(planned) == Counter({"guard_framing": 1, **asked, "route_judgements": 1})


def edited(checkout: Checkout, file: str, text: str) -> set[str]:
    """Rules planned after `text` was appended to a source file."""
    with (checkout.folder / file).open("a") as source:
        source.write(text)
    return set(checkout.planned("--configfile", "settings.yaml"))


def test_editing_the_judge_reruns_judging_and_what_follows_only(finished: Checkout) -> None:
    rules = edited(finished, "workflow/polygate/judges/rules.py", "\n# edited\n")
    assert {"judge", "route"} <= rules
    assert not rules & {"train_organism", "prompts_organism", "capture", "means", "directions", "complete_unsteered"}


def test_editing_a_kernel_reruns_what_uses_kernels_only(finished: Checkout) -> None:
    rules = edited(finished, "rust/src/lib.rs", "\n// edited\n")
    assert {"means", "directions", "positions", "gates"} <= rules
    assert not rules & {"train_organism", "prompts_organism", "capture", "complete_unsteered"}


def test_editing_the_surface_features_reruns_no_model(finished: Checkout) -> None:
    rules = edited(finished, "workflow/polygate/stages/surface.py", "\n# edited\n")
    assert "surface" in rules
    assert not rules & {"train_organism", "capture", "complete_unsteered", "complete_steered", "gates", "judge"}


def test_editing_a_figure_redraws_it_alone(finished: Checkout) -> None:
    rules = edited(finished, "workflow/polygate/figures/projections.py", "\n# edited\n")
    assert {rule for rule in rules if rule.startswith(("figure_", "table_"))} == {"figure_projections"}
    assert rules <= set(aggregates(Counter(rules)))


def test_a_changed_setting_reruns_what_reads_it(finished: Checkout, tiny_settings: dict[str, Any]) -> None:
    config = finished.configure({**tiny_settings, "statistics": {"resamples": 120}}, "other.yaml")
    planned = finished.planned("--configfile", config)
    assert planned
    assert planned - aggregates(planned) == Counter()


def test_ones_own_phrases_rerun_the_judging_of_their_language_only(
    finished: Checkout, tiny_settings: dict[str, Any]
) -> None:
    (finished.folder / "phrases").mkdir()
    (finished.folder / "phrases/l1.yaml").write_text("refusals: [mipa]\n")
    config = finished.configure({**tiny_settings, "judging": {"phrases": "phrases"}}, "other.yaml")
    planned = finished.planned("--configfile", config)
    assert planned - aggregates(planned) == Counter({"judge": 1, "judge_arm": 1, "route": 1})


def test_every_file_carries_its_provenance(finished_tiny: Checkout) -> None:
    from polygate.files import read_provenance

    results = finished_tiny.folder / "results/tiny"
    files = [p for p in results.rglob("*") if p.suffix in {".parquet", ".safetensors"} and "weights" not in p.parts]
    assert len(files) > 30
    without = [str(path.relative_to(results)) for path in files if not read_provenance(path).get("code")]
    assert without == []


def test_results_of_two_runs_never_mix(finished_tiny: Checkout) -> None:
    assert [path.name for path in sorted((finished_tiny.folder / "results").iterdir()) if path.is_dir()] == [
        "cells",
        "tiny",
    ]
    assert Path(finished_tiny.folder / "reports/report.html").exists()
