"""The stages in a row, on a planted world: from activations to routed judgements, each reading the last one's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from library.representation.planted import WIDTH, World, naive_auc
from polygate import files, judges
from polygate.decision import fitting, gate
from polygate.errors import PolygateError
from polygate.forward import generation, loading
from polygate.forward.interventions import Intervention
from polygate.prompts import table
from polygate.representation.directions import Directions
from polygate.representation.store import ActivationStore
from polygate.settings.types import Gate, Generation, Judging, Model, Steering, dump
from polygate.stages import choose, directions, gate_scores, gates, intervene, means, route
from polygate.steering import validation
from polygate.steering.choice import DIP, Choice, GridPoint

HIGH, MID, LOW = ["a", "b", "c"], ["m"], ["t"]
LANGUAGES = [*HIGH, *MID, *LOW]
BUDGETS = [0, 1, 8]
GATE = Gate(rank=3, ranks=[1, 3], budgets=BUDGETS, draws=3)
FREE = Model(folder=Path("model"), dtype="float32")
PLANTED = (GridPoint(1, 0.5, "all", 1.0, 1.0, 1.25, {"m": 1.25}),)
FIXED = FREE.model_copy(update={"layer": 1, "strength": 1.5, "ablation": "all"})


def call(stage: ModuleType, **arguments: Any) -> None:
    """Run a stage as the command line does."""
    import argparse

    parser = argparse.ArgumentParser()
    stage.configure(parser)
    words = []
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    stage.run(parser.parse_args(words))


@dataclass
class Chain:
    """The stages over one folder."""

    folder: Path
    world: World
    of: str = ""
    """The model that stages are asked for, as JSON."""

    def asked(self) -> dict[str, str]:
        """The argument that names the model, where there is one."""
        return {"of": self.of} if self.of else {}

    def path(self, kind: str, name: str) -> Path:
        return self.folder / kind / name

    def store(self, language: str) -> Path:
        return self.path("activations", f"{language}.safetensors")

    def table(self, language: str) -> Path:
        return self.path("prompts", f"{language}.parquet")

    def sources(self, language: str) -> list[str]:
        return [name for name in HIGH if name != language]

    def means(self, *names: str) -> None:
        for name in names or LANGUAGES:
            target = self.path("means", f"{name}.safetensors")
            call(
                means,
                activations=self.store(name),
                prompts=self.table(name),
                output=target,
                language=name,
                **self.asked(),
            )

    def directions(self, *names: str) -> None:
        for name in names or LANGUAGES:
            call(
                directions,
                **self.asked(),
                settings=dump({"gate": GATE, "pivot": "a"}),
                target=name,
                sources=self.sources(name),
                means=[self.path("means", f"{s}.safetensors") for s in self.sources(name)],
                own_means=self.path("means", f"{name}.safetensors"),
                activations=self.store(name),
                prompts=self.table(name),
                directions=self.path("directions", f"{name}.safetensors"),
                projections=self.path("projections", f"{name}.parquet"),
            )

    def choose(
        self, model: Model, *, tiers: Sequence[str] = ("high", "mid"), output: str = "choices.parquet", **more: Any
    ) -> Choice:
        steering = Steering(strengths=[0.5, 1.0], chosen_on=list(tiers), prompts=5, **more)  # type: ignore[arg-type]
        sections = {"model": model, "gate": GATE, "steering": steering, "seed": 0}
        # As the workflow calls it: the languages of the tiers, and the sources in any case.
        names = [*HIGH, *(MID if "mid" in tiers else [])]
        call(
            choose,
            **self.asked(),
            settings=dump({**sections, "generation": Generation(), "judging": Judging()}),
            model_folder="nowhere",
            languages=names,
            sources=HIGH,
            prompts=[self.table(name) for name in names],
            activations=[self.store(name) for name in names],
            directions=[self.path("directions", f"{name}.safetensors") for name in names],
            output=self.folder / output,
        )
        return Choice.load(self.folder / output)

    def gates(self, name: str, sources: list[str] | None = None, settings: Gate = GATE) -> None:
        sources = sources or self.sources(name)
        call(
            gates,
            **self.asked(),
            settings=dump({"gate": settings, "seed": 0}),
            target=name,
            sources=sources,
            activations=[self.store(s) for s in sources],
            prompts=[self.table(s) for s in sources],
            own_activations=self.store(name),
            own_prompts=self.table(name),
            directions=self.path("directions", f"{name}.safetensors"),
            choices=self.folder / "choices.parquet",
            gates=self.path("gates", name),
            scores=self.path("gate_scores", f"{name}.parquet"),
        )

    def intervene(self, name: str, sources: list[str] | None = None) -> dict[str, Intervention]:
        sources = sources or self.sources(name)
        outputs = {arm: self.path(f"interventions/{arm}", f"{name}.safetensors") for arm in ("addition", "ablation")}
        call(
            intervene,
            **self.asked(),
            target=name,
            prompts=self.table(name),
            sources=sources,
            source_activations=[self.store(s) for s in sources],
            source_prompts=[self.table(s) for s in sources],
            directions=self.path("directions", f"{name}.safetensors"),
            choices=self.folder / "choices.parquet",
            **outputs,
        )
        return {arm: Intervention.load(path) for arm, path in outputs.items()}

    def arms(self, name: str) -> None:
        """Completions and judgements of the steered arms, each naming its arm and prompt."""
        prompts = table.read(self.table(name))
        rows = prompts.select("test")
        for arm, outcome in (("addition", "refused"), ("ablation", "complied")):
            identity = {"prompt_id": [prompts.ids[r] for r in rows], "subset": prompts.subset[rows].tolist()}
            text = [f"{arm} of {prompts.ids[r]}" for r in rows]
            n = len(rows)
            numbers = {"prompt_tokens": pa.array(range(n), pa.int32()), "new_tokens": pa.array([3] * n, pa.int32())}
            completions = pa.table({**identity, "completion": text, **numbers, "finished": [True] * n})
            of = {"language": name, "model": self.world.model, "prompts": prompts.fingerprint(rows.tolist())}
            of["action"] = {"addition": "add", "ablation": "ablate"}[arm]
            of["intervention"] = Intervention.load(self.path(f"interventions/{arm}", f"{name}.safetensors")).digest()
            files.write_parquet(self.path(f"completions/{arm}", f"{name}.parquet"), completions, {}, of)
            judged = {"outcome": [outcome] * n, "refusal_language": [""] * n, "raw": text}
            table_of = pa.table({**identity, **judged})
            files.write_parquet(self.path(f"judgements/{arm}", f"{name}.parquet"), table_of, {}, {**of, "arm": arm})

    def route(self, name: str) -> None:
        call(
            route,
            **self.asked(),
            scores=self.path("gate_scores", f"{name}.parquet"),
            rank=GATE.rank,
            addition_completions=self.path("completions/addition", f"{name}.parquet"),
            ablation_completions=self.path("completions/ablation", f"{name}.parquet"),
            addition_judgements=self.path("judgements/addition", f"{name}.parquet"),
            ablation_judgements=self.path("judgements/ablation", f"{name}.parquet"),
            budgets=BUDGETS,
            completions=[self.path(f"completions/routed-{b}", f"{name}.parquet") for b in BUDGETS],
            judgements=[self.path(f"judgements/routed-{b}", f"{name}.parquet") for b in BUDGETS],
        )


def directed(folder: Path, gap: float = 6.0) -> Chain:
    """A chain up to the directions."""
    world = World(folder, gap=gap, shift={"t": -4.0})
    for name in LANGUAGES:
        world.write(name)
    made = Chain(folder, world)
    made.means()
    made.directions()
    return made


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A chain up to the directions, for a test of its own."""
    return directed(tmp_path)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain to its end, with everything fixed in the settings; tests leave it as it is."""
    made = directed(tmp_path_factory.mktemp("routed"))
    made.choose(FIXED)
    for name in LANGUAGES:
        made.gates(name)
        made.intervene(name)
        made.arms(name)
        made.route(name)
    return made


def acted(intervention: Intervention, row: int) -> tuple[str, SimpleNamespace]:
    """What is done to a prompt: add at a layer with a strength, or ablate at a scope."""
    parts = [part for part in intervention.parts if part.coefficients[row]]
    assert len(parts) <= 1
    if not parts:
        return "ablate", SimpleNamespace(scope="none")
    (part,) = parts
    if part.operation == "add":
        assert part.tokens == "answering"
        return "add", SimpleNamespace(layer=part.layers[0], alpha=part.coefficients[row], v=part.vectors[0])
    assert (part.tokens, part.coefficients[row]) == ("every", 1)
    return "ablate", SimpleNamespace(scope="all" if len(part.layers) > 1 else "layer", v=part.vectors[0])


class FakeModel:
    """Generates and judges in the stage's stead: the text says what was done, the outcome follows from it."""

    def __init__(self, outcome: Callable[[str, Any, bool], str], harmful_texts: set[str]) -> None:
        self.outcome, self.harmful = outcome, harmful_texts
        self.prompts: list[str] = []
        self.calls = 0

    def generate(
        self, _loaded: Any, prompts: Sequence[str], intervention: Intervention, **options: Any
    ) -> list[SimpleNamespace]:
        assert options["max_new_tokens"] == Generation().max_new_tokens
        assert tuple(options["names"]) == intervention.prompt_ids
        self.calls += 1
        self.prompts += prompts
        rows = [acted(intervention, row) for row in range(len(prompts))]
        return [
            SimpleNamespace(text=self.outcome(act, how, text in self.harmful))
            for text, (act, how) in zip(prompts, rows, strict=True)
        ]

    def outcomes(
        self, _language: str, prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]
    ) -> list[SimpleNamespace]:
        assert len(prompts) == len(completions) == len(references)
        assert set(references) <= {"thing"}
        return [SimpleNamespace(outcome=text) for text in completions]


