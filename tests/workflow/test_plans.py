"""What would run: the paper's configuration and the cluster profile, planned without network or GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkout import Checkout

from polygate.settings import Settings


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout that is only planned in."""
    return Checkout.fresh(tmp_path_factory.mktemp("plan") / "checkout")


def test_the_paper_is_what_runs_when_nothing_is_said(checkout: Checkout) -> None:
    planned = checkout.planned()
    cells = len(Settings().models) * len(Settings().languages.all())
    assert cells == 69
    assert planned["capture"] == planned["complete_unsteered"] == planned["gates"] == cells
    assert planned["complete_steered"] == 2 * cells
    assert planned["download_model"] == 3
    assert planned["download_polyrefuse"] == 1
    assert planned["train_organism"] == 0
    assert planned["make_report"] == 1


def test_the_demo_trains_its_models_and_downloads_nothing(checkout: Checkout) -> None:
    planned = checkout.planned("--configfile", "config/demo.yaml")
    assert planned["train_organism"] == 3
    assert planned["capture"] == 36
    assert not any(rule.startswith("download") for rule in planned)


def test_one_configuration_replaces_another_whole(checkout: Checkout) -> None:
    """Snakemake merges configuration files; the paper's models must not appear in another run."""
    output = checkout.snakemake("--dry-run", "--configfile", "config/demo.yaml").stdout
    assert "llama-3.1-8b" not in output


def test_the_slurm_profile_plans_one_gpu_per_forward_pass(checkout: Checkout) -> None:
    arguments = ("--workflow-profile", "profiles/slurm", "--configfile", "config/config.yaml")
    output = checkout.snakemake("--dry-run", *arguments).stdout
    capture = output.split("rule capture:", 1)[1].split("rule ", 1)[0]
    assert "gpu=1" in capture
    assert "mem_mb=" in capture
    assert "runtime=" in capture


def test_the_slurm_profile_groups_every_model_of_the_paper(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/slurm/profile.yaml").read_text())
    groups = {entry.split("=")[0] for entry in profile["group-components"]}
    assert groups == {f"{stage}_{model}" for stage in ("unsteered", "steered") for model in Settings().models}


def test_the_default_profile_leaves_the_executor_to_the_user(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/default/profile.yaml").read_text())
    assert not {"cores", "jobs", "executor", "report", "report-after-run", "keep-incomplete"} & set(profile)
