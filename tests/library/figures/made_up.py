"""Small tables with the columns of the real ones, made by rule: no number in them means anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

BUDGETS = (0, 1, 4, 16, 64)
BASELINES = ("adasteer", "adasteer-released", "cast", "cast-released", "cast-b32")
LAYERS = (0, 1)
METRICS = ("auc", "f1", "balanced_accuracy")
DOSE_SERIES = (
    *(("refused", "", None), ("auc", "v_hrl", None), ("auc", "surface", None), ("auc", "semantic", None)),
    *(("f1", "gate", 0), ("routed", "", 0), ("f1", "gate", 64), ("routed", "", 64)),
)


@dataclass(frozen=True)
class World:
    """The models and languages of a made-up run and the folder of its files."""

    folder: Path
    models: Sequence[str]
    tiers: Mapping[str, Sequence[str]]

    @property
    def projections(self) -> dict[str, dict[str, Path]]:
        return {
            model: {name: self.folder / model / f"{name}.parquet" for names in self.tiers.values() for name in names}
            for model in self.models
        }

    def table(self, name: str) -> Path:
        return self.folder / f"{name}.csv"

    def places(self) -> Iterator[dict[str, str]]:
        """Every model, tier and language, the tier's mean (no language) last."""
        for model, (tier, languages) in product(self.models, self.tiers.items()):
            for language in [*languages, ""] if languages else []:
                yield {"model": model, "tier": tier, "language": language}


SMALL = (("solo",), {"high": ("h1", "h2"), "mid": ("m1",), "low": ("l1",)})
DEMO = (
    ("qwen2", "llama", "gemma2"),
    {"high": ("h1", "h2", "h3", "h4", "h5"), "mid": ("m1", "m2", "m3"), "low": ("l1", "l2", "l3", "l4")},
)
PAPER = (
    ("qwen2.5-7b", "gemma-2-9b", "llama-3.1-8b"),
    {
        "high": ("en", "de", "fr", "es", "it", "nl", "pl", "ru", "zh", "ja"),
        "mid": ("ar", "ko", "th", "el", "he", "hi", "fa"),
        "low": ("sw", "am", "my", "km", "si", "yo"),
    },
)
FIVE = (("a", "b", "c", "d", "e"), {"high": ("h1", "h2"), "mid": (), "low": ("l1", "l2")})


