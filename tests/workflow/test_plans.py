"""What would run: the paper's configuration and the cluster profile, planned without network or GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from checkout import Checkout, jobs
from snakemake.resources import Resource, Resources

from conftest import require
from library.models.tiny_gguf import write
from polygate.preflight import load_file
from polygate.prompts import table
from polygate.settings.types import Settings


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout that is only planned in."""
    return Checkout.fresh(tmp_path_factory.mktemp("plan") / "checkout")


@pytest.fixture(scope="module")
def demo_plan(checkout: Checkout) -> str:
    """What a dry run of the demo says."""
    return checkout.snakemake("--dry-run", "--configfile", "config/demo.yaml").stdout


def test_the_paper_is_what_runs_when_nothing_is_said(checkout: Checkout) -> None:
    planned = checkout.planned()
    cells = len(Settings().models) * len(Settings().languages.all())
    assert cells == 69
    # MultiJail is in seven of its languages, XSTest and OR-Bench in English, Global-MMLU in twenty.
    words, tasks = 3 * (7 + 1 + 1), 3 * 20
    assert planned["capture"] == cells + words + tasks
    assert planned["complete_unsteered"] == cells + words
    # The two English sets of harmless prompts that look harmful are answered under every arm too.
    looks = 3 * 2
    assert planned["gates"] == cells
    assert planned["judge"] == cells + looks
    assert planned["intervene"] == cells + looks + tasks
    # In the six low-resource languages AdaSteer adapted and as released, CAST tuned in two ways and as released; all
    # points of the sweeps are one file a model and language.
    low = 3 * 6
    assert planned["complete_steered"] == 3 * cells + 5 * low + 2 * looks
    assert planned["judge_arm"] == words - looks + cells + 5 * low
    assert planned["sweep"] == cells
    assert planned["fit_adasteer"] == planned["fit_cast"] == planned["read_adasteer"] == 3
    assert planned["intervene_adasteer"] == 2 * low
    assert planned["intervene_cast"] == planned["intervene_cast_released"] == low
    assert planned["download_adasteer"] == planned["fit_cast_released"] == 3
    # Its strength is the published one.
    assert planned["choose_cast"] == 0
    # Its pairs and its openings, which no other job reads.
    assert (planned["download_cast"], planned["prompts_cast"], planned["capture_cast"]) == (1, 1, 3 * 2)
    # The paper's judge is paid, and stands beside the rules.
    assert planned["judge_paid"] == 3 * cells + words + 2 * looks + 5 * low
    assert planned["route"] == planned["route_judgements"] == cells + looks
    assert planned["table_agreement"] == planned["figure_agreement"] == 1
    assert planned["gate_scores"] == words + tasks
    assert planned["ood"] == 3 * 7
    assert (planned["score_unsteered"], planned["score_steered"]) == (tasks, 2 * tasks)
    assert planned["prompts_dataset"] == 7 + 1 + 1 + 20
    assert planned["conformal"] == planned["download_model"] == 3
    # One job a model, however many languages.
    assert planned["uscore"] == planned["compare_probes"] == planned["omniguard"] == planned["transfer"] == 3
    assert planned["figure_uscore"] == planned["figure_transfer"] == planned["figure_probes"] == 1
    assert planned["download_polyrefuse"] == 1
    assert planned["download_dataset"] == 3
    assert planned["download_global_mmlu"] == 20
    assert planned["train_organism"] == 0
    assert planned["make_report"] == 1
    # The encoder is a package: each language is embedded once, for all models, and MultiJail in those that it has.
    assert planned["embed"] == planned["semantic"] + 7
    assert planned["semantic"] == len(Settings().languages.all())
    assert planned["conformal_semantic"] == 1
    assert planned["download_encoder"] == 0


