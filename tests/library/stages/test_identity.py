"""Every reader refuses a file of another model, language, arm, budget or set of prompts than it was asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from library.representation.planted import World
from library.stages.test_stages import FIXED, FREE, GATE, HIGH, LANGUAGES, Chain, call
from polygate import files
from polygate.decision import applying
from polygate.errors import PolygateError
from polygate.forward import identity, loading
from polygate.forward.job import Job
from polygate.forward.options import Options
from polygate.prompts import table
from polygate.settings.types import Judging, Probes, dump
from polygate.stages import compare_probes, gate_scores, judge, recoverability, route, surface
from polygate.tables.cells import Cell, listed

OPTIONS = Options()
MODELS = ("ours", "theirs")


def made(root: Path, model: str) -> Chain:
    """The files of one model from activations to routed judgements, in a folder of their own."""
    folder = root / model / "weights"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": model}))
    contents = loading.fingerprint(folder, root / "cells")
    described = {"model": asdict(OPTIONS), "folder": str(folder), "cache": str(root / "cells")}
    world = World(root / model, gap=6.0, shift={"t": -4.0}, model=identity.of(OPTIONS, contents))
    for name in LANGUAGES:
        world.write(name)
    chain = Chain(root / model, world, json.dumps(described))
    chain.means()
    chain.directions()
    chain.choose(FIXED)
    for name in LANGUAGES:
        chain.gates(name)
        chain.intervene(name)
        chain.arms(name)
        chain.route(name)
    return chain


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chain]:
    root = tmp_path_factory.mktemp("identity")
    return {model: made(root, model) for model in MODELS}


def judged(chain: Chain) -> None:
    arms = ["addition", "ablation"]
    # The language of this chain is nobody's, so it brings its phrases.
    (chain.folder / "t.yaml").write_text("refusals: [w0]\n")
    call(
        judge,
        settings=dump({"judging": Judging(phrases=chain.folder)}),
        language="t",
        prompts=chain.table("t"),
        completions=[chain.path(f"completions/{arm}", "t.parquet") for arm in arms],
        outputs=[chain.folder / f"judged-{arm}.parquet" for arm in arms],
        arms=arms,
        interventions=[chain.path(f"interventions/{arm}", "t.safetensors") for arm in arms],
        **chain.asked(),
    )


def probed(stage: Any) -> Callable[[Chain], None]:
    def run(chain: Chain) -> None:
        call(
            stage,
            settings=dump({"gate": GATE, "probes": Probes(budgets=[1], draws=1), "pivot": "a", "seed": 0}),
            tiers=["high"] * len(HIGH) + ["mid", "low"],
            languages=LANGUAGES,
            activations=[chain.store(name) for name in LANGUAGES],
            prompts=[chain.table(name) for name in LANGUAGES],
            choices=chain.folder / "choices.parquet",
            draws=chain.folder / "draws.parquet",
            means=chain.folder / "means.parquet",
            **chain.asked(),
        )

    return run


def surfaced(chain: Chain) -> None:
    prompts = [chain.table(name) for name in HIGH]
    call(
        surface,
        target="t",
        sources=HIGH,
        prompts=prompts,
        own_prompts=chain.table("t"),
        output=chain.folder / "surface.parquet",
    )


def gated(chain: Chain) -> None:
    call(
        gate_scores,
        **chain.asked(),
        gates=chain.path("gates", "t"),
        dataset="",
        language="t",
        prompts=chain.table("t"),
        activations=chain.store("t"),
        output=chain.folder / "scored.parquet",
    )


def steered(chain: Chain) -> None:
    job = Job(
        "generate",
        OPTIONS,
        Path(json.loads(chain.of)["folder"]),
        chain.table("t"),
        chain.folder,
        chain.folder / "out",
        arm="addition",
        intervention=chain.path("interventions/addition", "t.safetensors"),
        language="t",
    )
    job.read(chain.world.model)


def tabulated(kind: str, **what: Any) -> Callable[[Chain], None]:
    def run(chain: Chain) -> None:
        key = {"model": "ours", "tier": "low", **what}
        # Another file of the model stands before: which model the name means is known from it.
        first = {"model": "ours", "tier": "high", "language": "a"}
        paths = [chain.path("gate_scores", "a.parquet"), chain.path(kind, "t.parquet")]
        assert listed(paths, [first, key])[1] == Cell(path=paths[1], **key)

    return run


def unsettled(chain: Chain) -> None:
    """Choosing with everything to choose; a swapped file is found before the model would be loaded."""
    chain.choose(FREE)


LOW, SCORES = "t.safetensors", ("gate_scores", "t.parquet")
ADDED, ABLATED = ("completions/addition", "t.parquet"), ("completions/ablation", "t.parquet")
READERS: dict[str, tuple[Callable[[Chain], None], list[tuple[str, str]]]] = {
    "means": (lambda chain: chain.means("t"), [("activations", LOW), ("prompts", "t.parquet")]),
    "directions": (
        lambda chain: chain.directions("t"),
        [("activations", LOW), ("prompts", "t.parquet"), ("means", LOW), ("means", "a.safetensors")],
    ),
    "choose, fixed": (lambda chain: chain.choose(FIXED), [("directions", "b.safetensors")]),
    "choose": (
        unsettled,
        [(kind, "b.safetensors") for kind in ("activations", "directions")] + [("prompts", "b.parquet")],
    ),
    "gates": (
        lambda chain: chain.gates("t"),
        [
            *(("activations", LOW), ("prompts", "t.parquet"), ("directions", LOW)),
            *(("activations", "b.safetensors"), ("prompts", "b.parquet"), (".", "choices.parquet")),
        ],
    ),
    "intervene": (
        lambda chain: chain.intervene("t"),
        [
            *(("prompts", "t.parquet"), ("directions", LOW), (".", "choices.parquet")),
            *(("activations", "b.safetensors"), ("prompts", "b.parquet")),
        ],
    ),
    "forward": (steered, [("prompts", "t.parquet"), ("interventions/addition", LOW)]),
    "judge": (
        judged,
        [("prompts", "t.parquet"), ADDED, ABLATED, ("interventions/addition", LOW), ("interventions/ablation", LOW)],
    ),
    "gate_scores": (gated, [("prompts", "t.parquet"), ("activations", LOW)]),
    "route": (
        lambda chain: chain.route("t"),
        [SCORES, ADDED, ABLATED, ("judgements/addition", "t.parquet"), ("judgements/ablation", "t.parquet")],
    ),
    "surface": (surfaced, [("prompts", "t.parquet"), ("prompts", "b.parquet")]),
    **{
        name: (probed(stage), [("activations", LOW), ("prompts", "b.parquet"), (".", "choices.parquet")])
        for name, stage in (("recoverability", recoverability), ("compare-probes", compare_probes))
    },
    "tables of scores": (tabulated("gate_scores", language="t"), [SCORES]),
    "tables of projections": (tabulated("projections", language="t"), [("projections", "t.parquet")]),
    "tables of judgements": (
        tabulated("judgements/addition", language="t", arm="addition", judge="rules"),
        [("judgements/addition", "t.parquet")],
    ),
    "tables of routed": (
        tabulated("judgements/routed-1", language="t", arm="routed", budget=1, judge="rules"),
        [("judgements/routed-1", "t.parquet")],
    ),
    "samples": (tabulated("completions/addition", language="t", arm="addition", judge="rules"), [ADDED]),
}

CASES = [(name, kind, file) for name, (_, inputs) in READERS.items() for kind, file in inputs]
OF_A_MODEL = [case for case in CASES if case[1] != "prompts"]
OF_AN_ARM = [case for case in CASES if "/" in case[1]]


@pytest.fixture
def replace(chains: dict[str, Chain]) -> Iterator[Callable[[str, str, Path], Path]]:
    """Puts another file in an input's place, for one test."""
    kept: list[tuple[Path, Path]] = []

    def put(kind: str, file: str, other: Path) -> Path:
        path = chains["ours"].path(kind, file)
        aside = path.with_name("aside")
        shutil.copyfile(path, aside)
        shutil.copyfile(other, path)
        kept.append((aside, path))
        return path

    yield put
    for aside, path in kept:
        aside.replace(path)


