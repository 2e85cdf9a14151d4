"""The cell cache: one load of a model, nothing computed twice, nothing stale, and one failure stays one failure."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from library.forward.steered import ablated, added
from library.forward.tiny import WORDS, options
from polygate import files
from polygate.errors import PolygateError
from polygate.forward import cells, loading, self_check
from polygate.forward.capture import capture
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention
from polygate.forward.job import Job
from polygate.forward.prefixes import Prefix
from polygate.forward.writing import Writer
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.store import ActivationStore
from polygate.stages import forward

LANGUAGES = ("h1", "l1")
ARMS = ("none", "addition", "ablation")


def write_prompts(path: Path, language: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [
        table.Prompt(table.prompt_id(subset, split, i), " ".join(generator.choice(WORDS, size=3 + i)))
        for subset in table.SUBSETS
        for split in table.SPLITS
        for i in range(3)
    ]
    table.write(path, table.build(language, rows), provenance("polygate.prompts.table"))


def write_interventions(root: Path, language: str, arms: Sequence[str] = ARMS[1:], **changes: Any) -> None:
    """The interventions of a language's test prompts: 20 times a unit vector added at block 1, or it ablated."""
    given = {"layer": 1, "alpha": 20.0, "scope": "all", **changes}
    vector = np.random.default_rng(9).normal(size=given.get("width", 32))
    prompts = table.read(root / f"prompts/{language}.parquet")
    count = len(prompts.select("test"))
    layers = {"all": range(3), "layer": [given["layer"]], "none": []}[given["scope"]]
    parts = {
        "addition": (added(vector, [given["alpha"]] * count, given["layer"]),),
        "ablation": (ablated(vector, [1] * count, layers),) if layers else (),
    }
    ids = tuple(prompts.ids[row] for row in prompts.select("test"))
    for arm in arms:
        of = {"language": language, "arm": arm, "prompts": prompts.fingerprint()}
        Intervention(ids, parts[arm]).save(root / f"interventions/{arm}/{language}.safetensors", {}, of)


class World:
    """A model, prompts and interventions of two languages, and the plan of all forward passes over them."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        self.model = Path(shutil.copytree(model, root / "model"))
        for seed, language in enumerate(LANGUAGES):
            write_prompts(root / f"prompts/{language}.parquet", language, seed)
            write_interventions(root, language)
        self.described = [self.describe("capture", language) for language in LANGUAGES]
        self.described += [self.describe("generate", language, arm) for arm in ARMS for language in LANGUAGES]
        files.write_json(root / "plan.json", self.described)
        self.plan = [Job.parse(item) for item in self.described]

    def describe(self, task: str, language: str, arm: str = "none") -> dict[str, Any]:
        """A job as a rule would describe it."""
        chosen = options("qwen2")
        steered = arm != "none"
        more: dict[str, Any] = {"positions": ["t_inst", "t_post_inst", "mean"]}
        if task == "generate":
            intervention = str(self.root / f"interventions/{arm}/{language}.safetensors") if steered else None
            more = {"arm": arm, "intervention": intervention, "max_new_tokens": 6}
        return {
            "task": task,
            "model": {**dataclasses.asdict(chosen), "layer": 3, "hub": None},
            "model_folder": str(self.model),
            "prompts": str(self.root / f"prompts/{language}.parquet"),
            "cache": str(self.root / "cells"),
            "output": str(
                self.root / f"out/{task}-{arm}/{language}{'.parquet' if task == 'generate' else '.safetensors'}"
            ),
            **more,
        }

    def job(self, task: str = "capture", language: str = "h1", arm: str = "none") -> Job:
        """One job of the plan."""
        return Job.parse(self.describe(task, language, arm))

    def address(self, job: Job) -> str:
        """The address of a job's cell."""
        return cells.key(job, job.read(), loading.fingerprint(job.model_folder, job.cache))

    def has_cell(self, job: Job) -> bool:
        """Whether the job's cell is there and whole."""
        return cells.is_whole(cells.cell_path(job, self.address(job)), self.address(job))