def write(folder: Path, run: tuple[Sequence[str], Mapping[str, Sequence[str]]]) -> World:
    """Write tables and projections of a run."""
    world = World(folder, *run)
    random = np.random.default_rng(0)

    def estimate(**what: Any) -> dict[str, Any]:
        low, middle, high = np.sort(random.uniform(0.05, 0.95, 3)).round(6)
        return {**what, "estimate": middle, "low": low, "high": high, "n": 64, "method": "made up"}

    arms = [("none", None), ("addition", None), ("ablation", None), *(("routed", budget) for budget in BUDGETS)]
    tables: dict[str, list[dict[str, Any]]] = {
        "choices": [{"model": model, "what": "layer", "value": "1", "split": "val"} for model in world.models]
    }
    tables["choices"] += [{"model": model, "what": "ablation", "value": "all"} for model in world.models]
    places = list(world.places())
    tables["refusal"] = [
        estimate(**place, arm=arm, budget=budget, judge="rules", subset=subset, outcome=outcome)
        for place, (arm, budget), subset in product(places, arms, ("harmful", "harmless"))
        for outcome in ("refused", "complied")
    ]
    tables["selectivity"] = [
        estimate(**place, arm=arm, budget=budget, judge="rules")
        for place, (arm, budget) in product(places, [*arms, *((name, None) for name in BASELINES)])
        # Published ways of steering are in low-resource languages alone.
        if arm not in BASELINES or place["tier"] == "low"
    ]
    tables["separability"] = [
        estimate(**place, scorer=scorer, layer=layer, prompts=prompts, metric="auc", overlap=_overlap(place, prompts))
        for place, prompts in product(places, ("all", "matched", "caliper"))
        for scorer, layer in [
            *(("v_hrl", layer) for layer in LAYERS),
            *((control, None) for control in ("surface", "length", "semantic")),
        ]
    ]
    tables["gates"] = [
        estimate(**place, rank=rank, budget=budget, draw=draw, metric=metric, scorer=scorer, threshold_from="examples")
        for place, budget, metric, draw in product(places, BUDGETS, ("f1", "auc"), (None, 0))
        for scorer, rank in [*(("gate", rank) for rank in (1, 2)), ("surface", None), ("semantic", None)]
        # A high-resource target has one source less than the others, so its gates stop at a lower rank.
        if rank != 2 or place["tier"] != "high"
    ]
    tables["decomposition"] = [
        estimate(**place, scorer=scorer, budget=budget, part=part) | {"estimate": share}
        for place, budget, scorer in product(places, BUDGETS[1:], ("gate", "surface", "semantic"))
        for part, share in zip(
            ("acted", "action", "calibration", "representation"), random.dirichlet([4, 3, 2, 1]).tolist(), strict=True
        )
    ]
    pooled = [{"model": "", "tier": tier, "language": ""} for tier, names in world.tiers.items() if names]
    pairs = [("rules", "other"), ("rules", "people"), ("other", "people")]
    tables["agreement"] = [
        estimate(**place, judge=judge, against=against, measure=measure)
        for (judge, against), place in product(pairs, [*places, *pooled])
        for measure in ("both", "kappa", "correlation")
    ]
    tables["agreement"] += [
        estimate(**place, judge="rules", against="other", measure="lead")
        | {"estimate": -0.1 if place["tier"] == "low" else 0.1, "p_holm": 0.5 if place["tier"] == "mid" else 0.01}
        for place in [*places, *pooled]
    ]
    # The models are alignments with growing doses of one another; the highest one's has two more, of other seeds.
    taught = list(zip(world.models, (0, 2, 4, 8, 16), strict=False))
    more = [(f"{taught[-1][0]}{seed}", taught[-1][1], seed) for seed in (1, 2)] if len(taught) > 1 else []
    tables["dose"] = [
        estimate(**{**place, **of}, dose=dose, metric=metric, scorer=scorer, budget=budget)
        for place in places
        if place["tier"] == "low" and place["language"] and place["model"] == world.models[0]
        for of, dose in [
            *(({"model": model, "seed": 0, "alignments": 1}, dose) for model, dose in taught),
            *(({"model": model, "seed": seed, "alignments": 1}, dose) for model, dose, seed in more),
            *(({"model": "", "seed": "", "alignments": 1}, dose) for _, dose in taught[: -1 if more else None]),
            *(({"model": "", "seed": "", "alignments": 3}, dose) for _, dose, seed in more if seed == 1),
        ]
        for metric, scorer, budget in DOSE_SERIES
    ]
    read = {"t_inst": 1, "t_post_inst": 0, "mean": 1}
    tables["positions"] = [
        estimate(**place, position=position, layer=layer, direction=direction, target=target, surface=0.6, semantic=0.7)
        | {"chosen": str(layer == 1).lower(), "read": str(layer == read[position]).lower()}
        for place, position, layer in product(places, read, LAYERS)
        for direction, target in product(("v_hrl", "v_hrl_pooled"), ("harmful", "refused"))
        # A tier whose models refuse every harmful prompt has nothing to tell apart.
        if (target, place["tier"]) != ("refused", "high")
    ]
    few = [budget for budget in BUDGETS if budget]
    tables["recoverability"] = [
        estimate(**place, probe=probe, sources="", rank=None, budget=budget, threshold_from="", metric="auc")
        for place in places
        for probe, budgets in [("v_hrl", [0]), ("full_local", [0]), ("local", few), ("mlp", few), ("random", few)]
        for budget in budgets
    ]
    promises = [("paper", None), ("prior", 0.1), ("conformal_miss", 0.1), ("conformal_miss", 0.2), ("pac_miss", 0.1)]
    promises.append(("parallel", 0.05))
    tables["calibration"] = [
        estimate(**place, rule=rule, alpha=alpha, budget=budget, metric=metric)
        | dict(zip(("surface_low", "surface", "surface_high"), (0.7, 0.8, 0.9), strict=True))
        | dict(zip(("semantic_low", "semantic", "semantic_high"), (0.2, 0.3, 0.5), strict=True))
        for place, budget, metric, (rule, alpha) in product(places, BUDGETS, ("miss", "false_flags"), promises)
        # What can't be promised has no number.
        if budget >= {"conformal_miss": 16, "pac_miss": 64, "parallel": 64}.get(rule, 0)
    ]
    tables["probes"] = [
        estimate(**place, probe=probe, sources=sources, rank=rank, budget=budget, threshold_from=rule, metric=metric)
        for place, budget, metric, rule in product(places, BUDGETS, ("f1", "auc"), ("source", "examples", "oracle"))
        for probe, sources, rank in [
            ("subspace", "high", 1),
            ("subspace", "high", 2),
            ("subspace", "mid", 2),
            ("full", "high", None),
            ("target", "", None),
            ("random_subspace", "high", 2),
            ("omniguard", "high+mid", None),
            ("omniguard_budgeted", "high+mid", None),
        ]
        if rule != "examples" or budget
    ]
    beside_pivot = [place for place in places if place["language"] not in ("h1", "en")]
    tables["uscore"] = [
        estimate(**place, split=split, layer=layer) | {"read": str(layer == 1).lower()}
        for place, split, layer in product(beside_pivot, ("train", "test"), LAYERS)
    ]
    others = {name: tier for tier, names in world.tiers.items() if tier != "high" for name in names}
    tables["transfer"] = [
        estimate(
            **place,
            source=source,
            source_tier=others.get(source, ""),
            rank=10,
            metric=metric,
            p_holm=p if source else None,
        )
        | {"within": str(source != "" and source == place["language"]).lower(), "surface": 0.4, "semantic": 0.3}
        for place in places
        if place["tier"] != "high"
        for (source, p), metric in product(zip(["", *others], (1.0, 0.2, 0.01) * 5, strict=False), METRICS)
    ]
    tables["ood"] = [
        estimate(**place, dataset=dataset, pairing=pairing, category=category, gate=gate, budget=budget, metric=metric)
        | {"surface": 0.5, "surface_low": 0.4, "surface_high": 0.6}
        | {"semantic": 0.7, "semantic_low": 0.6, "semantic_high": 0.8}
        for dataset, place in product(("multijail", "other"), places)
        for pairing, category, gate, metric in [
            *(("polyrefuse", "", gate, "balanced_accuracy") for gate in ("v_hrl", "subspace")),
            *(("polyrefuse", "", gate, "auc") for gate in ("v_hrl", "subspace")),
            *(("polyrefuse", "fraud", "subspace", "balanced_accuracy"), (dataset, "", "subspace", "balanced_accuracy")),
        ]
        for budget in BUDGETS
    ]
    tables["utility"] = [
        estimate(**place, dataset="task", arm=arm, budget=budget, metric=metric)
        | {"chance": 0.25 if metric == "accuracy" else None, "change": 0.0, "p_holm": 1.0}
        for place, (arm, budget), metric in product(places, arms, ("accuracy", "margin", "entropy", "flagged"))
        if metric != "flagged" or arm == "routed"
    ]
    tables["sweeps"] = [
        estimate(**place, kind="layer", direction=direction, layer=layer, strength=0.0)
        | {"dip": str(layer == LAYERS[0]).lower(), "peak": "", "chosen": str(layer == LAYERS[1]).lower()}
        for place, direction, layer in product(places, ("v_en", "v_hrl"), LAYERS)
    ]
    # Prompts left alone stand beside the sweep and have no dip.
    tables["sweeps"] += [
        estimate(**place, kind="layer", direction="none", layer=None, dip="", peak="", chosen="") for place in places
    ]
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(world.table(name), index=False)
    for model, languages in world.projections.items():
        for language, path in languages.items():
            shift = -1.0 if language in world.tiers["low"] else 0.0
            path.parent.mkdir(exist_ok=True)
            pq.write_table(_projections(np.random.default_rng([len(model), *language.encode()]), shift), path)
    return world


def _overlap(place: Mapping[str, str], prompts: str) -> str:
    return "" if prompts == "all" else "too small" if place["language"] in ("h2", "km") else "ok"


def _projections(random: np.random.Generator, shift: float) -> pa.Table:
    rows = [
        (split, subset, layer, scorer, random.normal(shift + (2 if subset == "harmful" else -2)))
        for layer, scorer, split in product(LAYERS, ("v_hrl", "local"), ("val", "test"))
        for subset in ("harmful", "harmless")
        for _ in range(24)
    ]
    names = ["split", "subset", "layer", "scorer", "score"]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
