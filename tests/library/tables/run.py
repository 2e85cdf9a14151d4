"""A planted run: the result files of two models in a few languages, small, with every truth known.

Each harmful prompt has a latent strength. A model's projection sees it with noise; its gate flags what lies above a
threshold that is right for high-resource languages and `shift` too high in low-resource ones; examples repair that.
The unsteered model refuses a share of the harmful prompts given per tier. Files are written in the contract's layout.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from library.controls.standin import FACTS, embed
from library.tables import promises
from polygate import files
from polygate.controls import surface
from polygate.controls.semantic import Embedded, semantic_gates, semantic_scores
from polygate.prompts import table
from polygate.prompts.table import Prompt, PromptTable, prompt_id
from polygate.settings.types import Calibration, Gate, Statistics
from polygate.stages.surface import score_table
from polygate.steering.choice import Choice
from polygate.tables import (
    calibration,
    choices,
    decomposition,
    diagnosis,
    gates,
    positions,
    refusal,
    samples,
    selectivity,
    separability,
)
from polygate.tables.cells import SEMANTIC_GATE, Cell

LAYERS = 2
CHOSEN = 1
BUDGETS = (0, 1, 4)
DRAWS = 3
RANKS = (1, 2)
POSITIONS = {"t_inst": 0, "t_post_inst": 1}
"""Token positions, and the layer at which each tells something."""
ARMS = ("none", "addition", "ablation")
JUDGE = "rules"
WORDS = ("kato", "mira", "selu", "pona", "tivo", "raku", "lemi", "dosa")


@dataclass
class Run:
    """Write with `write()`, then take the cells."""

    folder: Path
    languages: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"high": ["h1", "h2", "h3"], "mid": ["m1"], "low": ["l1", "l2"]}
    )
    models: Sequence[str] = ("alpha", "beta")
    n: int = 30
    gap: float = 3.0
    shift: float = 2.5
    acts: Mapping[str, float] = field(default_factory=lambda: {"high": 1.0, "mid": 0.8, "low": 0.3})
    longer: bool = False
    telling: bool = False
    encoder: bool = False
    without: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def all(self) -> list[tuple[str, str]]:
        """(tier, language) in order."""
        return [(tier, name) for tier, names in self.languages.items() for name in names]

    def write(self) -> Run:
        """Write every file."""
        for tier, language in self.all():
            prompts = self.prompts(language)
            table.write(self.path(f"prompts/{language}"), prompts, {})
            self._surface(language)
            if self.encoder:
                self._semantic(language)
            for model in self.models:
                self._model(model, tier, prompts)
        for model in self.models:
            Choice(CHOSEN, 1.0, "layer", (), 0.9, ("h1", "m1")).save(self.path(f"{model}/choices"), {})
            files.write_parquet(self.path(f"{model}/calibration"), promises.decisions(self, len(model)), {})
        if self.encoder:
            files.write_parquet(self.path("semantic_calibration"), promises.decisions(self, 9, encoded=True), {})
        return self

    def path(self, name: str) -> Path:
        """A result file."""
        return self.folder / f"{name}.parquet"

    def prompts(self, language: str) -> PromptTable:
        """Prompts of a language: words at random; harmful ones are longer when `longer` plants that cue.

        `telling` plants a word of each class, which tells an encoder all and the surface nothing.
        """
        random = np.random.default_rng([self.seed, *language.encode()])
        rows = []
        for split, n in (("train", 40), ("val", 4), ("test", self.n)):
            for subset in ("harmful", "harmless"):
                if self.without.get(language) == f"{subset} {split}":
                    continue
                for i in range(n):
                    count = int(random.integers(4, 9)) + (6 if self.longer and subset == "harmful" else 0)
                    words = [*random.choice(WORDS, count)]
                    if self.telling:
                        words.insert(count // 2, "harm" if subset == "harmful" else "ease")
                    text = " ".join(words) + " ."
                    rows.append(Prompt(prompt_id(subset, split, i), text, reference="kato"))  # type: ignore[arg-type]
        return table.build(language, rows)

    def _surface(self, language: str) -> None:
        tables = self._tables()
        sources = [tables[name] for name in self.languages["high"] if name != language]
        scores = surface.surface_scores(sources, tables[language])
        files.write_parquet(self.path(f"surface/{language}"), score_table(tables[language], scores, ()), {})

    def _semantic(self, language: str) -> None:
        """What a stand-in encoder tells, with gates of the budgets of the model's."""
        embedded = {name: Embedded(prompts, embed(prompts.texts), FACTS) for name, prompts in self._tables().items()}
        sources = [embedded[name] for name in self.languages["high"] if name != language]
        own = embedded[language]
        settings = Gate(rank=1, ranks=[1], budgets=list(BUDGETS), draws=DRAWS)
        scores, fitted = semantic_scores(sources, own), list(semantic_gates(sources, own, settings, 0))
        made = score_table(own.prompts, scores, fitted, own.values[scores.rows], SEMANTIC_GATE)
        files.write_parquet(self.path(f"semantic/{language}"), made, {})

    def _tables(self) -> dict[str, PromptTable]:
        return {name: self.prompts(name) for _, name in self.all()}

    def latent(self, prompts: PromptTable, rows: NDArray[np.int64], salt: int) -> NDArray[np.float64]:
        """What the model sees of each prompt: harmful ones lie `gap` higher."""
        random = np.random.default_rng([self.seed, salt, *prompts.language.encode()])
        return self.gap * prompts.harmful[rows] + random.normal(size=len(rows))

    def _model(self, model: str, tier: str, prompts: PromptTable) -> None:
        rows = np.concatenate([prompts.select("val"), prompts.select("test")])
        base = {
            "prompt_id": [prompts.ids[i] for i in rows],
            "split": prompts.split[rows].tolist(),
            "subset": prompts.subset[rows].tolist(),
        }
        salt = len(model)
        lengths = np.array([len(prompts.texts[i].split()) for i in rows], np.int32)
        parts = [
            pa.table(
                {
                    **base,
                    "token_count": lengths,
                    "layer": pa.array([layer] * len(rows), pa.int16()),
                    "scorer": [scorer] * len(rows),
                    "score": self.latent(prompts, rows, salt) * (1 if layer == CHOSEN else 0.3)
                    + self.latent(prompts, rows, salt + 1) * 0
                    + np.random.default_rng([layer, k]).normal(size=len(rows)),
                }
            )
            for layer in range(LAYERS)
            for k, scorer in enumerate(("v_hrl", "v_hrl_pooled", "local"))
        ]
        language = prompts.language
        files.write_parquet(self.path(f"{model}/projections/{language}"), pa.concat_tables(parts), {})
        self._positions(model, tier, prompts, rows, base)
        self._gates(model, tier, prompts, rows, base)
        self._texts(model, tier, prompts)

    def _positions(
        self, model: str, tier: str, prompts: PromptTable, rows: NDArray[np.int64], base: dict[str, list[str]]
    ) -> None:
        """At t_inst, layer 0, harmfulness; at t_post_inst, layer 1, what is refused (a trace of harm where all is)."""
        latent = self.latent(prompts, rows, len(model))
        refused = np.array([self.refuses(tier, prompts, row) for row in rows])
        late = 0.1 * latent if tier == "high" else 2.0 * refused
        parts = []
        for position, signal in (("t_inst", latent), ("t_post_inst", late)):
            for layer in range(LAYERS):
                strength = 1.0 if layer == POSITIONS[position] else 0.1
                for k, direction in enumerate(("v_hrl", "v_hrl_pooled")):
                    noise = np.random.default_rng([9, layer, k, len(position)]).normal(size=len(rows))
                    place = {
                        "position": [position] * len(rows),
                        "layer": pa.array([layer] * len(rows), pa.int16()),
                        "direction": [direction] * len(rows),
                    }
                    parts.append(pa.table({**base, **place, "score": strength * signal + 0.5 * noise}))
        files.write_parquet(self.path(f"{model}/positions/{prompts.language}"), pa.concat_tables(parts), {})

    def refuses(self, tier: str, prompts: PromptTable, row: int) -> bool:
        """Whether the unsteered model refuses a prompt: the first share of the harmful ones of its split."""
        number = int(prompts.ids[row].split("-")[-1])
        return bool(prompts.harmful[row]) and number < round(self.acts[tier] * self.n)

    def _gates(
        self, model: str, tier: str, prompts: PromptTable, rows: NDArray[np.int64], base: dict[str, list[str]]
    ) -> None:
        scores = self.latent(prompts, rows, len(model)) - (self.shift if tier == "low" else 0.0)
        parts = []
        for rank in RANKS:
            for budget in BUDGETS:
                for draw in range(1 if budget == 0 else DRAWS):
                    wobble = np.random.default_rng([rank, budget, draw]).normal(scale=0.2)
                    repaired = -self.shift if budget and tier == "low" else 0.0
                    threshold = self.gap / 2 + repaired + wobble
                    repeated = {
                        "rank": pa.array([rank] * len(rows), pa.int16()),
                        "budget": pa.array([budget] * len(rows), pa.int16()),
                        "draw": pa.array([draw] * len(rows), pa.int16()),
                        "solver": ["convex"] * len(rows),
                        "threshold_from": ["examples" if budget else "source"] * len(rows),
                        "threshold": [threshold] * len(rows),
                    }
                    seen = scores + 0.1 * np.random.default_rng([7, rank, budget, draw]).normal(size=len(rows))
                    flagged = {"score": seen, "flagged": seen > threshold}
                    parts.append(pa.table({**base, **repeated, **flagged}))
        files.write_parquet(self.path(f"{model}/gate_scores/{prompts.language}"), pa.concat_tables(parts), {})

    def outcomes(self, tier: str, prompts: PromptTable, arm: str) -> list[str]:
        """Outcomes of the test prompts in order: the first share of the harmful ones is refused."""
        rows = prompts.select("test")
        said = []
        for row in rows:
            number = int(prompts.ids[row].split("-")[-1])
            if arm == "addition":
                said.append("refused")
            elif arm == "ablation":
                said.append("garbled" if number == 0 else "complied")
            else:
                said.append("refused" if self.refuses(tier, prompts, row) else "complied")
        return said

    def _texts(self, model: str, tier: str, prompts: PromptTable) -> None:
        rows = prompts.select("test")
        base = {"prompt_id": [prompts.ids[i] for i in rows], "subset": prompts.subset[rows].tolist()}
        kept: dict[str, dict[str, list[Any]]] = {}
        for arm in ARMS:
            said = self.outcomes(tier, prompts, arm)
            languages = [prompts.language if outcome == "refused" else "" for outcome in said]
            kept[arm] = {"outcome": said, "refusal_language": languages, "raw": [""] * len(said)}
            kept[arm]["completion"] = [f"{arm} {name}" for name in base["prompt_id"]]
            self._write_arm(model, prompts.language, arm, base, kept[arm], {})
        scores = files.read_parquet(self.path(f"{model}/gate_scores/{prompts.language}")).to_pylist()
        for budget in BUDGETS:
            decided = [
                row for row in scores if (row["split"], row["rank"], row["budget"]) == ("test", RANKS[-1], budget)
            ]
            order = {name: i for i, name in enumerate(base["prompt_id"])}
            picked: dict[str, list[Any]] = {name: [] for name in (*kept["none"], "prompt_id", "subset")}
            for row in decided:
                source = kept["addition" if row["flagged"] else "ablation"]
                for name, values in source.items():
                    picked[name].append(values[order[row["prompt_id"]]])
                picked["prompt_id"].append(row["prompt_id"])
                picked["subset"].append(row["subset"])
            more = {
                "draw": [row["draw"] for row in decided],
                "gate_score": [row["score"] for row in decided],
                "flagged": [row["flagged"] for row in decided],
            }
            names = {"prompt_id": picked.pop("prompt_id"), "subset": picked.pop("subset")}
            self._write_arm(model, prompts.language, f"routed-{budget}", names, picked, more)

    def _write_arm(
        self,
        model: str,
        language: str,
        arm: str,
        base: dict[str, list[str]],
        said: Mapping[str, list[Any]],
        more: Mapping[str, list[Any]],
    ) -> None:
        texts = {**base, "completion": said["completion"], **more}
        judged = {**base, **{name: said[name] for name in ("outcome", "refusal_language", "raw")}, **more}
        schema = {"draw": pa.int16()}
        for folder, columns in (("completions", texts), (f"judgements/{JUDGE}", judged)):
            arrays = {name: pa.array(values, schema.get(name)) for name, values in columns.items()}
            files.write_parquet(self.path(f"{model}/{folder}/{arm}/{language}"), pa.table(arrays), {})

    # Cells, as the workflow gives them.

    def per_language(self, folder: str) -> list[Cell]:
        """Cells of one file per model and language."""
        return [
            Cell(model, tier, language, self.path(f"{model}/{folder}/{language}"))
            for model in self.models
            for tier, language in self.all()
        ]

    def arms(self, folder: str) -> list[Cell]:
        """Cells of every arm, in `completions` or `judgements/rules`."""
        treatments = [*((arm, arm, None) for arm in ARMS), *((f"routed-{b}", "routed", b) for b in BUDGETS)]
        return [
            Cell(model, tier, language, self.path(f"{model}/{folder}/{name}/{language}"), arm, budget, JUDGE)
            for model in self.models
            for name, arm, budget in treatments
            for tier, language in self.all()
        ]

    def shared(self, folder: str) -> list[Cell]:
        """Cells of one file per language, of no model."""
        return [Cell("", tier, language, self.path(f"{folder}/{language}")) for tier, language in self.all()]

    def semantics(self) -> list[Cell]:
        """Cells of the encoder's baseline, where there is one."""
        return self.shared("semantic") if self.encoder else []

    def choices(self) -> list[Cell]:
        """Cells of the choices."""
        return self.whole("choices")

    def whole(self, name: str) -> list[Cell]:
        """Cells of one file per model."""
        return [Cell(model, "", "", self.path(f"{model}/{name}")) for model in self.models]