@pytest.fixture
def world(tmp_path: Path, folders: dict[str, Path]) -> World:
    """A fresh world."""
    return World(tmp_path, folders["qwen2"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that a model was loaded from, in order."""
    found: list[Path] = []
    real = loading.load

    def load(folder: Path, *args: Any) -> loading.LoadedModel:
        found.append(folder)
        return real(folder, *args)

    monkeypatch.setattr(loading, "load", load)
    return found


def run(world: World, job: Job) -> list[str]:
    """Run a job within the plan; the lines it logged."""
    lines: list[str] = []
    cells.run(job, world.plan, job.output, lines.append)
    return lines


def test_a_model_is_loaded_once_for_the_whole_plan(world: World, loads: list[Path]) -> None:
    for job in world.plan:
        run(world, job)
        assert job.output.is_file()
    assert loads == [world.model]


def test_cells_of_the_same_prompts_follow_each_other_and_read_them_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capture leaves what unsteered and added-to texts begin with: only ablated prompts are read again."""
    read: list[int] = []
    real = Writer._read

    def seen(writer: Writer, rows: Sequence[int], *more: Any) -> list[Prefix]:
        read.extend(rows)
        return real(writer, rows, *more)

    monkeypatch.setattr(self_check, "found", lambda *_: self_check.Found("padded", shares=True, resumes=True))
    monkeypatch.setattr(Writer, "_read", seen)
    run(world, world.plan[0])
    assert all(world.has_cell(job) for job in world.plan)
    assert sorted(read) == sorted([0, 1, 2, 3, 4, 5] * len(LANGUAGES))


def test_results_are_those_of_the_library(world: World) -> None:
    loaded = loading.load(world.model, options("qwen2"))
    prompts = table.read(world.job().prompts)
    run(world, world.job())
    store = ActivationStore.open(world.job().output)
    store.check_matches(prompts.ids)
    expected = capture(loaded, prompts.texts)
    assert store.token_count.tolist() == expected.token_count.tolist()
    for (layer, position), tensor in expected.tensors.items():
        assert np.array_equal(store.read(layer, position), tensor.numpy())
    rows = prompts.select("test").tolist()
    for arm in ARMS:
        job = world.job("generate", "h1", arm)
        run(world, job)
        found = files.read_parquet(job.output)
        texts = [prompts.texts[row] for row in rows]
        steered = None if job.intervention is None else Intervention.load(job.intervention)
        names = [prompts.ids[row] for row in rows]
        completions = generate(loaded, texts, steered, max_new_tokens=6, names=names)
        assert found.column("prompt_id").to_pylist() == [prompts.ids[row] for row in rows]
        assert found.column("subset").to_pylist() == prompts.subset[rows].tolist()
        assert found.column("completion").to_pylist() == [completion.text for completion in completions]
        assert found.column("new_tokens").to_pylist() == [completion.new_tokens for completion in completions]
        assert found.column("finished").to_pylist() == [completion.finished for completion in completions]


def test_activations_are_stored_in_the_models_dtype(world: World) -> None:
    job = world.job()
    half = dataclasses.replace(job, options=dataclasses.replace(job.options, dtype="bfloat16"))
    run(world, half)
    store = ActivationStore.open(job.output)
    assert (store.dtype, files.read_provenance(job.output)["dtype"]) == ("BF16", "bfloat16")
    prompts = table.read(job.prompts)
    expected = capture(loading.load(world.model, half.options), prompts.texts).tensors[2, "t_post_inst"]
    assert np.array_equal(store.read(2, "t_post_inst"), expected.float().numpy())


def test_results_say_what_made_them(world: World) -> None:
    for job in (world.job(), world.job("generate", "h1", "addition")):
        run(world, job)
        found = files.read_provenance(job.output)
        assert found["fingerprint"] == loading.fingerprint(world.model, job.cache)
        assert {"dtype", "quantisation", "attention", "batch_tokens", "device"} <= set(found)
        assert {"revision", "versions", "code", "task"} <= set(found)
    assert (found["action"], found["intervention"]) == ("add", Intervention.load(str(job.intervention)).digest())
    told = {"operation": "add", "tokens": "answering", "layers": [1], "prompts": 6, "coefficients": [0.0, 20.0]}
    assert found["parts"] == [told]


def test_a_new_language_costs_one_load_and_its_own_cells(world: World, loads: list[Path]) -> None:
    for job in world.plan:
        run(world, job)
    before = {path: path.stat().st_mtime_ns for path in (world.root / "cells").glob("??/*")}
    write_prompts(world.root / "prompts/h2.parquet", "h2", 7)
    write_interventions(world.root, "h2")
    added = [world.job("capture", "h2"), *(world.job("generate", "h2", arm) for arm in ARMS)]
    world.plan += added
    for job in added:
        run(world, job)
    assert len(loads) == 2
    after = set((world.root / "cells").glob("??/*"))
    assert len(after - set(before)) == len(added)


def test_cells_of_the_plan_wait_for_their_inputs(world: World) -> None:
    (world.root / "interventions/addition/l1.safetensors").unlink()
    (world.root / "prompts/h1.parquet").rename(world.root / "away")
    run(world, world.job("capture", "l1"))
    assert world.has_cell(world.job("generate", "l1"))
    (world.root / "away").rename(world.root / "prompts/h1.parquet")
    write_interventions(world.root, "l1")
    assert not world.has_cell(world.job("capture", "h1"))
    assert not world.has_cell(world.job("generate", "l1", "addition"))


def spoil(world: World, language: str) -> None:
    """Steering vectors that don't fit the model: the forward pass itself fails."""
    write_interventions(world.root, language, width=5)


def test_another_cells_failure_is_left_to_its_own_job(world: World) -> None:
    spoil(world, "l1")
    lines = run(world, world.job("generate", "h1", "addition"))
    assert any("left to its own job: generate addition l1 failed" in line for line in lines)
    assert world.job("generate", "h1", "addition").output.is_file()
    assert world.has_cell(world.job("generate", "l1"))
    with pytest.raises(PolygateError, match="vectors of width 5"):
        run(world, world.job("generate", "l1", "addition"))


def test_an_own_failure_comes_after_the_others_are_computed(world: World) -> None:
    spoil(world, "l1")
    job = world.job("generate", "l1", "ablation")
    with pytest.raises(PolygateError, match="vectors of width 5"):
        run(world, job)
    assert not job.output.exists()
    assert world.has_cell(world.job("generate", "h1", "ablation"))
    assert world.has_cell(world.job("capture", "l1"))


def test_broken_inputs_are_one_line_and_no_result(world: World) -> None:
    job = world.job("capture", "h1")
    job.prompts.write_bytes(job.prompts.read_bytes()[:-50])
    with pytest.raises(PolygateError, match="truncated"):
        run(world, job)
    assert run(world, world.job("capture", "l1"))
    assert not job.output.exists()
    (world.root / "interventions/addition/l1.safetensors").write_bytes(b"broken")
    with pytest.raises(PolygateError, match="truncated"):
        run(world, world.job("generate", "l1", "addition"))


def changed_text(world: World) -> None:
    write_prompts(world.root / "prompts/h1.parquet", "h1", 77)


def changed_weights(world: World) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(world.model / "model.safetensors")
    save_file({**weights, "model.norm.weight": weights["model.norm.weight"] + 1}, world.model / "model.safetensors")


def changed_template(world: World) -> None:
    path = world.model / "chat_template.jinja"
    path.write_text(path.read_text() + "\n")


@pytest.mark.parametrize("change", [changed_text, changed_weights, changed_template])
@pytest.mark.parametrize("task", ["capture", "generate"])
def test_changed_inputs_make_another_cell(world: World, task: str, change: Callable[[World], None]) -> None:
    before = world.address(world.job(task))
    change(world)
    assert world.address(world.job(task)) != before


@pytest.mark.parametrize(
    "option",
    [
        {"dtype": "bfloat16"},
        {"quantisation": "4bit"},
        {"attention": "eager"},
        {"batch_tokens": 7},
        {"revision": "abc"},
        {"template_arguments": {"enable_thinking": False}},
    ],
)
def test_what_changes_numbers_makes_another_cell(world: World, option: dict[str, Any]) -> None:
    job = world.job()
    changed = dataclasses.replace(job, options=dataclasses.replace(job.options, **option))
    assert world.address(changed) != world.address(job)


def test_a_chat_template_counts_by_its_text(world: World) -> None:
    template = world.root / "chat.jinja"
    job = world.job()
    given = dataclasses.replace(job, options=dataclasses.replace(job.options, chat_template=template))
    template.write_text("{{ messages[0]['content'] }}")
    first = world.address(given)
    template.write_text("{{ messages[0]['content'] }} !")
    assert len({world.address(job), first, world.address(given)}) == 3
    template.unlink()
    with pytest.raises(PolygateError, match="chat template"):
        world.address(given)


@pytest.mark.parametrize(
    ("changes", "affected"),
    [
        ({"layer": 2}, {"addition"}),
        ({"alpha": 21.0}, {"addition"}),
        ({"scope": "layer"}, {"ablation"}),
        ({"scope": "layer", "layer": 2}, {"addition", "ablation"}),
    ],
)
def test_an_arm_depends_on_what_its_intervention_does(
    world: World, changes: dict[str, Any], affected: set[str]
) -> None:
    before = {arm: world.address(world.job("generate", "h1", arm)) for arm in ARMS}
    write_interventions(world.root, "h1", **changes)
    after = {arm: world.address(world.job("generate", "h1", arm)) for arm in ARMS}
    assert {arm for arm in ARMS if before[arm] != after[arm]} == affected


def test_an_intervention_on_other_prompts_is_one_line_before_any_model_is_loaded(
    world: World, loads: list[Path]
) -> None:
    job = world.job("generate", "h1", "addition")
    found = Intervention.load(str(job.intervention))
    found.rows(range(len(found) - 1)).save(str(job.intervention), {})
    with pytest.raises(PolygateError, match=rf"nothing is said of '{found.prompt_ids[-1]}', in .*h1\.safetensors"):
        run(world, job)
    Intervention.load(str(world.job("generate", "h1", "ablation").intervention)).save(
        str(job.intervention), {}, {"arm": "ablation"}
    )
    with pytest.raises(PolygateError, match="holds arm ablation, expected addition"):
        run(world, job)
    write_prompts(world.root / "prompts/h1.parquet", "h1", 3)
    with pytest.raises(PolygateError, match="holds prompts"):
        run(world, world.job("generate", "h1", "ablation"))
    assert loads == []


def test_of_a_file_on_more_prompts_the_jobs_own_are_read(world: World) -> None:
    job = world.job("generate", "h1", "addition")
    before, found = world.address(job), Intervention.load(str(job.intervention))
    more = [dataclasses.replace(part, coefficients=[7.0, *part.coefficients[::-1]]) for part in found.parts]
    Intervention(("harmful-val-0000", *found.prompt_ids[::-1]), tuple(more)).save(str(job.intervention), {})
    assert world.address(job) == before


def test_leaving_prompts_alone_is_no_action_and_costs_no_generation(world: World, loads: list[Path]) -> None:
    """Ablation of scope "none" has the unsteered cell, whichever arm asks first, and a file of its own."""
    for language in LANGUAGES:
        write_interventions(world.root, language, scope="none")
    spared, unsteered = world.job("generate", "h1", "ablation"), world.job("generate", "h1")
    assert world.address(spared) == world.address(unsteered)
    assert world.address(world.job("generate", "h1", "addition")) != world.address(unsteered)
    run(world, spared)
    run(world, unsteered)
    assert len(loads) == 1
    assert spared.output.read_bytes() == unsteered.output.read_bytes()
    assert not spared.output.samefile(unsteered.output)
    assert files.read_provenance(spared.output)["action"] == "none"


def test_code_and_libraries_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.address(world.job())
    monkeypatch.setattr(cells, "code_hash", lambda *_: "other code")
    edited = world.address(world.job())
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99")
    assert len({before, edited, world.address(world.job())}) == 3


def test_paths_and_unused_settings_do_not_count(world: World, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(world.model, tmp_path / "elsewhere"))
    job = world.job()
    elsewhere = dataclasses.replace(job, model_folder=moved, output=tmp_path / "x.safetensors")
    assert world.address(elsewhere) == world.address(job)
    described = world.describe("capture", "h1")
    described["model"] |= {"layer": 2, "gpus": 4}
    assert world.address(Job.parse(described)) == world.address(job)


@pytest.mark.parametrize("how", ["truncated", "foreign", "of another address", "one bit"])
@pytest.mark.parametrize("task", ["capture", "generate"])
def test_a_spoilt_cell_is_made_again(world: World, loads: list[Path], task: str, how: str) -> None:
    job, other = world.job(task), world.job(task, "l1")
    run(world, job)
    run(world, other)
    whole = job.output.read_bytes()
    flipped = bytearray(whole)
    # A bit of the numbers: in the middle of the data of either format.
    flipped[-40 if task == "capture" else 40] ^= 4
    bad = {
        "truncated": whole[:-30],
        "foreign": b"hello",
        "of another address": other.output.read_bytes(),
        "one bit": bytes(flipped),
    }[how]
    cells.cell_path(job, world.address(job)).write_bytes(bad)
    job.output.unlink()
    run(world, job)
    assert job.output.read_bytes() == whole
    assert len(loads) == 2


@pytest.mark.parametrize("task", ["capture", "generate"])
def test_whoever_spoils_an_output_spoils_no_cell(world: World, loads: list[Path], task: str) -> None:
    job = world.job(task)
    run(world, job)
    cell = cells.cell_path(job, world.address(job))
    whole = cell.read_bytes()
    with job.output.open("r+b") as file:
        file.write(b"broken")
    assert cell.read_bytes() == whole
    job.output.unlink()
    run(world, job)
    assert job.output.read_bytes() == whole
    assert len(loads) == 1, "deleting the file and running again heals it without the model"


def test_outputs_are_new_each_time(world: World) -> None:
    job = world.job()
    run(world, job)
    os.utime(job.output, (1, 1))
    run(world, job)
    assert job.output.stat().st_mtime > 1


def test_two_outputs_never_share_one_file(world: World, tmp_path: Path) -> None:
    """Touching one would make the other look new."""
    job = world.job()
    run(world, job)
    os.utime(job.output, (1, 1))
    elsewhere = tmp_path / "other-run" / "h1.safetensors"
    cells.run(job, world.plan, elsewhere)
    assert elsewhere.read_bytes() == job.output.read_bytes()
    assert job.output.stat().st_mtime == 1


def test_outputs_are_copies_where_the_kernel_makes_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    job = world.job()
    run(world, job)
    cell = cells.cell_path(job, world.address(job))
    assert not job.output.samefile(cell)
    assert job.output.read_bytes() == cell.read_bytes()
    assert [path.name for path in job.output.parent.iterdir()] == [job.output.name], "no temporary file is left"


def test_jobs_at_the_same_time_load_the_model_once(world: World, loads: list[Path]) -> None:
    """Who waits for the lock leaves as soon as its own cell is there."""
    errors: list[BaseException] = []

    def work(job: Job) -> None:
        try:
            run(world, job)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(job,)) for job in world.plan]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert all(job.output.is_file() for job in world.plan)
    assert len(loads) == 1


