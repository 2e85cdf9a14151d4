"""Every rule of calibration for every language of one model: its decisions on test prompts, by budget and draw."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from polygate import files
from polygate.decision import guarantees
from polygate.decision.guarantees import Evaluation, Language
from polygate.provenance import provenance
from polygate.settings.types import dump, stage_settings
from polygate.stages import recoverability

SCHEMA = pa.schema(
    [
        ("tier", pa.string()),
        ("language", pa.string()),
        ("prompts", pa.string()),
        ("scorer", pa.string()),
        ("rule", pa.string()),
        ("alpha", pa.float64()),
        ("budget", pa.int16()),
        ("draw", pa.int16()),
        ("flagged", pa.list_(pa.bool_())),
    ]
)
"""One row per scorer, language, rule, α, budget and draw: `flagged` for each test prompt of the language, in the order
of its prompt table, whose fingerprint is `prompts`. α is empty for rules that aim at no rate; a row without draw, whose
`flagged` is empty, says that the rule can promise nothing with so few examples."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    recoverability.of_all_languages(parser, "gate, calibration, pivot and seed")
    parser.add_argument("--output", required=True, help="parquet")


def run(args: argparse.Namespace) -> None:
    """Read, evaluate, write."""
    settings = stage_settings(args.settings)
    model, layer = recoverability.model_and_layer(args)
    seen = guarantees.load(args.tiers, args.languages, args.prompts, args.activations, layer, model)
    made = provenance("polygate.stages.conformal", layer=layer, **facts(settings))
    of = {"model": model, "gate": settings.gate.described}
    files.write_parquet(args.output, decided(seen.values(), settings), made, of)


def facts(settings: SimpleNamespace) -> dict[str, Any]:
    """What the decisions depend on, for provenance."""
    sections = {"gate": dump(settings.gate), "calibration": dump(settings.calibration)}
    return {**sections, "pivot": settings.pivot, "seed": settings.seed}


def decided(seen: Iterable[Sequence[Language]], settings: SimpleNamespace) -> pa.Table:
    """Every decision in the languages of each scorer: see `SCHEMA`."""
    rows: list[dict[str, Any]] = []
    for languages in seen:
        evaluation = Evaluation(languages, settings.gate, settings.calibration, settings.pivot, settings.seed)
        for language in languages:
            rows += rows_of(language, evaluation)
    return pa.Table.from_pylist(rows, SCHEMA)


def rows_of(language: Language, evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    """The rows of one language, none where its test prompts lack a class."""
    if not language.tested:
        return
    common = {
        "tier": language.tier,
        "language": language.name,
        "prompts": language.prompts.fingerprint(),
        "scorer": language.scorer,
    }
    for rule, alpha, budget, decisions in evaluation.flags(language):
        what = {**common, "rule": rule, "alpha": alpha, "budget": budget}
        if not len(decisions):
            yield {**what, "draw": None, "flagged": None}
        for draw, flagged in enumerate(decisions.tolist()):
            yield {**what, "draw": draw, "flagged": flagged}
