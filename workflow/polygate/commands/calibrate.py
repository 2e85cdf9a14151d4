"""A gate for a language from prompts of one's own and a finished run: seconds, no workflow.

    polygate calibrate results/demo qwen2 l5 prompts.csv --rule conformal_miss --alpha 0.1

`prompts.csv` (or .jsonl, .parquet) has a column `text` and, where the rule wants labels, `subset`: harmful or harmless.
The language may be one that the run has never seen. The model is loaded once, for these prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polygate import files
from polygate.decision import card, few, guarantees
from polygate.decision.conformal import Reference
from polygate.decision.few import CALIBRATORS, Calibrated, Own
from polygate.decision.fitting import Fitted
from polygate.decision.gate import FILE, coordinates
from polygate.decision.guarantees import RULES
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.forward.loading import fingerprint
from polygate.forward.options import Options
from polygate.prompts.sources import plain
from polygate.prompts.sources.plain import Columns
from polygate.provenance import provenance
from polygate.representation.directions import POSITION, ClassMeans, Directions, for_target
from polygate.settings.check import parse
from polygate.settings.types import CACHE, Settings
from polygate.stages.gates import read_sources
from polygate.steering import strength
from polygate.steering.choice import Choice
from polygate.tables.comparison import Run

COLUMNS = Columns(("text",), ("subset",))
SUBSETS = ("harmful", "harmless")
CARD, PROVENANCE = "card.md", "provenance.json"
"""Files of the folder that is written, beside the gate."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of results: results/{run}")
    parser.add_argument("model", metavar="MODEL", help="name of a model of the run")
    parser.add_argument("language", metavar="LANGUAGE", help="what the gate is for; any name")
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="CSV, JSON lines or parquet: text, subset")
    rules = "; ".join(f"{name}: sees {RULES[name].sees}" for name in CALIBRATORS)
    parser.add_argument("--rule", choices=CALIBRATORS, default="paper", help=f"how the threshold is chosen ({rules})")
    parser.add_argument("--alpha", type=float, default=0.1, help="the share that is aimed at or promised")
    parser.add_argument("--delta", type=float, default=0.1, help="how often a pac_ promise may be broken")
    parser.add_argument("--weights", type=Path, help="the model's folder, where it isn't where the run had it")
    parser.add_argument("--output", type=Path, help="folder that is written; {model}-{language}-gate when empty")


def run(args: argparse.Namespace) -> None:
    """Read, capture, calibrate, write, say."""
    for name in ("alpha", "delta"):
        if not 0 < getattr(args, name) < 1:
            raise PolygateError(f"--{name} must lie between 0 and 1")
    output = args.output or _folder(args.model, args.language)
    files.check_replaceable(output, (FILE, CARD, PROVENANCE), "such gate")
    texts, labels = read_prompts(args.prompts)
    found = Run(args.run)
    if args.model not in found.models():
        raise PolygateError(f"model {args.model} has no results; there are {', '.join(found.models())}", where=args.run)
    settings, _ = parse(found.settings)
    base = args.run / args.model
    sources = settings.languages.sources(args.language)
    choice = Choice.load(base / "choices.parquet")
    means = {name: ClassMeans.load(base / f"means/{name}.safetensors", language=name) for name in sources}
    # Of its own means only its local direction would be made, which a gate doesn't need.
    directions = for_target(
        args.language, means, means[sources[0]], pivot=settings.pivot, rank=max(settings.gate.ranks)
    )
    stores = [str(base / f"activations/{found.main}/{name}.safetensors") for name in sources]
    tables = [str(args.run / f"prompts/{found.main}/{name}.parquet") for name in sources]
    rows, gap = read_sources(sources, stores, tables, directions, choice.layer)
    folder, options = _weights(args, settings)
    model = _same_model(folder, options, base / f"means/{sources[0]}.safetensors", args.run)
    own = Own(captured(folder, options, texts, directions, choice.layer, settings.models[args.model].gpus), labels)
    rank = min(settings.gate.rank, directions.basis.shape[1])

    def reference() -> Reference:
        tiers: Any = ["high"] * len(sources)
        read = guarantees.load(tiers, sources, tables, stores, choice.layer, None)["gate"]
        how = settings.calibration, settings.pivot, settings.seed
        return guarantees.Evaluation(read, settings.gate, *how).reference(args.language)

    how = {"alpha": args.alpha, "delta": args.delta}
    calibrated = few.calibrate(
        rows, own, args.rule, settings.gate, rank=rank, seed=settings.seed, reference=reference, **how
    )
    steering = strength.for_target(directions, choice, gap)
    counts = {subset: own.count(subset) for subset in SUBSETS}
    balance = rows.balance()
    if args.rule == "paper":  # The others look at these prompts for the threshold alone.
        balance[args.language] = counts["harmful"], counts["harmless"]
    whole = Fitted(rank, max(counts.values()), 0, calibrated.fit, balance)
    gate = card.gate_of(whole, directions.basis[choice.layer], steering, POSITION, settings.gate.solver)
    made = provenance(
        "polygate.commands.calibrate",
        **{"rule": args.rule, **how, "language": args.language, "sources": sources, "prompts": len(texts), **counts},
    )
    about = [f"Calibrated by rule {args.rule} on {told(len(texts), counts)}: {calibrated.said}.", seen(calibrated, own)]
    facts = {"name": args.model, "dtype": options.dtype, "quantisation": options.quantisation}
    facts["attention"] = options.attention
    if options.revision:
        facts["revision"] = options.revision
    read = card.card(
        [whole], steering, settings.gate, directions.singular_values[choice.layer], facts, f"by rule {args.rule}"
    )
    with files.atomic_folder(output) as temporary:
        gate.save(temporary / FILE, made, {"model": model})
        page = read.replace("0.0.safetensors", FILE) + "\n## Promise\n\n" + "\n\n".join(about) + "\n"
        files.write_text(temporary / CARD, page)
        files.write_json(temporary / PROVENANCE, made)
    print("\n".join(about))
    print(f"The gate: {output / FILE}, its card: {output / CARD}")