def test_cells_that_jobs_wait_for_come_first(world: World) -> None:
    job = world.job()
    address = world.address(job)
    waited_for = world.job("generate", "l1", "ablation")
    mark = cells._wanted(job.cache, world.address(waited_for))
    mark.parent.mkdir(parents=True)
    mark.touch()
    pending = cells._Pending(job, world.plan, address, loading.fingerprint(job.model_folder, job.cache))
    first = pending.next()
    assert first is not None
    assert first[:2] == (waited_for, world.address(waited_for))
    found = [first]
    while following := pending.next():
        found.append(following)
    assert len(found) == len(world.plan) - 1, "each is given out once, and never the job itself"


def test_inputs_that_change_meanwhile_never_make_a_false_cell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.job("generate", "h1")
    stale = world.address(world.job("capture", "l1"))
    real = loading.load

    def load(*args: Any) -> loading.LoadedModel:
        write_prompts(world.root / "prompts/h1.parquet", "h1", 5)
        return real(*args)

    monkeypatch.setattr(loading, "load", load)
    address = world.address(job)
    with pytest.raises(PolygateError, match="inputs changed"):
        run(world, job)
    assert not cells.cell_path(job, address).exists()
    assert world.address(world.job("capture", "l1")) == stale


def test_jobs_that_make_no_sense_are_refused(world: World) -> None:
    good = world.describe("generate", "h1", "addition")
    changes: list[dict[str, Any]] = [
        {"task": "dream"},
        {"arm": "none"},
        {"intervention": None},
        {"max_new_tokens": "many"},
        {"model": {}},
    ]
    for change in changes:
        with pytest.raises(PolygateError, match=r"job|arm"):
            Job.parse({**good, **change})
    with pytest.raises(PolygateError, match="malformed"):
        Job.parse({"task": "capture"})


