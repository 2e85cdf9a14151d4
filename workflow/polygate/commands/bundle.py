"""A record of a finished run to hand over: one folder, described as an RO-Crate."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from polygate import files
from polygate.report import record
from polygate.tables.comparison import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of results: results/{run}")
    parser.add_argument("--output", type=Path, help="folder that is written; {run}-record when empty")
    parser.add_argument(
        "--with-completions",
        action="store_true",
        help="prompts and completions too, those of harmful prompts among them: not for everybody to read",
    )
    parser.add_argument("--licence", default="", metavar="URL", help="under which you hand it over")


def run(args: argparse.Namespace) -> None:
    """Gather, describe, write."""
    found = Run(args.run)
    output = args.output or Path(f"{args.run.resolve().name}-record")
    files.check_replaceable(output, record.files_of(output), "record")
    names = record.Record(found, args.with_completions, args.licence).write(output)
    texts = "prompts and completions with it" if args.with_completions else "prompts by hash, no completions"
    there = shlex.quote(str(output))
    print(f"{output}: {len(names)} files ({texts}); to check: cd {there} && sha256sum --check {names[-1]}")
