"""`polygate forward`: activations, completions or option scores of a model in a language, through the cell cache."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from polygate import files
from polygate.errors import PolygateError
from polygate.forward import cells
from polygate.forward.job import Job


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--job", required=True, help="the forward pass, a JSON object")
    parser.add_argument("--plan", required=True, type=Path, help="JSON list of all forward passes of the run")
    parser.add_argument("--prompts", help="the job's prompts, where they lie now; all else of the run lies beside them")
    parser.add_argument("--output", required=True, type=Path)


def run(args: argparse.Namespace) -> None:
    """Write the job's activation store, or its table of completions or option scores."""
    try:
        job = Job.parse(json.loads(args.job))
    except json.JSONDecodeError as error:
        raise PolygateError(f"--job is not valid JSON ({error})") from None
    plan = [Job.parse(item) for item in files.read_json(args.plan)]
    # Copies from object storage lie in a folder of Snakemake's.
    folder = Path((args.prompts or "").removesuffix(str(job.prompts)))
    cells.run(job.within(folder), [one.within(folder) for one in plan], args.output)