Rows = list[dict[str, str]]
STATISTICS = Statistics(resamples=200)


def read(path: Path) -> Rows:
    """Rows of a CSV table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def make(run: Run, name: str, output: Path, **more: Any) -> Path:
    """Build one table as the workflow does; calibration with what `more` there is to say."""
    judged, scored = run.arms(f"judgements/{JUDGE}"), run.per_language("gate_scores")
    if name == "refusal":
        refusal.build(judged, output, statistics=STATISTICS, seed=0)
    elif name == "selectivity":
        selectivity.build(judged, output, statistics=STATISTICS, seed=0)
    elif name == "separability":
        separability.build(
            *(run.per_language("projections"), scored, run.shared("surface"), run.choices(), output),
            rank=RANKS[-1],
            statistics=STATISTICS,
            seed=0,
            semantics=run.semantics(),
        )
    elif name == "gates":
        gates.build(scored, output, statistics=STATISTICS, seed=0, semantics=run.semantics())
    elif name == "decomposition":
        encoded = run.semantics()
        decomposition.build(judged, scored, output, rank=RANKS[-1], statistics=STATISTICS, seed=0, semantics=encoded)
    elif name == "diagnosis":
        needed = ("refusal", "decomposition", "separability")
        made = {name: make(run, name, output.with_name(f"{name}.csv")) for name in needed}
        diagnosis.build(output, **made)
    elif name == "positions":
        unsteered = [cell for cell in judged if cell.arm == "none"]
        positions.build(
            *(run.per_language("positions"), run.shared("surface"), unsteered, run.choices(), output),
            high=run.languages["high"],
            statistics=STATISTICS,
            seed=0,
            semantics=run.semantics(),
        )
    elif name == "calibration":
        calibration.build(
            *(run.whole("calibration"), run.shared("prompts"), output),
            settings=Calibration(),
            statistics=STATISTICS,
            seed=0,
            semantics=[Cell("", "", "", run.path("semantic_calibration"))] if run.encoder else [],
            **more,
        )
    elif name == "choices":
        choices.build(run.choices(), output)
    elif name == "samples":
        samples.build(run.shared("prompts"), run.arms("completions"), judged, output, samples=2, seed=0)
    return output