def test_an_encoder_of_the_hub_is_downloaded_once_and_none_leaves_its_rules_out(
    checkout: Checkout, demo_plan: str
) -> None:
    pinned = {"encoder": "some/encoder", "revision": "0" * 40}
    planned = checkout.planned("--config", f"controls={json.dumps(pinned)}")
    assert planned["download_encoder"] == 1
    assert planned["embed"] == planned["semantic"] + 7
    assert planned["semantic"] == len(Settings().languages.all())
    assert not {"embed", "semantic", "conformal_semantic", "download_encoder"} & set(jobs(demo_plan))


def test_the_demo_trains_its_models_and_downloads_nothing(demo_plan: str) -> None:
    planned = jobs(demo_plan)
    assert planned["train_organism"] == 3
    # Three data sets beside, of which one is a task, in four languages.
    beside = 3 * 4
    assert planned["capture"] == 36 + 3 * beside
    assert planned["complete_unsteered"] == 36 + 2 * beside
    low = 3 * 4
    assert planned["fit_adasteer"] == planned["fit_cast"] == planned["choose_cast"] == 3
    assert planned["intervene_adasteer"] == planned["intervene_cast"] == low
    # Addition and ablation of two data sets, the sweeps, and three published arms.
    assert planned["complete_steered"] == (2 + 1) * 36 + 2 * beside + 3 * low
    assert planned["judge"] == planned["route"] == 36 + beside
    assert planned["judge_arm"] == 36 + beside + 3 * low
    assert planned["read_adasteer"] == planned["download_adasteer"] == planned["prompts_cast"] == 0
    assert planned["gate_scores"] == 3 * beside
    assert planned["intervene"] == 36 + 2 * beside
    assert planned["ood"] == planned["score_unsteered"] == beside
    assert planned["score_steered"] == 2 * beside
    assert planned["prompts_dataset"] == 3 * 4
    assert not any(rule.startswith(("download", "translat", "mark_")) for rule in planned)


