"""What a user can break: one line that says what, where and what to do, and no result."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import Checkout


def message(checkout: Checkout, stage: str, *arguments: str) -> str:
    """Run a target that must fail; return the one line that polygate printed about it."""
    output = checkout.snakemake(*arguments, check=False)
    assert output.returncode != 0
    lines = re.findall(r"^polygate(?: [a-z-]+)?: .*$", output.stdout, flags=re.MULTILINE)
    assert len(set(lines)) == 1, output.stdout[-3000:]
    assert "Traceback" not in output.stdout
    assert lines[0].startswith(f"polygate {stage}".strip() + ":")
    return lines[0]


def results_in(checkout: Checkout) -> int:
    """How many files of the tiny run are there, logs left out."""
    walked = os.walk(checkout.folder / "results/tiny")
    return sum(len(files) for folder, _, files in walked if not {"logs", "benchmarks"} & set(Path(folder).parts))


def test_killed_at_random_moments_the_same_command_ends_in_the_same_tables(
    finished_tiny: Checkout, fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    config = checkout.configure(tiny_settings)
    tables = [f"results/tiny/tables/{name}.csv" for name in ("refusal", "selectivity", "separability")]
    arguments = ("--configfile", config, "--", *tables)
    moments = random.Random(7)
    # By what is there and not by the clock: on any machine it is killed at work, at five stages of it.
    for reached in sorted(moments.sample(range(100), 5)):
        running = subprocess.Popen(
            checkout.command(*arguments),
            cwd=checkout.folder,
            env=checkout.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while running.poll() is None and results_in(checkout) <= reached:
            time.sleep(0.1)
        time.sleep(moments.uniform(0, 2))
        assert running.poll() is None
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    checkout.snakemake(*arguments)
    made, whole = checkout.tables("tiny"), finished_tiny.tables("tiny")
    assert {Path(table).name for table in tables} <= made.keys()
    assert made == {name: whole[name] for name in made}


def test_a_wrong_setting_stops_before_any_job(fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]) -> None:
    checkout = fresh()
    config = checkout.configure({**tiny_settings, "gate": {**tiny_settings["gate"], "rnk": 2}})
    line = message(checkout, "", "--configfile", config)
    assert config in line
    assert "gate.rnk" in line
    assert "rank" in line
    assert not (checkout.folder / "results").exists()


def test_a_file_of_prompts_that_would_be_passed_over_stops_before_any_job(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    (checkout.folder / "mine").mkdir()
    (checkout.folder / "mine" / "L1.csv").write_text("")
    prompts = {**tiny_settings["prompts"], "extra": "mine"}
    line = message(checkout, "", "--configfile", checkout.configure({**tiny_settings, "prompts": prompts}))
    assert "settings.yaml: prompts.extra = mine: L1.csv is not read" in line
    assert not (checkout.folder / "results").exists()


def test_a_value_of_the_command_line_is_named_as_such(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    config = checkout.configure(tiny_settings)
    line = message(checkout, "", "--configfile", config, "--config", "run=2026_11_28")
    assert line.startswith("polygate: --config: run = 20261128: must be text")


def test_a_package_that_is_not_there_stops_before_any_job_and_is_planned_for_all_the_same(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    models = {"m": {"gguf": "no-such-package-anywhere", "dtype": "float32"}}
    arguments = ("--configfile", checkout.configure({**tiny_settings, "models": models}))
    assert checkout.planned(*arguments)["convert_gguf"] == 1
    line = message(checkout, "", *arguments)
    assert "models.m.gguf: the Python package no-such-package-anywhere is not installed" in line
    assert not list(checkout.folder.glob("results/tiny/prompts/*/*"))


def test_a_checkout_that_can_only_be_read_is_run_from_elsewhere(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    checkout = fresh()
    target = ("--configfile", checkout.configure(tiny_settings), "--", "results/tiny/prompts/organism/h1.parquet")
    folder = str(checkout.folder)
    mounted = subprocess.run(["mount", "--bind", folder, folder], check=False).returncode == 0
    if not mounted:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        line = message(checkout, "", *target)
        assert f"can't write in {folder}" in line
        checkout.snakemake("--directory", str(tmp_path / "elsewhere"), *target)
    finally:
        subprocess.run(["umount", folder], check=True)
    assert (tmp_path / "elsewhere/results/tiny/prompts/organism/h1.parquet").is_file()


def test_a_truncated_activation_store_is_named(finished: Checkout) -> None:
    store = finished.folder / "results/tiny/qwen2/activations/organism/l1.safetensors"
    content = store.read_bytes()
    store.unlink()
    store.write_bytes(content[: len(content) // 2])
    means = "results/tiny/qwen2/means/l1.safetensors"
    line = message(finished, "means", "--configfile", "settings.yaml", "--forcerun", "means", "--", means)
    assert "l1.safetensors" in line
    assert not (finished.folder / means).exists()


def test_a_store_of_other_prompts_is_refused(finished: Checkout) -> None:
    stores = finished.folder / "results/tiny/qwen2/activations/organism"
    foreign = (stores / "l1.safetensors").read_bytes().replace(b"harmful-train-0", b"foreign-train-0")
    (stores / "l1.safetensors").unlink()
    (stores / "l1.safetensors").write_bytes(foreign)
    means = "results/tiny/qwen2/means/l1.safetensors"
    line = message(finished, "means", "--configfile", "settings.yaml", "--forcerun", "means", "--", means)
    assert "l1.safetensors" in line
    assert not (finished.folder / means).exists()


def test_a_table_with_a_flipped_bit_is_named_by_the_script_that_reads_it(finished: Checkout) -> None:
    table = finished.folder / "results/tiny/tables/refusal.csv"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.unlink()
    table.write_bytes(content)
    rule, figure = "figure_refusal_by_tier", "results/tiny/figures/refusal_by_tier.svg"
    given = ("--configfile", "settings.yaml", "--rerun-triggers", "mtime", "--allowed-rules", rule, "--forcerun", rule)
    line = message(finished, "figure-refusal-by-tier", *given, "--", figure)
    assert "the file is damaged, or was changed by hand" in line
    assert "refusal.csv" in line
    assert not (finished.folder / figure).exists()


def spoil_weights(folder: Path) -> None:
    """Put NaN into a model's final block."""
    from safetensors.numpy import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = sorted(key for key in tensors if key.endswith("mlp.down_proj.weight"))[-1]
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, file, {"format": "pt"})


