"""Judgements of the completions of one language, for every arm that generated text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from polygate import files, judges
from polygate.errors import PolygateError
from polygate.forward import identity
from polygate.forward.interventions import NOTHING, POINT, Intervention
from polygate.forward.job import UNSTEERED
from polygate.judges import Judge, Judgement, guards, phrases
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.settings.types import RULES, Guard, Judging, dump, stage_settings

COLUMNS = ["prompt_id", "subset", "completion"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with judging")
    parser.add_argument("--dataset", help="data set of the prompts, where given: what the files must be of")
    parser.add_argument("--language", required=True, help="language of the prompts")
    parser.add_argument("--prompts", required=True, help="prompt table of the language")
    parser.add_argument("--completions", required=True, nargs="+", help="completions, one file per arm")
    parser.add_argument("--judge", help="name of the judge, by default the first of the settings")
    parser.add_argument("--framing", help="of a guard: what stands around prompt and completion")
    parser.add_argument("--answers", help="of a guard: its answers about the one file of --completions")
    parser.add_argument("--outputs", required=True, nargs="+", help="judgements, parallel to --completions")
    parser.add_argument("--arms", nargs="+", help="arms of --completions, which are then checked")
    parser.add_argument(
        "--interventions", nargs="*", default=[], help=f"those of the arms, in their order; {UNSTEERED} has none"
    )
    parser.add_argument("--of", help=identity.HELP)


def run(args: argparse.Namespace) -> None:
    """Read, judge, write."""
    judging = stage_settings(args.settings).judging
    prompts = files.read_parquet(args.prompts, ["prompt_id", "text", "reference"])
    metadata = files.parquet_metadata(prompts)
    dataset = args.dataset or metadata.get("dataset", "")
    files.expect(args.prompts, metadata, dataset=dataset, language=args.language)
    arms = interventions(args.arms or [], args.interventions)
    model = ""
    name = args.judge or judging.judge
    guard = judging.guards.get(name)
    judge = None if guard else judges.load(judging, metadata, args.language, name)
    rows = {row["prompt_id"]: row for row in prompts.to_pylist()}
    made = provenance("polygate.stages.judge", judging=dump(told(judging, name, args.language)), language=args.language)
    for index, (source, output) in enumerate(zip(args.completions, args.outputs, strict=True)):
        completions = files.read_parquet(source, COLUMNS)
        said = files.parquet_metadata(completions)
        model = model or identity.asked_for(args.of, said)
        arm, steered = arms[index] if arms else ("", None)
        of = {"model": model, "dataset": dataset}
        files.expect(source, said, language=args.language, **of)
        asked = [rows.get(name.partition(POINT)[0]) for name in completions["prompt_id"].to_pylist()]
        if None in asked:
            unknown = completions["prompt_id"][asked.index(None)].as_py()
            raise PolygateError(f"completion of {unknown!r}, which is not among the prompts", where=source)
        known = [row for row in asked if row is not None]
        of["prompts"] = table.fingerprint(args.language, [(row["prompt_id"], row["text"]) for row in known])
        of |= {what: said.get(what, "") for what in ("intervention", "action")}
        if arms:
            ids = completions["prompt_id"].to_pylist()
            of["intervention"] = done(steered, ids, model=model, dataset=dataset, language=args.language, arm=arm)
        files.expect(source, said, prompts=of["prompts"], intervention=of["intervention"])
        here = judge or answered(guard, args, completions["prompt_id"].to_pylist(), dataset)
        of["asked"] = who(judging, name, args.answers)
        judged = here.outcomes(
            args.language,
            [row["text"] for row in known],
            completions["completion"].to_pylist(),
            [row["reference"] for row in known],
        )
        of.update(arm=arm, judge=name)
        files.write_parquet(output, judgement_table(completions, judged, args.language), made, of)


def answered(guard: Guard, args: argparse.Namespace, prompt_ids: Sequence[str], dataset: str) -> Judge:
    """A guard whose answers another job has fetched."""
    if not (args.framing and args.answers) or len(args.completions) != 1:
        raise PolygateError("a guard needs --framing, --answers and one file of --completions")
    ask = guards.answers_in(args.answers, args.language, prompt_ids, dataset)
    return guards.GuardJudge(guards.Adapter.of(guard), guards.Framing.read(args.framing), ask)


def who(judging: Judging, name: str, answers: str | None) -> str:
    """Who is behind a judge's name: an endpoint's model, or the identity of a guard; nobody behind the rules."""
    if name in judging.apis:
        return f"{judging.apis[name].model} at {judging.apis[name].base_url}"
    return files.parquet_metadata(files.read_parquet(answers, [])).get("model", "") if answers else ""


def told(judging: Judging, name: str, language: str) -> Judging:
    """What of the settings a judgement of this judge rests on, for its provenance: no path but its last part."""
    own = phrases.own_file(judging.phrases, language) if name == RULES else None
    alone = judging.only(name)
    named = {
        key: guard.model_copy(update={"folder": guard.folder and Path(guard.folder.name)})
        for key, guard in alone.guards.items()
    }
    return alone.model_copy(update={"phrases": own and Path(own.name), "guards": named})


def interventions(arms: Sequence[str], given: Sequence[str]) -> list[tuple[str, str | None]]:
    """Arms with the file of what they do to prompts; `PolygateError` when their numbers don't fit."""
    steered = [arm for arm in arms if arm != UNSTEERED]
    if len(steered) != len(given):
        raise PolygateError(f"{len(given)} interventions for the arms {steered}")
    of = dict(zip(steered, given, strict=True))
    return [(arm, of.get(arm)) for arm in arms]


def done(intervention: str | None, prompt_ids: Sequence[str], **of: str) -> str:
    """The digest of what completions of these prompts must have come about by."""
    if intervention is None:
        return NOTHING
    found = Intervention.load(intervention, **of)
    return found.of_prompts(prompt_ids, where=intervention).digest()


def judgement_table(completions: pa.Table, judged: list[Judgement], language: str) -> pa.Table:
    """Columns prompt_id, subset, outcome, refusal_language, raw; rows as in `completions`."""
    columns = {
        "prompt_id": completions["prompt_id"],
        "subset": completions["subset"],
        "outcome": pa.array([judgement.outcome for judgement in judged], pa.string()),
        "refusal_language": pa.array([judgement.refusal_language for judgement in judged], pa.string()),
        "raw": pa.array([judgement.raw for judgement in judged], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({"language": language})