def test_another_judge_adds_its_own_jobs_and_a_dry_run_says_what_it_costs(checkout: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    guards = {
        "here": {"verdict": "(yes|no)", "folder": str(folder), "languages": ["h1", "l1"]},
        "hub": {"like": "polyguard-qwen", "hub": "a/b", "revision": "0" * 40, "languages": ["l2"]},
    }
    judging = {"judges": ["rules", "paid", "here", "hub"], "guards": guards, "apis": {"paid": {"languages": ["l1"]}}}
    (tmp_path / "judges.yaml").write_text(yaml.safe_dump({"judging": judging}))
    said = checkout.snakemake("--dry-run", "--configfile", "config/demo.yaml", str(tmp_path / "judges.yaml")).stdout
    planned = jobs(said)
    # Three models. In a low-resource language: three arms and three published ones, three arms of another data set and
    # one of a third. In a high-resource one there are no published arms.
    low, high = 3 * (6 + 3 + 1), 3 * (3 + 3 + 1)
    guarded = 2 * low + high
    added = {"judge_paid": low, "judge_guard": guarded, "guard_prompts": guarded, "guard_answers": guarded}
    added["route_judgements"] = 3 * 2 * (1 + 2 + 1)
    more = {"guard_framing": 2, "download_guard": 1, "table_agreement": 1, "figure_agreement": 1}
    assert {name: planned[name] for name in [*added, *more]} == {**added, **more}
    # One job asks a guard about all that is left in the plan: nothing may be missing there.
    plan = json.loads((checkout.folder / ".snakemake/polygate/demo.plan.json").read_text())
    assert len({job["output"] for job in plan if "/guarded/" in job["output"]}) == guarded
    line = re.search(r"judge paid \(gpt-4o-mini\): about (\d+) calls are still to be paid, ([\d.]+) at most", said)
    assert line
    assert int(line[1]) > 1000
    assert float(line[2]) > 0


@pytest.mark.parametrize(
    ("name", "converted", "aligned", "cells"),
    [("small", 2, 1, 2 * 13), ("small-dose", 1, 15, 15 * 9), ("released", 1, 0, 14)],
)
def test_small_models_come_as_packages_and_one_file_serves_all_alignments(
    checkout: Checkout, name: str, converted: int, aligned: int, cells: int
) -> None:
    planned = checkout.planned("--configfile", f"config/{name}.yaml")
    assert planned["convert_gguf"] == converted
    assert planned["align"] == aligned
    assert planned["capture"] == planned["complete_unsteered"] == cells
    assert planned["download_model"] == planned["train_organism"] == 0
    assert planned["download_polyrefuse"] == 1


def test_nllb_makes_what_the_papers_configuration_lacks(checkout: Checkout) -> None:
    planned = checkout.planned("--configfile", "config/config.yaml", "config/translated.yaml")
    assert planned["prompts_polyrefuse"] == 14
    assert planned["prompts_translated"] == planned["compare_translations"] == 9
    assert planned["translate"] == 2 * 9
    assert planned["download_translator"] == 1
    assert planned["gates"] == 3 * 23


def test_the_papers_test_out_of_distribution_covers_all_languages_of_both_data_sets(
    checkout: Checkout, root: Path
) -> None:
    settings = Settings.model_validate(yaml.safe_load((root / "config/ood.yaml").read_text()))
    assert (settings.gate.rank, settings.gate.draws, settings.gate.budgets[:2]) == (10, 10, [0, 1])
    planned = checkout.planned("--configfile", "config/ood.yaml")
    assert planned["ood"] == 3 * (10 + 5)
    assert planned["prompts_translated"] == 8
    assert planned["judge_paid"] == planned["complete_unsteered"] + planned["complete_steered"]


def test_every_dose_is_aligned_three_times_with_seeds_of_their_own(root: Path) -> None:
    given = yaml.safe_load((root / "config/small-dose.yaml").read_text())
    settings = Settings.model_validate(given)
    doses: dict[int, list[tuple[int, str]]] = {}
    for model in settings.models.values():
        assert model.alignment is not None
        dose = model.alignment.harmful("yo", settings.languages)
        doses.setdefault(dose, []).append((model.seed, model.model_dump_json(exclude={"seed"})))
    assert list(doses) == [0, 2, 4, 8, 16]
    for alignments in doses.values():
        assert [seed for seed, _ in alignments] == [0, 1, 2]
        assert len({described for _, described in alignments}) == 1


def test_one_configuration_replaces_another_whole(demo_plan: str) -> None:
    """Snakemake merges configuration files; the paper's models must not appear in another run."""
    assert "qwen2" in demo_plan
    assert "llama-3.1-8b" not in demo_plan


def test_a_gguf_file_is_converted_once_for_all_models_that_name_it(
    checkout: Checkout, tiny_settings: dict[str, Any]
) -> None:
    (checkout.folder / "some.gguf").write_bytes(b"GGUF")
    sources = {"one": "some.gguf", "other": "some.gguf", "carried": "some-package"}
    models = {name: {"gguf": source, "parameters": 1e6} for name, source in sources.items()}
    name = checkout.configure({**tiny_settings, "run": "gguf", "models": models})
    planned = checkout.planned("--configfile", name)
    assert planned["convert_gguf"] == 2
    assert planned["capture"] == 3 * 3 * 4
    assert planned["train_organism"] == planned["download_model"] == 0
    plan = json.loads((checkout.folder / ".snakemake/polygate/gguf.plan.json").read_text())
    folders = {job["model"]["gguf"]: job["model_folder"] for job in plan}
    assert folders["some-package"] == "resources/gguf/some-package"
    assert re.fullmatch(r"resources/gguf/some-[0-9a-f]{8}", folders["some.gguf"])
    assert len({job["model_folder"] for job in plan}) == 2


def test_a_changed_gguf_file_is_converted_again(fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]) -> None:
    checkout = fresh()
    source = checkout.folder / "tiny.gguf"
    write(source, "llama")
    settings = {**tiny_settings, "models": {"m": {"gguf": "tiny.gguf", "dtype": "float32", "parameters": 1e6}}}
    arguments = ("--configfile", checkout.configure(settings), "--until", "convert_gguf")
    checkout.snakemake(*arguments)
    (folder,) = (checkout.folder / "resources" / "gguf").iterdir()
    assert json.loads((folder / "provenance.json").read_text())["file"] == "tiny.gguf"
    assert checkout.planned(*arguments)["convert_gguf"] == 0
    source.write_bytes(source.read_bytes()[:-500])
    assert checkout.planned(*arguments)["convert_gguf"] == 1
    failed = checkout.snakemake(*arguments, check=False)
    assert failed.returncode != 0
    (log,) = (checkout.folder / "results/tiny/logs/gguf").iterdir()
    assert log.read_text().count("\n") == 1
    assert "polygate convert-gguf: the GGUF file is truncated" in log.read_text()


