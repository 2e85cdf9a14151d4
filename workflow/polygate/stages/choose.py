"""Layer, strength and ablation scope of one model, chosen on validation prompts; what the settings fix is kept.

When the settings fix all three, no model is loaded. Without `steering.layers` every decoder block is a candidate:
on a deep model, name a few, for each costs a generation per strength and scope.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from polygate import files
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.representation.directions import Directions, open_matching
from polygate.settings.types import dump, stage_settings
from polygate.steering import validation
from polygate.steering.choice import Choice, choose
from polygate.steering.validation import Case


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument(
        "--settings", required=True, help="JSON: model, steering, generation, judging, seed; part of gate"
    )
    parser.add_argument("--model-folder", required=True, help="Hugging Face folder")
    parser.add_argument("--languages", required=True, nargs="+", help="languages that choose, and all sources")
    parser.add_argument("--sources", required=True, nargs="+", help="the high-resource languages")
    parser.add_argument("--prompts", required=True, nargs="+", help="prompt tables, parallel to --languages")
    parser.add_argument("--activations", required=True, nargs="+", help="activation stores, parallel to --languages")
    parser.add_argument("--directions", required=True, nargs="+", help="directions, parallel to --languages")
    parser.add_argument("--output", required=True, help="parquet")
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, choose, write."""
    settings = stage_settings(args.settings)
    found = {
        name: Directions.load(path, language=name) for name, path in zip(args.languages, args.directions, strict=True)
    }
    model = identity.asked_for(args.of, next(iter(found.values())).metadata)
    for one, path in zip(found.values(), args.directions, strict=True):
        files.expect(path, one.metadata, model=model)
    depth = len(next(iter(found.values())).basis)
    fixed = [what for what in ("layer", "strength", "ablation") if getattr(settings.model, what) is not None]
    layers = candidate_layers(settings, depth)
    facts: dict[str, Any] = {"model": dump(settings.model), "seed": settings.seed}
    if len(fixed) == 3:
        chosen = Choice(layers[0], settings.model.strength, settings.model.ablation, tuple(fixed))
    else:
        cases = read_cases(args, settings, found, layers, model)
        chosen, ran = choose_with_model(args, settings, cases, layers, fixed)
        sections = {"gate": settings.gate, "steering": settings.steering, "generation": settings.generation}
        facts |= {"settings": dump(sections), **ran}
    chosen = replace(chosen, unit=settings.steering.unit)
    chosen.save(args.output, provenance("polygate.stages.choose", **facts), {"model": model})


def candidate_layers(settings: SimpleNamespace, depth: int) -> list[int]:
    """Candidate layers: the model's own when fixed, those of the settings, or every block. Checked against `depth`."""
    if settings.model.layer is not None:
        layers, key = [settings.model.layer], "layer"
    else:
        layers, key = list(settings.steering.layers or range(depth)), "steering.layers"
    for layer in layers:
        if not 0 <= layer < depth:
            raise PolygateError(
                f"{key}: layer {layer} is asked for, but the model has layers 0 to {depth - 1}",
                do="correct the settings",
            )
    return layers


def read_cases(
    args: argparse.Namespace,
    settings: SimpleNamespace,
    found: dict[str, Directions],
    layers: Sequence[int],
    model: str | None = None,
) -> dict[str, Case]:
    """Validation cases of the languages that decide; a language without val prompts of both classes is left out."""
    languages = {}
    for name, store, prompts in zip(args.languages, args.activations, args.prompts, strict=True):
        prompt_table = table.read_to_fit(prompts, language=name)
        languages[name] = (open_matching(store, prompt_table, model), prompt_table)
    cases = {}
    for name in args.languages:
        rows = validation.validation_rows(languages[name][1], settings.steering.prompts)
        if len(rows) and ("high" in settings.steering.chosen_on or name not in args.sources):
            how = settings.gate, settings.seed, settings.steering.unit
            cases[name] = validation.case(found[name], rows, languages, layers, *how)
    if not cases:
        raise PolygateError(
            "no language has harmful and harmless val prompts to choose layer and strength on",
            do="add a tier to steering.chosen_on, or fix layer, strength and ablation of the model",
        )
    return cases


def choose_with_model(
    args: argparse.Namespace,
    settings: SimpleNamespace,
    cases: dict[str, Case],
    layers: Sequence[int],
    fixed: Sequence[str],
) -> tuple[Choice, dict[str, Any]]:
    """Try every candidate on the model. Returns the choice and facts on how the model ran."""
    usable = [layer for layer in layers if all(layer in case.gaps for case in cases.values())]
    if not usable:
        raise PolygateError("at no candidate layer do harmful and harmless source prompts lie apart")
    strengths = settings.steering.strengths if settings.model.strength is None else [settings.model.strength]
    scopes = settings.steering.scopes if settings.model.ablation is None else [settings.model.ablation]
    by_dip = settings.model.layer is None and settings.steering.layer_by == "dip"
    tried = 1 if by_dip else len(usable)
    swept = len(usable) * sum(int(case.harmful.sum()) for case in cases.values()) if by_dip else 0
    sizes = len(strengths), len(scopes)
    total = swept + sum(validation.generations(case, usable[:tried], *sizes) for case in cases.values())
    with answering(args, settings, total) as (generate, judge, facts):
        dips = validation.dips(cases, usable, generate, judge) if by_dip else {}
        if dips:
            usable = [min(dips, key=lambda layer: dips[layer])]
        chosen = choose(
            {name: case.harmful for name, case in cases.items()},
            usable,
            strengths,
            scopes,
            flags=lambda layer: {name: case.flagged[layer] for name, case in cases.items()},
            outcomes=lambda trials: validation.outcomes(trials, cases, generate, judge),
            fixed=fixed,
        )
    return replace(chosen, dips=dips), facts


@contextmanager
def answering(
    args: argparse.Namespace, settings: SimpleNamespace, total: int
) -> Iterator[tuple[validation.Generate, validation.Judge, dict[str, Any]]]:
    """The loaded model as what answers `total` prompts, their judge, and facts on how the model runs.

    Of `args` it reads model_folder, languages and prompts, of `settings` model, generation and judging.
    """
    from polygate import judges
    from polygate.forward import generation, loading, prefixes, progress

    by_language = {
        name: judges.load(settings.judging, metadata(path), name)
        for name, path in zip(args.languages, args.prompts, strict=True)
    }
    loaded = loading.load(args.model_folder, settings.model, gpus=settings.model.gpus)
    kept = prefixes.Kept(loaded.kept_bytes)

    def judge(language: str, prompts: Any, completions: Any, references: Any) -> list[str]:
        return [j.outcome for j in by_language[language].outcomes(language, prompts, completions, references)]

    with progress.Progress("choosing", total) as shown:

        def generate(prompts: Any, intervention: Any) -> Any:
            tokens, names = settings.generation.max_new_tokens, intervention.prompt_ids
            return generation.generate(
                loaded, prompts, intervention, max_new_tokens=tokens, names=names, advance=shown.advance, kept=kept
            )

        yield generate, judge, loaded.facts()


def metadata(path: str) -> dict[str, str]:
    """Schema metadata of a prompt table, from which a judge learns what refusals look like."""
    found = files.read_parquet(path, ["prompt_id"]).schema.metadata or {}
    return {key.decode(): value.decode() for key, value in found.items()}