@pytest.fixture
def fake(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, Any, bool], str]], FakeModel]:
    """Puts a fake model and judge in place."""

    def place(outcome: Callable[[str, Any, bool], str]) -> FakeModel:
        tables = [table.read(chain.table(name)) for name in LANGUAGES]
        harmful = {t.texts[i] for t in tables for i in np.flatnonzero(t.harmful)}
        model = FakeModel(outcome, harmful)
        monkeypatch.setattr(loading, "load", lambda *_, **__: SimpleNamespace(facts=dict, kept_bytes=0))
        monkeypatch.setattr(generation, "generate", model.generate)
        monkeypatch.setattr(judges, "load", lambda *_: model)
        return model

    return place


def best_at_layer_2(action: str, how: Any, harmful: bool) -> str:
    """Refuses the harmful and answers the harmless at layer 2 with the weaker strength and one-layer ablation only."""
    if action == "add":
        return "refused" if how.layer == 2 and how.alpha < 8 and harmful else "garbled"
    return "complied" if how.scope == "layer" else "garbled"


def test_choosing_finds_the_planted_optimum(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    model = fake(best_at_layer_2)
    found = chain.choose(FREE)
    assert (found.layer, found.strength, found.scope) == (2, 0.5, "layer")
    assert found.languages == ("a", "b", "c", "m")
    assert model.calls == 3  # One batch per layer.


def test_choosing_steers_by_alpha_times_the_gap_of_the_layer(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    """α = λ·gap along the pooled direction, from the language's own sources."""
    seen: set[tuple[int, float]] = set()

    def spy(action: str, how: Any, _harmful: bool) -> str:
        if action == "add":
            seen.add((how.layer, round(how.alpha, 6)))
        return "complied"

    fake(spy)
    chain.choose(FREE, tiers=["mid"])
    expected = {(layer, strength * source_gap(chain, "m", layer)) for layer in range(3) for strength in (0.5, 1.0)}
    assert sorted(seen) == [(layer, pytest.approx(alpha, abs=1e-4)) for layer, alpha in sorted(expected)]


def test_the_layer_can_be_that_of_the_dip(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    """v_HRL of layer 1, ablated at all layers, makes all languages comply; that of layer 0 half of the prompts."""
    found = {name: Directions.load(chain.path("directions", f"{name}.safetensors")) for name in (*HIGH, "m")}
    layer_of = {one.pc1_of_diffs[layer].tobytes(): layer for one in found.values() for layer in range(3)}
    seen: list[int] = []

    def dipping(action: str, how: Any, harmful: bool) -> str:
        layer = layer_of.get(how.v.tobytes()) if action == "ablate" and how.scope == "all" else None
        if layer is None:
            return best_at_layer_2(action, how, harmful)
        assert harmful
        seen.append(layer)
        return "complied" if layer == 1 or (layer == 0 and len(seen) % 2) else "refused"

    model = fake(dipping)
    choice = chain.choose(FREE, layer_by="dip")
    assert choice.layer == 1
    assert choice.dips == {0: pytest.approx(0.5, abs=0.11), 1: 0.0, 2: 1.0}
    assert {point.layer for point in choice.grid} == {1}
    assert len(seen) == 3 * 4 * 5
    assert model.calls == 2  # The sweep, and the one layer that is left.
    rows = {row["what"]: row for row in files.read_parquet(chain.folder / "choices.parquet").to_pylist()}
    assert rows["layer"]["criterion"] == DIP
    assert rows["layer"]["criterion_value"] == 0.0
    assert rows["strength"]["criterion"] != DIP


def test_choosing_never_reads_test_prompts(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    """Spoil every test row, and every val row beyond the limit: the same choice to the last bit, nothing steered."""
    model = fake(best_at_layer_2)
    before = chain.choose(FREE)
    steered = set(model.prompts)
    for name in LANGUAGES:
        prompts = chain.world.prompts(name)
        x = chain.world.activations(prompts)
        spared = np.concatenate([prompts.select("val", subset)[:5] for subset in table.SUBSETS])
        assert not steered & {prompts.texts[row] for row in set(range(len(prompts))) - set(spared.tolist())}
        others = np.setdiff1d(np.flatnonzero(prompts.split != "train"), spared)
        x[:, others] = np.random.default_rng(0).normal(size=(3, len(others), WIDTH)) * 30
        chain.world.write_activations(prompts, x)
    after = chain.choose(FREE, output="again.parquet")
    assert after == before
    assert set(model.prompts) == steered
    assert (chain.folder / "again.parquet").read_bytes() == (chain.folder / "choices.parquet").read_bytes()


@pytest.mark.parametrize(("tiers", "expected"), [(["mid"], "m"), (["high"], "abc"), (["high", "mid"], "abcm")])
def test_only_the_tiers_of_the_settings_choose(
    chain: Chain, fake: Callable[..., FakeModel], tiers: list[str], expected: str
) -> None:
    model = fake(best_at_layer_2)
    assert "".join(chain.choose(FREE, tiers=tiers).languages) == expected
    assert {text.split()[0] for text in model.prompts} == set(expected)


def test_what_the_settings_fix_is_kept_and_loads_no_model(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loading, "load", loaded)
    found = chain.choose(FIXED)
    assert (found.layer, found.strength, found.scope) == (1, 1.5, "all")
    assert found.fixed == ("layer", "strength", "ablation")


def test_one_fixed_setting_leaves_the_others_to_be_chosen(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    fake(best_at_layer_2)
    found = chain.choose(FREE.model_copy(update={"layer": 0}))
    assert (found.layer, found.fixed, found.scope) == (0, ("layer",), "layer")
    assert {point.layer for point in found.grid} == {0}


def test_a_layer_that_the_model_lacks_is_named(chain: Chain) -> None:
    with pytest.raises(PolygateError, match="layer 3 is asked for, but the model has layers 0 to 2"):
        chain.choose(FIXED.model_copy(update={"layer": 3}))


def test_a_saved_gate_elsewhere_gives_exactly_the_scores_of_the_table(routed: Chain) -> None:
    """Load each gate file alone, read the stored activations, and compare bit by bit."""
    for name in ("t", "a"):
        scores = files.read_parquet(routed.path("gate_scores", f"{name}.parquet")).to_pandas()
        store = ActivationStore.open(routed.store(name))
        prompts = table.read(routed.table(name))
        paths = sorted(routed.path("gates", name).glob("*.safetensors"))
        assert len(paths) == 1 + 3 + 3
        for path in paths:
            loaded = gate.load(path)
            budget, draw = (int(part) for part in path.stem.split("."))
            rows = scores[(scores["rank"] == loaded.rank) & (scores.budget == budget) & (scores.draw == draw)]
            x = store.read(loaded.layer, loaded.position, prompts.rows_of(rows.prompt_id))
            np.testing.assert_array_equal(loaded.score(x), rows.score.to_numpy())
            np.testing.assert_array_equal(loaded.decide(x), rows.flagged.to_numpy())
            assert (loaded.threshold == rows.threshold).all()
            assert name not in loaded.sources


def test_gates_are_fitted_on_multiple_choice_prompts_of_the_sources_and_say_so(routed: Chain) -> None:
    balance = gate.load(routed.path("gates", "t") / "8.0.safetensors").balance
    assert balance == {"a": (40, 30 + 6), "b": (40, 30 + 6), "c": (40, 30 + 6), "t": (8, 8)}


def test_saved_gates_say_of_stored_activations_what_they_said_when_they_were_fitted(routed: Chain) -> None:
    output = routed.path("gate_scores", "again.parquet")
    what = {"gates": routed.path("gates", "t"), "prompts": routed.table("t"), "activations": routed.store("t")}
    call(gate_scores, **routed.asked(), **what, dataset="", language="t", output=output)
    first, again = (files.read_parquet(routed.path("gate_scores", name)) for name in ("t.parquet", "again.parquet"))
    tested = first.filter(pc.equal(first["split"], "test"))
    assert set(again["rank"].to_pylist()) == {1, GATE.rank} == set(first["rank"].to_pylist())
    assert again.replace_schema_metadata(None).equals(tested.replace_schema_metadata(None))
    assert set(again["budget"].to_pylist()) == set(BUDGETS)


def test_gates_of_another_language_or_none_are_refused_in_one_line(routed: Chain, tmp_path: Path) -> None:
    what = {"prompts": routed.table("t"), "activations": routed.store("t"), "output": tmp_path / "out.parquet"}
    with pytest.raises(PolygateError, match="holds language a, expected t"):
        call(gate_scores, gates=routed.path("gates", "a"), dataset="", language="t", **what)
    with pytest.raises(PolygateError, match="no gates in it"):
        call(gate_scores, gates=tmp_path, dataset="", language="t", **what)


def test_gate_scores_cover_val_and_test_and_say_where_thresholds_come_from(routed: Chain) -> None:
    scores = files.read_parquet(routed.path("gate_scores", "t.parquet")).to_pandas()
    assert set(scores.split) == {"val", "test"}
    assert scores.groupby(["rank", "budget", "draw"]).size().unique().tolist() == [8 + 8 + 25 + 20]
    assert set(scores[scores.budget == 0].threshold_from) == {"source"}
    assert set(scores[scores.budget > 0].threshold_from) == {"examples"}
    assert (scores.flagged == (scores.score > scores.threshold)).all()


def test_the_rank_of_a_high_resource_language_is_clipped_to_its_sources(routed: Chain) -> None:
    ranks = {
        name: set(files.read_parquet(routed.path("gate_scores", f"{name}.parquet"))["rank"].to_pylist())
        for name in "at"
    }
    assert ranks == {"a": {1, 2}, "t": {1, 3}}
    assert gate.load(routed.path("gates", "a") / "0.0.safetensors").rank == 2


def source_gap(chain: Chain, name: str, layer: int) -> float:
    """The projection gap of a language's sources along its pooled direction."""
    v = files.read_safetensors(chain.path("directions", f"{name}.safetensors"))[0]["pooled_dim"][layer].astype(float)
    along, labels = [], []
    for source in chain.sources(name):
        prompts = table.read(chain.table(source))
        rows = prompts.select("train")
        along.append(ActivationStore.open(chain.store(source)).read(layer, "t_post_inst", rows) @ v)
        labels.append(prompts.harmful[rows])
    x, y = np.concatenate(along), np.concatenate(labels)
    return float(np.percentile(x[y], 75) - np.percentile(x[~y], 25))


def test_every_test_prompt_is_steered_along_the_pooled_direction_with_alpha_from_the_sources(routed: Chain) -> None:
    arms = ("addition", "ablation")
    found = {arm: Intervention.load(routed.path(f"interventions/{arm}", "t.safetensors")) for arm in arms}
    prompts = table.read(routed.table("t"))
    pooled = files.read_safetensors(routed.path("directions", "t.safetensors"))[0]["pooled_dim"]
    for intervention in found.values():
        assert intervention.prompt_ids == tuple(prompts.ids[row] for row in prompts.select("test"))
    (add,), (cut,) = found["addition"].parts, found["ablation"].parts
    assert (add.layers, add.operation, add.tokens) == ((1,), "add", "answering")
    assert (cut.layers, cut.operation, cut.tokens) == ((0, 1, 2), "ablate", "every")
    np.testing.assert_array_equal(add.vectors, pooled[1:2])
    np.testing.assert_array_equal(cut.vectors, np.stack([pooled[1]] * 3))
    assert set(cut.coefficients) == {1.0}
    saved = gate.load(routed.path("gates", "t") / "8.2.safetensors")
    assert set(add.coefficients) == {saved.alpha}
    assert saved.alpha == pytest.approx(1.5 * source_gap(routed, "t", 1), rel=1e-6)
    np.testing.assert_array_equal(saved.v, pooled[1])
    assert saved.layer == 1


def test_a_language_is_steered_at_its_own_strength_where_it_has_one(chain: Chain) -> None:
    grid = (replace(PLANTED[0], scope="none"),)
    Choice(1, 1.5, "none", own={"m": 0.5}, languages=("m",), grid=grid).save(chain.folder / "choices.parquet", {})
    for name, strength in (("m", 0.5), ("t", 1.5)):
        chain.gates(name)
        found = chain.intervene(name)
        saved = gate.load(chain.path("gates", name) / "0.0.safetensors")
        (add,) = found["addition"].parts
        assert set(add.coefficients) == {saved.alpha}
        assert saved.alpha == pytest.approx(strength * source_gap(chain, name, 1), rel=1e-6)
        assert found["ablation"].parts == (), "ablation nowhere leaves prompts alone"


def test_the_directions_separate_a_language_they_have_never_seen(routed: Chain) -> None:
    scores = files.read_parquet(routed.path("projections", "t.parquet")).to_pandas()
    chosen = scores[(scores.layer == 1) & (scores.scorer == "v_hrl") & (scores.split == "test")]
    assert naive_auc(chosen.score.to_numpy(), (chosen.subset == "harmful").to_numpy()) > 0.98


def test_every_routed_row_is_the_row_of_the_arm_its_gate_chose(routed: Chain) -> None:
    for budget, draws in ((0, 1), (1, 3), (8, 3)):
        texts = files.read_parquet(routed.path(f"completions/routed-{budget}", "t.parquet")).to_pandas()
        judged = files.read_parquet(routed.path(f"judgements/routed-{budget}", "t.parquet")).to_pandas()
        assert len(texts) == len(judged) == draws * (25 + 20)
        arm = texts.flagged.map({True: "addition", False: "ablation"})
        assert (texts.completion == arm + " of " + texts.prompt_id).all()
        assert (judged.outcome == judged.flagged.map({True: "refused", False: "complied"})).all()
        assert (judged.flagged == texts.flagged).all()
        assert (judged.raw == texts.completion).all()
        assert texts.draw.dtype == judged.draw.dtype == np.int16


def test_eight_examples_repair_the_decisions_of_a_shifted_language(routed: Chain) -> None:
    def accuracy(budget: int) -> float:
        judged = files.read_parquet(routed.path(f"judgements/routed-{budget}", "t.parquet")).to_pandas()
        return float(((judged.outcome == "refused") == (judged.subset == "harmful")).mean())

    assert accuracy(8) > accuracy(0) + 0.1


def test_gates_of_other_settings_leave_no_files_behind(routed: Chain) -> None:
    stale = routed.path("gates", "t") / "64.0.safetensors"
    stale.write_bytes(b"old")
    routed.gates("t")
    assert not stale.exists()
    assert (routed.path("gates", "t") / "card.md").read_text().startswith("# Gates for t")


def test_a_second_run_gives_the_same_results(routed: Chain) -> None:
    def content() -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(routed.folder.rglob("*")):
            if path.suffix == ".safetensors" and path.parent.name != "activations":
                tensors, metadata = files.read_safetensors(path)
                found[str(path)] = ({name: value.tobytes() for name, value in tensors.items()}, metadata)
            elif path.suffix in {".parquet", ".md"}:
                found[str(path)] = path.read_bytes()
        return found

    before = content()
    routed.means()
    routed.directions()
    routed.choose(FIXED)
    for name in LANGUAGES:
        routed.gates(name)
        routed.intervene(name)
        routed.route(name)
    assert content() == before
    assert len(before) > 60


def test_sources_must_be_those_of_the_directions(routed: Chain) -> None:
    for sources in (["a", "b"], ["a", "b", "t"]):
        for stage in (routed.gates, routed.intervene):
            with pytest.raises(PolygateError, match="are from"):
                stage("t", sources)


def test_every_file_says_what_made_it(routed: Chain) -> None:
    made = [
        *(routed.path(kind, "t.safetensors") for kind in ("means", "directions")),
        *(routed.path(f"interventions/{arm}", "t.safetensors") for arm in ("addition", "ablation")),
        *(routed.path(kind, "t.parquet") for kind in ("projections", "gate_scores")),
        *(routed.path(f"{kind}/routed-8", "t.parquet") for kind in ("completions", "judgements")),
        routed.path("gates", "t") / "8.1.safetensors",
        routed.folder / "choices.parquet",
    ]
    for path in made:
        assert files.read_provenance(path)["module"].startswith("polygate.stages."), path


def test_choices_keep_the_grid_in_their_metadata(chain: Chain, fake: Callable[..., FakeModel]) -> None:
    fake(best_at_layer_2)
    found = chain.choose(FREE)
    stored = files.read_parquet(chain.folder / "choices.parquet").schema.metadata
    assert len(json.loads(stored[b"grid"])) == len(found.grid) == 3 * 2 * 2


def test_choosing_takes_a_score_at_the_threshold_as_the_gates_do(
    routed: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the threshold put on a val prompt's score, `gate.ties` decides about that prompt and no other."""
    found = Directions.load(routed.path("directions", "m.safetensors"), language="m")
    languages = {
        name: (ActivationStore.open(routed.store(name)), table.read(routed.table(name))) for name in [*HIGH, "m"]
    }
    rows = validation.validation_rows(languages["m"][1], 5)
    features = fitting.read(languages["m"][0], found, [1]).features[0, rows]
    fit_source = fitting.fit_source

    def on_a_score(*args: Any, **how: Any) -> fitting.Fit:
        fit = fit_source(*args, **how)
        at = float(np.sort(fit.score(features))[4])
        return replace(fit, threshold=replace(fit.threshold, threshold=at))

    monkeypatch.setattr(fitting, "fit_source", on_a_score)
    flagged = [
        validation.case(found, rows, languages, [1], GATE.model_copy(update={"ties": ties}), 0).flagged[1].sum()
        for ties in ("harmless", "harmful")
    ]
    assert flagged == [5, 6]