def test_jobs_run_with_the_python_that_reads_the_workflow_whatever_is_activated(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    (checkout.folder / "json.py").write_text("raise RuntimeError('a file of the working directory was imported')")
    arguments = ("--configfile", checkout.configure(tiny_settings), "--", "results/tiny/prompts/organism/h1.parquet")
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", "1", *arguments]
    environment = {**checkout.environment(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (checkout.folder / "results/tiny/prompts/organism/h1.parquet").is_file()


def test_every_command_is_one_call_of_polygate_which_takes_its_shells_place(root: Path) -> None:
    texts = [path.read_text() for path in sorted((root / "workflow/rules").glob("*.smk"))]
    commands = [
        command for text in texts for command in re.findall(r'^ +shell:\n((?: +"[^\n]*"(?:\n|\Z))+)', text, re.M)
    ]
    assert len(commands) == sum(len(re.findall(r"^ +shell:", text, re.M)) for text in texts) > 40
    for command in commands:
        assert len(re.findall(r"\bpolygate ", command)) == 1
        assert command.strip().startswith('"polygate ')
        assert not re.search(r"[;&|]", command.replace("{log:q}", ""))


def test_prompts_can_all_be_ones_own_the_pivots_too(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    checkout = fresh()
    mine = checkout.folder / "mine"
    mine.mkdir()
    ids = [(a, b, n) for a in ("harmful", "harmless") for b in ("train", "val", "test") for n in range(6)]
    for language in ("h1", "h2", "m1", "l1"):
        rows = [f"{a}-{b}-{n:04d},{b},{a},{language} {a} {b} {n}\n" for a, b, n in ids]
        (mine / f"{language}.csv").write_text("prompt_id,split,subset,text\n" + "".join(rows))
    (mine / "README.md").write_text("Translated by hand.")
    prompts = {**tiny_settings["prompts"], "extra": "mine"}
    config = ("--configfile", checkout.configure({**tiny_settings, "prompts": prompts}))
    planned = checkout.planned(*config)
    assert (planned["prompts_extra"], planned["prompts_organism"]) == (4, 0)
    done = checkout.snakemake(*config, "--", "results/tiny/prompts/organism/l1.parquet")
    assert done.stdout.count("polygate: note: no language of this run reads README.md in mine") == 1
    tables = {
        name: table.read(checkout.folder / f"results/tiny/prompts/organism/{name}.parquet") for name in ("h1", "l1")
    }
    assert tables["h1"].texts[0] == "h1 harmful train 0"
    assert tables["h1"].ids == tables["l1"].ids


def test_a_translated_language_is_one_more_language_and_every_table_is_marked(
    fresh: Callable[[], Checkout], tiny_settings: dict[str, Any]
) -> None:
    """One language by a model of the hub, one from a file that lacks translations back, one that is only checked."""
    checkout = fresh()
    mine = checkout.folder / "mine"
    mine.mkdir()
    (mine / "x2.csv").write_text("prompt_id,text\nharmful-test-0000,some text\n")
    languages = {**tiny_settings["languages"], "low": ["l1", "x1", "x2"]}
    model = {"hub": "some/model", "revision": "0" * 40, "files": "mine"}
    asked = {"languages": {"x1": "swh_Latn", "x2": "yor_Latn"}, "checked": {"m1": "deu_Latn"}, **model}
    settings = {**tiny_settings, "languages": languages, "translation": asked}
    config = ("--configfile", checkout.configure(settings))
    planned = checkout.planned(*config)
    expected = {"download_translator": 1, "translate": 1 + 3, "read_translations": 1, "prompts_translated": 2}
    expected |= {"compare_translations": 3, "table_translation": 1, "figure_translation": 1, "prompts_organism": 4}
    assert {name: planned[name] for name in expected} == expected
    # Six languages, of which four are in the two other data sets.
    assert planned["capture"] == 6 + 2 * 4
    assert (planned["complete_steered"], planned["judge"]) == (2 * 6, 6)
    tables = {name.removeprefix("table_") for name in planned if name.startswith("table_")}
    marks = {name.removeprefix("mark_") for name in planned if name.startswith("mark_")}
    assert marks == tables - {"translation", "findings"} | {"paper_vs_measured"}


def test_a_language_with_nothing_to_translate_it_is_one_line_before_any_job(
    checkout: Checkout, tiny_settings: dict[str, Any]
) -> None:
    languages = {**tiny_settings["languages"], "low": ["l1", "x1"]}
    settings = {**tiny_settings, "languages": languages, "translation": {"languages": {"x1": None}, "files": "."}}
    done = checkout.snakemake("--dry-run", "--configfile", checkout.configure(settings, "wrong.yaml"), check=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("polygate: ")]
    assert "translation.languages.x1: nothing to translate it with" in line


def test_a_local_copy_of_a_data_set_is_not_downloaded_and_what_it_lacks_is_said(
    checkout: Checkout, tiny_settings: dict[str, Any]
) -> None:
    folder = checkout.folder / "own"
    folder.mkdir()
    lines = ["prompt_id,split,subset,text", *(f"harmful-test-{n:04d},test,harmful,unheard of {n}" for n in range(3))]
    for language in ("h1", "l1"):
        (folder / f"{language}.csv").write_text("\n".join(lines) + "\n")
    settings = {**tiny_settings, "datasets": {"mine": {"source": "folder", "folder": "own"}}}
    config = ("--configfile", checkout.configure(settings, "own.yaml"))
    planned = checkout.planned(*config)
    assert (planned["prompts_dataset"], planned["judge_arm"]) == (2, 2)
    assert not any(rule.startswith("download") for rule in planned)
    output = checkout.snakemake("--dry-run", *config).stdout
    assert output.count("polygate: note: data set mine is not in h2, m1: nothing is computed there") == 1


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"source": "multijail", "folder": "empty"}, "datasets.mine: there is no MultiJail.csv in it"),
        ({"source": "folder", "folder": "nowhere"}, "datasets.mine.folder = nowhere: no such folder"),
    ],
)
def test_a_data_set_that_cannot_be_is_one_line_before_any_job(
    checkout: Checkout, tiny_settings: dict[str, Any], dataset: dict[str, str], told: str
) -> None:
    (checkout.folder / "empty").mkdir(exist_ok=True)
    config = checkout.configure({**tiny_settings, "datasets": {"mine": dataset}}, "wrong.yaml")
    done = checkout.snakemake("--dry-run", "--configfile", config, check=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("polygate: ")]
    assert told in line