def refused(chain: Chain, reader: str, path: Path) -> None:
    with pytest.raises(PolygateError, match="holds") as caught:
        READERS[reader][0](chain)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("reader", "kind", "file"), [case for case in CASES if case[2] != "choices.parquet"])
def test_another_languages_file_is_refused(
    chains: dict[str, Chain], replace: Callable[..., Path], reader: str, kind: str, file: str
) -> None:
    ours = chains["ours"]
    other = f"m{Path(file).suffix}"
    refused(ours, reader, replace(kind, file, ours.path(kind, other)))


@pytest.mark.parametrize(("reader", "kind", "file"), OF_A_MODEL)
def test_another_models_file_is_refused(
    chains: dict[str, Chain], replace: Callable[..., Path], reader: str, kind: str, file: str
) -> None:
    refused(chains["ours"], reader, replace(kind, file, chains["theirs"].path(kind, file)))


@pytest.mark.parametrize(("reader", "kind", "file"), OF_AN_ARM)
def test_another_arms_or_budgets_file_is_refused(
    chains: dict[str, Chain], replace: Callable[..., Path], reader: str, kind: str, file: str
) -> None:
    swapped = {"addition": "ablation", "ablation": "addition", "routed-1": "routed-8"}
    folder, _, arm = kind.partition("/")
    ours = chains["ours"]
    refused(ours, reader, replace(kind, file, ours.path(f"{folder}/{swapped[arm]}", file)))