def local_model(finished: Checkout, tiny_settings: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The trained organism as a user's own folder, which holds no digests, and settings that use it."""
    folder = finished.folder / "model"
    shutil.copytree(finished.folder / "results/tiny/qwen2/weights", folder, ignore=shutil.ignore_patterns(".crc32"))
    models = {"mine": {"folder": "model", "dtype": "float32", "parameters": 5e5}}
    return folder, {**tiny_settings, "models": models}


def test_a_model_that_computes_nan_leaves_no_activations(finished: Checkout, tiny_settings: dict[str, Any]) -> None:
    folder, settings = local_model(finished, tiny_settings)
    spoil_weights(folder)
    target = "results/tiny/mine/activations/organism/l1.safetensors"
    line = message(finished, "forward", "--configfile", finished.configure(settings, "nan.yaml"), "--", target)
    assert "NaN" in line
    assert not (finished.folder / target).exists()


def test_a_model_without_a_chat_template_is_named(finished: Checkout, tiny_settings: dict[str, Any]) -> None:
    folder, settings = local_model(finished, tiny_settings)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    target = "results/tiny/mine/activations/organism/l1.safetensors"
    line = message(finished, "forward", "--configfile", finished.configure(settings, "chat.yaml"), "--", target)
    assert "chat template" in line
    assert not (finished.folder / target).exists()


def test_a_missing_language_is_named_with_what_to_do(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any], shared_data: Path
) -> None:
    checkout = fresh()
    settings = {
        **tiny_settings,
        "pivot": "en",
        "languages": {"high": ["en", "de"], "mid": [], "low": ["sw"]},
        "prompts": {"source": "polyrefuse", "folder": str(shared_data / "polyrefuse")},
        "datasets": {},
    }
    target = "results/tiny/prompts/polyrefuse/sw.parquet"
    line = message(checkout, "prompts-polyrefuse", "--configfile", checkout.configure(settings), "--", target)
    assert "sw" in line
    assert "prompts.extra" in line
    assert not (checkout.folder / target).exists()


def test_a_full_disk_is_one_line_and_no_result(finished: Checkout, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        subprocess.run(["dd", "if=/dev/zero", f"of={small / 'filler'}", "bs=1k"], capture_output=True, check=False)
        done = subprocess.run(
            [
                *("polygate", "means", "--activations", "results/tiny/qwen2/activations/organism/l1.safetensors"),
                *(
                    "--prompts",
                    "results/tiny/prompts/organism/l1.parquet",
                    "--output",
                    str(small / "means.safetensors"),
                ),
            ],
            cwd=finished.folder,
            env=finished.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "no space left" in done.stderr
        assert [path.name for path in small.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(small)], check=False)
