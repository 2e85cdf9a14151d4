"""The workflow on a real Slurm, with the profile that users take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout

from slurm.cluster import Cluster
from slurm.conftest import TABLES, Submitted, submit

OF_A_LANGUAGE = ("results/tiny/qwen2/completions/none/organism/{}.parquet", "results/tiny/qwen2/projections/{}.parquet")
"""The end of a model's first phase in a language, and what follows from it."""


def test_the_tables_are_those_of_a_local_run_byte_for_byte(finished: tuple[Checkout, Submitted, Checkout]) -> None:
    ours, theirs = (checkout.tables("tiny") for checkout in (finished[0], finished[2]))
    assert {Path(table).name for table in TABLES} <= ours.keys()
    assert ours == theirs


def test_each_phase_of_a_model_is_one_submission_with_one_gpu(finished: tuple[Checkout, Submitted, Checkout]) -> None:
    submitted = finished[1]
    assert [(job.name.split("_")[0], job.gpus) for job in submitted.jobs if job.gpus] == [
        ("unsteered", 1),
        ("choose", 1),
        ("steered", 1),
    ]
    assert {job.state for job in submitted.jobs} == {"COMPLETED"}


def test_small_jobs_of_a_language_and_all_tables_are_submitted_together(
    finished: tuple[Checkout, Submitted, Checkout],
) -> None:
    submitted = finished[1]
    for group in ("prompts", "means_qwen2", "directions_qwen2", "decided_qwen2", "judged_qwen2"):
        assert len(submitted.named(f"{group}_")) == 3
    assert len(submitted.named("tables")) == 1
    assert not submitted.named("table_", "figure_")


def add_languages(checkout: Checkout, settings: dict[str, Any]) -> dict[str, Any]:
    """Two low-resource languages: x1 as l1, and x2, to be damaged later."""
    import pyarrow.parquet as pq

    rows = pq.read_table(checkout.folder / "results/tiny/prompts/organism/l1.parquet").to_pylist()
    folder = checkout.folder / "mine"
    folder.mkdir()
    columns = ("prompt_id", "split", "subset", "category", "reference", "text")
    lines = [json.dumps({name: row[name] for name in columns}, ensure_ascii=False) for row in rows]
    for name in ("x1", "x2"):
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    languages = {**settings["languages"], "low": ["l1", "x1", "x2"]}
    return {**settings, "languages": languages, "prompts": {**settings["prompts"], "extra": "mine"}}


def test_a_new_language_submits_its_own_jobs_and_a_failing_one_takes_nothing_along(
    cluster: Cluster, finished: tuple[Checkout, Submitted, Checkout], settings: dict[str, Any]
) -> None:
    checkout = finished[0]
    config = checkout.configure(add_languages(checkout, settings), "more.yaml")
    damaged = "results/tiny/prompts/organism/x2.parquet"
    checkout.snakemake("--configfile", config, "--", damaged)
    (checkout.folder / damaged).write_bytes(b"PAR1 and no more")
    before = {path: path.stat().st_mtime_ns for path in (checkout.folder / "results/tiny/qwen2").rglob("l1.*")}
    targets = [name.format(language) for language in ("h1", "h2", "l1", "x1", "x2") for name in OF_A_LANGUAGE]
    submitted = submit(cluster, checkout, "--configfile", config, "--", *targets)
    assert submitted.status != 0
    assert submitted.of_languages() == {"x1", "x2"}
    assert len(submitted.named("prompts")) == 1
    for name in OF_A_LANGUAGE:
        made = {language for language in ("x1", "x2") if (checkout.folder / name.format(language)).is_file()}
        assert made == {"x1"}, submitted.output[-8000:]
    assert len(submitted.named("means")) == len(submitted.named("directions")) == 1
    # Twice whole, since a failure may be one of memory; then each language alone, and the jobs of the failed one.
    assert [job.gpus for job in submitted.named("unsteered")] == [1] * 6
    assert [job.state for job in submitted.named("unsteered")].count("COMPLETED") == 1
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_job_killed_by_memory_is_retried_with_more(
    cluster: Cluster, finished: tuple[Checkout, Submitted, Checkout]
) -> None:
    target = "results/tiny/qwen2/means/l1.safetensors"
    little = ("--set-resources", "means:mem_mb=60 if attempt == 1 else 2000", "--force")
    submitted = submit(cluster, finished[0], "--configfile", "settings.yaml", *little, "--", target)
    assert submitted.status == 0, submitted.output[-6000:] + cluster.logs()
    first, second = submitted.named("means")
    assert first.state in {"OUT_OF_MEMORY", "FAILED", "CANCELLED"}
    assert second.state == "COMPLETED"
    assert (first.memory, second.memory) == ("60M", "2000M")
    assert "exceeded memory limit" in cluster.logs()


@pytest.mark.parametrize("rule", ["download", "judge_paid"])
def test_what_needs_a_network_never_reaches_a_node(root: Path, rule: str) -> None:
    texts = [path.read_text() for path in sorted((root / "workflow/rules").glob("*.smk"))]
    # A rule ends where the next begins; those that not every run has stand within an `if`.
    rules = [body for text in texts for body in re.split(r"^ *rule ", text, flags=re.M)[1:]]
    found = [body for body in rules if re.match(rf"{rule}\w*:", body)]
    assert found
    assert all("localrule: True" in body for body in found)