@pytest.mark.parametrize("reader", ["means", "gates", "judge"])
def test_files_of_reworded_prompts_are_refused(
    chains: dict[str, Chain], replace: Callable[..., Path], tmp_path: Path, reader: str
) -> None:
    """The same ids in the same language, one text is another."""
    ours = chains["ours"]
    prompts = table.read(ours.table("t"))
    texts = [*prompts.texts[:-1], "another text"]
    rows = [
        table.Prompt(name, text, category, source, reference)
        for name, text, category, source, reference in zip(
            prompts.ids, texts, prompts.categories, prompts.sources, prompts.references, strict=True
        )
    ]
    table.write(tmp_path / "t.parquet", table.build("t", rows), {})
    replace("prompts", "t.parquet", tmp_path / "t.parquet")
    with pytest.raises(PolygateError, match="holds prompts"):
        READERS[reader][0](ours)


@pytest.mark.parametrize("reader", [name for name in READERS if name != "choose"])
def test_the_right_files_are_read(chains: dict[str, Chain], reader: str) -> None:
    READERS[reader][0](chains["ours"])


def test_a_model_is_its_contents_and_options(chains: dict[str, Chain], tmp_path: Path) -> None:
    """Its name and where it lies don't count; a chat template of the user's own does, by its text."""
    assert chains["ours"].world.model != chains["theirs"].world.model
    template = tmp_path / "chat.jinja"
    found = set()
    for text in ("one", "another"):
        template.write_text(text)
        found.add(identity.of(Options(chat_template=template), "contents"))
    found.add(identity.of(Options(dtype="bfloat16"), "contents"))
    found.add(identity.of(Options(quantisation="4bit"), "contents"))
    assert len(found) == 4
    assert identity.of(Options(), "contents") == "dc6bd8bd12417aec", "gates in use elsewhere stay those of their models"
    with pytest.raises(PolygateError, match="chat template can't be read"):
        identity.of(Options(chat_template=tmp_path / "absent"), "contents")