COUNTING = """
import sys
from collections import Counter
from snakemake.cli import main
from snakemake.jobs import Job
from snakemake.output_index import OutputIndex
looked, worded, match, message = Counter(), [], OutputIndex.match, Job.message.fget
OutputIndex.match = lambda index, file: looked.update([(id(index), str(file))]) or match(index, file)
Job.message = property(lambda job: worded.append(job) or message(job))
try:
    main()
except SystemExit:
    print("looked", len(looked), "again", looked.total() - len(looked), "worded", len(worded))
"""
"""Snakemake, which says for how many files it has looked for rules, how often again, and how many jobs it worded."""


def test_a_plan_looks_for_each_files_rule_once_and_words_no_job_that_it_does_not_list(
    checkout: Checkout, tiny_settings: dict[str, Any]
) -> None:
    """Jobs read what others read, so the one was two fifths of a large plan's calls, the other a quarter."""
    arguments = ("--dry-run", "--configfile", checkout.configure(tiny_settings))
    told = {}
    for quiet in ((), ("--quiet", "rules")):
        done = subprocess.run(
            [sys.executable, "-c", COUNTING, "--cores", "2", *arguments, *quiet],
            cwd=checkout.folder,
            env=checkout.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        (found,) = re.findall(r"looked (\d+) again (\d+) worded (\d+)", done.stdout)
        told[bool(quiet)] = jobs(done.stdout), *map(int, found)
    (listed, files, again, worded), (quiet_listed, quiet_files, quiet_again, quiet_worded) = told[False], told[True]
    assert quiet_listed == listed
    assert quiet_files == files > listed.total()
    assert again == quiet_again == 0
    assert worded == listed.total()
    assert quiet_worded == 0


@pytest.fixture
def slurm() -> None:
    """Snakemake's plugin for Slurm."""
    require(find_spec("snakemake_executor_plugin_slurm") is not None, "no plugin for Slurm: make slurm")


@pytest.mark.usefixtures("slurm")
def test_the_slurm_profile_submits_the_forward_passes_of_a_model_as_one_job(checkout: Checkout) -> None:
    arguments = ("--workflow-profile", "profiles/slurm", "--configfile", "config/demo.yaml")
    output = checkout.snakemake("--dry-run", *arguments).stdout
    groups = Counter(re.findall(r"Group job (\S+) ", output))
    assert set(groups.values()) == {1}
    settings = load_file(checkout.folder / "config/demo.yaml")
    models, languages = list(settings.models), settings.languages.all()
    assert len(models) * len(languages) == 36
    forward = {f"{stage}_{model}" for stage in ("unsteered", "steered") for model in models}
    assert {name for name in groups if name.startswith(("unsteered", "steered"))} == forward
    for stage in ("means", "directions", "decided", "judged"):
        own = {f"{stage}_{model}_{language}" for model in models for language in languages}
        assert {name for name in groups if name.startswith(f"{stage}_")} == own
    assert groups["tables"] == 1


@pytest.mark.usefixtures("slurm")
def test_every_engine_plans_the_same_submissions(
    checkout: Checkout, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    encoder = {"encoder": "an/encoder", "folder": str(tmp_path)}
    config = ("--configfile", checkout.configure({**tiny_settings, "controls": encoder}))
    plans = {}
    for engine in ("slurm", "lsf", "generic"):
        output = checkout.snakemake("--dry-run", "--workflow-profile", f"profiles/{engine}", *config).stdout
        plans[engine] = Counter(re.findall(r"Group job (\S+) ", output))
    assert plans["lsf"] == plans["generic"] == plans["slurm"]
    assert plans["slurm"]["unsteered_qwen2"] == 1
    # A language's prompts of all data sets are embedded in one.
    assert [plans["slurm"][f"embedded_{language}"] for language in ("h1", "h2", "m1", "l1")] == [1] * 4


@pytest.fixture
def empty_bucket() -> Iterator[str]:
    """The address of an object storage in which nothing is."""

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_on_kubernetes_every_file_of_a_job_goes_through_object_storage(
    checkout: Checkout, tiny_settings: dict[str, Any], root: Path, empty_bucket: str
) -> None:
    plugins = root / ".venv/kubernetes"
    require(plugins.is_dir(), "no plugins for Kubernetes: make kubernetes")
    s3 = ("--storage-s3-endpoint-url", empty_bucket, "--storage-s3-region", "here", "--storage-s3-retries", "1")
    config = ("--configfile", checkout.configure(tiny_settings))
    target = "results/tiny/qwen2/judgements/rules/routed-4/organism/l1.parquet"
    done = subprocess.run(
        checkout.command("-n", "-p", "--workflow-profile", "profiles/kubernetes", *s3, *config, "--", target),
        cwd=checkout.folder,
        env={
            **checkout.environment(),
            "PYTHONPATH": f"{checkout.folder / 'workflow'}{os.pathsep}{plugins}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    groups = set(re.findall(r"Group job (\S+) ", done.stdout))
    assert {"unsteered_qwen2", "steered_qwen2", "judged_qwen2_l1"} <= groups
    commands = re.findall(r"^Shell command: (polygate .*)$", done.stdout, re.M)
    assert {command.split()[1] for command in commands} >= {"train-organism", "forward", "gates", "route"}
    for command in commands:
        # What a job of forward passes is described by holds names; where they lie is told by its --prompts.
        files = re.findall(r"(?<=\s)\S*results/\S+", re.sub(r"'\{.*?\}'(?=\s)", "", command))
        assert files
        assert all(file.startswith(".snakemake/storage/s3/bucket/polygate/") for file in files), command


@pytest.mark.parametrize(("given", "expected"), [(1, 2), (4, 4), (None, None)])
def test_a_submission_may_have_the_gpus_that_a_model_is_spread_over(
    root: Path, given: int | None, expected: int | None
) -> None:
    """Profiles limit it to one, which Snakemake would cut a job's own number down to."""
    limits = Resources({} if given is None else {"gpu": Resource("gpu", given)})
    models = {"one": {"folder": "one"}, "two": {"folder": "two", "gpus": 2}}
    names: dict[str, Any] = {
        "settings": Settings.model_validate({"models": models}),
        "workflow": SimpleNamespace(global_resources=limits),
    }
    exec((root / "workflow/rules/helpers/submissions.smk").read_text(), names)
    names["allow_gpus_of_models"]()
    assert getattr(limits.get("gpu"), "value", None) == expected


def test_every_profile_of_a_cluster_sets_the_same_limits_and_goes_on_after_a_failure(root: Path) -> None:
    profiles = {path.parent.name: yaml.safe_load(path.read_text()) for path in (root / "profiles").glob("*/*.yaml")}
    del profiles["default"]
    assert len(profiles) >= 3
    for profile in profiles.values():
        assert profile["resources"] == {"gpu": 1, "slots": 2}
        assert profile["set-resource-scopes"] == {"gpu": "local", "slots": "local"}
        assert profile["default-resources"]["slots"] == 1
        assert profile["group-components"] == profiles["slurm"]["group-components"]
        assert profile["keep-going"] is profile["rerun-incomplete"] is True
        assert profile["retries"] > 0
    wanted = set()
    for path in (root / "workflow/rules").glob("*.smk"):
        for body in re.split(r"^ *rule +", path.read_text(), flags=re.M)[1:]:
            wanted |= {body.split(":")[0]} if "        gpu=" in body else set()
    assert set(profiles["lsf"]["set-resources"]) == wanted


def needs(root: Path, settings: Settings) -> dict[str, Any]:
    """What the rules' own functions ask a cluster for."""
    names: dict[str, Any] = {"settings": settings}
    exec((root / "workflow/rules/helpers/needs.smk").read_text(), names)
    return names


def test_memory_and_time_of_forward_passes_follow_models_prompts_and_attempts(root: Path) -> None:
    names = needs(root, Settings())

    def needed(model: str, attempt: int = 1, **more: str) -> tuple[int, int, int]:
        wildcards = SimpleNamespace(**{"model": model, "dataset": "polyrefuse", "arm": "addition", **more})
        memory = int(names["forward_mem"](wildcards, attempt).removesuffix("GB"))
        return memory, names["capture_minutes"](wildcards, attempt), names["answer_minutes"](wildcards, attempt)

    small, large, again = needed("qwen2.5-7b"), needed("gemma-2-9b"), needed("gemma-2-9b", attempt=2)
    assert all(more > less for less, more in zip(small, large, strict=True))
    assert all(more > less for less, more in zip(large, again, strict=True))
    # 9B weights in bfloat16, and time for 1,072 answers of 128 tokens; a day is what many queues give at most.
    assert 18 < large[0] < 48
    assert 5 < large[2] < 60
    assert needed("gemma-2-9b", arm="sweep")[2] > 3 * large[2]
    assert names["gpus_of"](SimpleNamespace(model="qwen2.5-7b")) == 1
    wide = {"folder": "large", "gpus": 4}
    names["settings"] = Settings.model_validate({"models": {"large": wide}})
    assert names["gpus_of"](SimpleNamespace(model="large")) == 4
    names["settings"] = Settings.model_validate({"prompts": {"limit": {"test": 20}}})
    assert needed("gemma-2-9b")[2] < large[2] / 2


def test_casts_own_data_is_larger_than_a_language(root: Path) -> None:
    names = needs(root, Settings())
    conditions, behaviours = (SimpleNamespace(model="gemma-2-9b", part=part) for part in ("conditions", "behaviours"))
    assert [names["cast_texts"](one.part) for one in (conditions, behaviours)] == [9000, 20000]
    # 20,000 texts at 42 layers of 3,584, in float32 at most.
    assert int(names["cast_mem"](behaviours, 1).removesuffix("GB")) > 18 + 12
    language = SimpleNamespace(model="gemma-2-9b", dataset="polyrefuse")
    minutes = [names["cast_minutes"](one, 1) for one in (conditions, behaviours)]
    assert names["capture_minutes"](language, 1) < minutes[0] < minutes[1] < 120


def test_what_a_cluster_is_asked_for_covers_what_the_demo_used(root: Path) -> None:
    """Largest seconds and MB of a finished demo on two cores of an EPYC with AVX2, from its benchmark files."""
    demo = load_file(root / "config/demo.yaml")
    names = needs(root, demo)
    for model in demo.models:
        wildcards = SimpleNamespace(model=model, dataset="organism")
        assert int(names["forward_mem"](wildcards, 1).removesuffix("GB")) * 1000 > 946
        assert names["choose_minutes"](wildcards, 1) * 60 > 17
        assert names["forward_threads"](wildcards) == 1
    for rules, used in {
        "models": (888, 141),
        "probes": (299, 7),
        "recoverability": (231, 7),
        "calibration": (191, 7),
    }.items():
        text = (root / f"workflow/rules/{rules}.smk").read_text()
        gigabytes = re.findall(r'f"\{(\d+) \* attempt\}GB"', text)
        minutes = re.findall(r"attempt: (\d+) \* attempt", text)
        assert all(int(n) * 1000 > used[0] for n in gigabytes)
        assert all(int(n) * 60 > used[1] for n in minutes)
        assert gigabytes
        assert minutes


def test_every_job_that_fails_asks_for_more_the_next_time(root: Path) -> None:
    for path in (root / "workflow/rules").glob("*.smk"):
        for kind, value in re.findall(r"^ +(mem|runtime)=(.*),$", path.read_text(), re.M):
            assert "attempt" in value or value.startswith(
                ("forward_", "guard_", "capture_", "cast_", "answer_", "score_", "choose_", "translation_")
            ), f"{path.name}: {kind}={value}"


def test_the_default_profile_leaves_the_executor_to_the_user(root: Path) -> None:
    profile = yaml.safe_load((root / "profiles/default/profile.yaml").read_text())
    assert not {"cores", "jobs", "executor", "report", "report-after-run", "keep-incomplete"} & set(profile)