STAGE = (
    "import argparse, sys; from polygate.stages import forward;"
    "parser = argparse.ArgumentParser(); forward.configure(parser);"
    "forward.run(parser.parse_args(sys.argv[1:]));"
    "print(sorted({'torch', 'transformers', 'pandas', 'pydantic'} & set(sys.modules)))"
)


def test_the_stage_writes_its_output_and_a_hit_imports_nothing_heavy(world: World) -> None:
    described = world.describe("generate", "l1", "ablation")
    arguments = ["--job", json.dumps(described), "--plan", str(world.root / "plan.json")]
    parser = argparse.ArgumentParser()
    forward.configure(parser)
    forward.run(parser.parse_args([*arguments, "--output", described["output"]]))
    assert files.read_parquet(described["output"]).num_rows == 6
    again = world.root / "again.parquet"
    result = subprocess.run(
        [sys.executable, "-c", STAGE, *arguments, "--output", str(again)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert again.read_bytes() == Path(described["output"]).read_bytes()
    with pytest.raises(PolygateError, match="not valid JSON"):
        forward.run(parser.parse_args(["--job", "{", *arguments[2:], "--output", str(again)]))


def test_inputs_that_were_copied_elsewhere_are_read_there_and_so_are_those_of_the_plan(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    plan = [world.describe("generate", language, "ablation") for language in LANGUAGES]
    Path("plan.json").write_text(json.dumps(plan).replace(f"{world.root}/", ""))
    job = json.loads(Path("plan.json").read_text())[0]
    parser = argparse.ArgumentParser()
    forward.configure(parser)
    prompts = ["--prompts", str(world.root / job["prompts"])]
    forward.run(parser.parse_args(["--job", json.dumps(job), "--plan", "plan.json", *prompts, "--output", "made"]))
    assert files.read_parquet("made").num_rows == 6
    assert len(list(Path("cells").rglob("*.parquet"))) == len(LANGUAGES)


def test_a_language_without_test_prompts_gives_an_empty_table(world: World) -> None:
    rows = [table.Prompt("harmful-train-0000", "w1 w2")]
    table.write(world.root / "prompts/h1.parquet", table.build("h1", rows, missing=["harmful test"]))
    write_interventions(world.root, "h1")
    for arm, action in zip(ARMS, ("none", "add", "ablate"), strict=True):
        job = world.job("generate", "h1", arm)
        run(world, job)
        found = files.read_parquet(job.output)
        assert found.num_rows == 0
        assert files.parquet_metadata(found)["action"] == action, "tables tell arms apart by it"


def test_a_cell_is_the_same_bytes_again(world: World) -> None:
    outputs = []
    for _ in range(2):
        shutil.rmtree(world.root / "cells", ignore_errors=True)
        for job in (world.job(), world.job("generate", "h1", "addition")):
            run(world, job)
            outputs.append(job.output.read_bytes())
    assert outputs[:2] == outputs[2:]
    assert torch.get_num_threads() == 1