def test_where_the_models_folder_is_gone_files_must_still_be_of_one_model(
    chains: dict[str, Chain], replace: Callable[..., Path]
) -> None:
    ours = chains["ours"]
    without = Chain(ours.folder, ours.world)
    without.gates("t")
    replace("activations", "b.safetensors", chains["theirs"].store("b"))
    with pytest.raises(PolygateError, match="holds model"):
        without.gates("t")


def test_interventions_say_what_they_are_of(chains: dict[str, Chain]) -> None:
    ours = chains["ours"]
    for arm in ("addition", "ablation"):
        said = files.safetensors_metadata(ours.path(f"interventions/{arm}", "t.safetensors"))
        assert (said["language"], said["model"], said["arm"]) == ("t", ours.world.model, arm)
        assert said["prompts"] == table.read(ours.table("t")).fingerprint()


@pytest.mark.parametrize(
    ("what", "cell"),
    [
        ("encoder", {"model": "", "tier": "low"}),
        ("gate", {"model": "m", "tier": "low"}),
        ("asked", {"model": "m", "tier": "low", "arm": "none", "judge": "paid"}),
    ],
)
def test_files_of_one_table_are_by_one_encoder_one_judge_and_one_kind_of_gate(
    tmp_path: Path, what: str, cell: dict[str, Any]
) -> None:
    """Whose names are the same, and who have become somebody else between two runs."""
    paths = []
    for language, who in (("a", "gpt-4o-mini"), ("b", "gpt-4o-mini"), ("t", "gpt-5")):
        paths.append(tmp_path / f"{language}.parquet")
        of = {"language": language, "judge": cell.get("judge"), "arm": cell.get("arm"), what: who}
        files.write_parquet(paths[-1], pa.table({"prompt_id": ["x"]}), {}, of)
    keys = [{**cell, "language": path.stem} for path in paths]
    assert len(listed(paths[:2], keys[:2])) == 2
    with pytest.raises(PolygateError, match=rf"holds {what} gpt-5, expected gpt-4o-mini, in .*t\.parquet"):
        listed(paths, keys)


def test_gates_of_other_settings_are_not_read_together(chains: dict[str, Chain], tmp_path: Path) -> None:
    """One budget's gates are left from a run that took a score at the threshold for harmful."""
    chain = chains["ours"]
    folder = tmp_path / "gates"
    shutil.copytree(chain.path("gates", "t"), folder)
    assert applying.read_gates(folder, gate=GATE.described)
    tied = GATE.model_copy(update={"ties": "harmful"})
    with pytest.raises(PolygateError, match=r"holds gate .*ties harmless, expected .*ties harmful, in .*0\.0"):
        applying.read_gates(folder, gate=tied.described)
    last = folder / f"{GATE.budgets[-1]}.0.safetensors"
    applying.Gate.load(last).save(last, {}, {"gate": tied.described})
    with pytest.raises(PolygateError, match=rf"ties harmful, expected .*ties harmless, in .*{last.name}"):
        applying.read_gates(folder)


def test_what_two_judges_said_is_not_routed_together(chains: dict[str, Chain], tmp_path: Path) -> None:
    chain = chains["ours"]
    given = {"scores": chain.path("gate_scores", "t.parquet"), "rank": GATE.rank, "budgets": [0]}
    for arm, who in (("addition", "gpt-4o-mini"), ("ablation", "gpt-5")):
        judged = files.read_parquet(chain.path(f"judgements/{arm}", "t.parquet"))
        given[f"{arm}_judgements"] = tmp_path / f"{arm}.parquet"
        files.write_parquet(tmp_path / f"{arm}.parquet", judged, {}, {"judge": "paid", "asked": who})
    with pytest.raises(PolygateError, match=r"holds asked gpt-5, expected gpt-4o-mini, in .*ablation\.parquet"):
        call(route, **given, **chain.asked(), judgements=tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