def _folder(model: str, language: str) -> Path:
    """Where a gate goes when nobody says; `PolygateError` for a language that is no name of a folder."""
    folder = Path(f"{model}-{language}-gate")
    if len(folder.parts) != 1:
        raise PolygateError(f"language {language!r} can't be a folder's name", do="name a folder with --output")
    return folder


def read_prompts(path: Path) -> tuple[list[str], NDArray[np.bool_] | None]:
    """Texts and labels (True: harmful), None where no prompt has one; `PolygateError` where some have one."""
    texts, subsets = [], []
    for row, place in plain.rows(path, COLUMNS):
        text, subset = row["text"], row.get("subset") or ""
        if not isinstance(text, str) or not text.strip():
            raise PolygateError(f"{place}: no text", where=path)
        if subset not in (*SUBSETS, ""):
            raise PolygateError(f"{place}: subset {subset!r} is neither harmful nor harmless", where=path)
        texts.append(text)
        subsets.append(subset)
    twice = next((text for number, text in enumerate(texts) if text in texts[:number]), None)
    if twice is not None:
        raise PolygateError(f"{twice[:60]!r} stands in it twice", where=path)
    if not any(subsets):
        return texts, None
    if not all(subsets):
        raise PolygateError(f"row {subsets.index('')}: no subset, where others have one", where=path)
    return texts, np.array([subset == "harmful" for subset in subsets])


def _weights(args: argparse.Namespace, settings: Settings) -> tuple[Path, Options]:
    """The model's folder: given, the run's own, where the workflow downloads and converts to, or the settings'."""
    model = settings.models[args.model]
    options = Options.of(model.model_dump(mode="json"))
    resources = args.run.parent.parent / "resources"
    places = [args.run / args.model / "weights", resources / "models" / args.model]
    places += [resources / "gguf" / model.gguf_name] if model.gguf_name else []
    places += [model.folder] if model.folder is not None else []
    folder = args.weights or next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise PolygateError(f"the weights of {args.model} are not here", do="name their folder with --weights")
    return folder, options


def _same_model(folder: Path, options: Options, made: Path, run: Path) -> str:
    """The identity of the model in `folder`; `PolygateError` unless the run's files are of it."""
    model = identity.of(options, fingerprint(folder, run.parent / CACHE))
    wanted = files.safetensors_metadata(made).get("model", model)
    if model != wanted:
        raise PolygateError(
            "other weights, or another chat template, than the run's", where=folder, do="name the run's with --weights"
        )
    return model


def captured(
    folder: Path, options: Options, texts: Sequence[str], directions: Directions, layer: int, gpus: int = 1
) -> NDArray[np.float64]:
    """Coordinates of prompts in the subspace of `directions` at `layer`, float64 [n, R]."""
    from polygate.forward.capture import capture
    from polygate.forward.loading import load

    loaded = load(folder, options, gpus=gpus)
    found = capture(loaded, texts, (POSITION,), layers=(layer,)).tensors[layer, POSITION]
    return coordinates(found.float().numpy(), directions.basis[layer]).astype(np.float64)


def told(total: int, counts: dict[str, int]) -> str:
    """How many prompts, and of which class."""
    if not any(counts.values()):
        return f"{total} unlabelled prompts"
    return f"{counts['harmful']} harmful and {counts['harmless']} harmless prompts"


def seen(calibrated: Calibrated, own: Own) -> str:
    """What the gate does to the very prompts it was calibrated on."""
    flagged = calibrated.fit.flags(own.features)
    if own.labels is None:
        return f"It flags {int(flagged.sum())} of these {len(flagged)} prompts."
    missed, flags = int((own.labels & ~flagged).sum()), int((~own.labels & flagged).sum())
    return (
        f"Of these prompts it misses {missed} of {own.count('harmful')} harmful ones and flags {flags} of "
        f"{own.count('harmless')} harmless ones."
    )
