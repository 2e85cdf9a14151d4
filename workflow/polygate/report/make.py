"""Building the report: a nested call of Snakemake over the finished workflow.

`snakemake --report` can't be run by a profile or by an option of the workflow itself without breaking dry runs and
partial targets, so the last rule calls this once all results are there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polygate.errors import PolygateError
from polygate.files import temporary_name, write_text

TITLE = "<title>Snakemake Report</title>"
BROKEN = re.compile(r"\((?:WARNING/2|ERROR/3|SEVERE/4)\)")
"""What docutils says of a caption that isn't good reStructuredText; Snakemake goes on and ends with 0."""


def shareable(config: Any) -> Any:
    """A configuration without paths of this machine: of an absolute path in it, the last part is left."""
    if isinstance(config, Mapping):
        return {key: shareable(value) for key, value in config.items()}
    if isinstance(config, list):
        return [shareable(value) for value in config]
    return f"…/{Path(config).name}" if isinstance(config, str) and Path(config).is_absolute() else config


def write_config(path: Path | str, config: Mapping[str, Any]) -> None:
    """Write the configuration that a report is about, for others to read, as YAML."""
    head = "# The settings of this run. Of paths that are some machine's own, only the last part stands here.\n"
    write_text(path, head + yaml.safe_dump(shareable(config), sort_keys=True, allow_unicode=True))


@dataclass(frozen=True)
class Nested:
    """The workflow that is reported on, as its own process was started.

    `config` is the whole merged configuration; `directory` is the working directory of the run.
    """

    snakefile: Path
    config: Mapping[str, Any]
    directory: Path

    def command(
        self, targets: Sequence[str], configfile: Path, report: Path, stylesheet: Path, metadata: Path
    ) -> list[str]:
        """The nested call: no profile, no lock (the outer process holds it), no job is run."""
        return [
            *(sys.executable, "-m", "snakemake", *targets),
            *("--snakefile", str(self.snakefile), "--directory", str(self.directory)),
            *("--configfile", str(configfile), "--replace-workflow-config"),
            *("--profile", "none", "--workflow-profile", "none", "--nolock", "--cores", "1"),
            *("--report", str(report), "--report-stylesheet", str(stylesheet), "--report-metadata", str(metadata)),
        ]


def build(nested: Nested, targets: Sequence[str], stylesheet: Path, output: Path, *, title: str, log: Path) -> None:
    """Write the report (.html or .zip) over everything that `targets` lead to, whole or not at all.

    Raises `PolygateError` when the nested call fails or a caption or the first page is broken; `log` has its words.
    """
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(**temporary_name(output.with_name("report"))) as name:
        draft = Path(name) / output.name
        # Any metadata makes Snakemake open with the text alone instead of the text beside the graph of rules; only
        # numbers come through its rendering unharmed.
        metadata = Path(name) / "metadata.yaml"
        metadata.write_text("polygate: 1\n", encoding="utf-8")
        configfile = Path(name) / "config.yaml"
        configfile.write_text(yaml.safe_dump(nested.config, allow_unicode=True), encoding="utf-8")
        command = nested.command(targets, configfile, draft, stylesheet.absolute(), metadata)
        said = subprocess.run(command, cwd=nested.directory, capture_output=True, text=True, check=False)
        words = said.stdout + said.stderr
        write_text(log, words)
        _check(said.returncode, words, log)
        if output.suffix == ".html":
            page = draft.read_text(encoding="utf-8")
            draft.write_text(page.replace(TITLE, f"<title>{title}</title>", 1), encoding="utf-8")
        draft.replace(output)


def _check(returncode: int, words: str, log: Path) -> None:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    broken = [line for line in lines if BROKEN.search(line)]
    if broken:
        raise PolygateError(f"a text of the report is broken ({broken[0]})", where=log, do="mend reports/captions")
    if returncode:
        # Snakemake names the error first and tells how to get help after it.
        named = next((line for line in lines if re.match(r"\w*(Error|Exception)", line)), lines[-1] if lines else "")
        raise PolygateError(f"the report can't be built ({named[:200]})", where=log, do="see the log")
