"""A record of a run to hand over: its tables, figures and answers, and what made them, as an RO-Crate.

Prompts go in by the hash of their text alone and completions not at all unless asked for, so that a record can be put
where anybody may read it. Nothing in it names the machine, its paths or its users, and the same results give the same
bytes.

Format: RO-Crate 1.1 (researchobject.org/ro-crate/1.1), a folder with a description in JSON-LD; checksums as `sha256sum
--check checksums.sha256` reads them.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from polygate import files
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.provenance import provenance
from polygate.report.opening import QUESTIONS
from polygate.tables.comparison import Run

CRATE = "ro-crate-metadata.json"
CHECKSUMS = "checksums.sha256"
PROFILE = "https://w3id.org/ro/crate/1.1"
CONTEXT = f"{PROFILE}/context"
WITH_TEXTS = ("tables/samples.csv", "report/samples.html")
"""Files of a run that hold prompts and completions."""
KINDS = {
    ".csv": "text/csv",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".parquet": "application/vnd.apache.parquet",
}
_STORES = ("*.parquet", "*.safetensors")


@dataclass(frozen=True)
class Record:
    """What goes into the record of a finished run."""

    run: Run
    completions: bool = False
    licence: str = ""

    def write(self, output: Path) -> list[str]:
        """Write the folder, whole or not at all; returns the paths of its files.

        Raises `PolygateError` for a run that isn't finished, and for a file that names a path of this machine.
        """
        answers = self._answers()
        with files.atomic_folder(output) as folder:
            self._copy(folder)
            files.write_text(folder / "settings.yaml", (self.run.folder / "report/config.yaml").read_text("utf-8"))
            _write(folder / "made_by.json", made_by(self.run.folder))
            files.write_text(folder / "prompts.csv", prompt_hashes(self.run.folder / "prompts"))
            files.write_text(folder / "report.html", page(self.run, answers, sorted(folder.glob("figures/*.svg"))))
            _check_private(folder)
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            _write(folder / CRATE, self._crate(folder, names))
            names = [CRATE, *names]
            sums = "".join(f"{digest(folder / name)}  {name}\n" for name in names)
            files.write_text(folder / CHECKSUMS, sums)
        return [*names, CHECKSUMS]

    def _answers(self) -> dict[str, Any]:
        path = self.run.folder / "tables" / "findings.json"
        if not path.is_file() or not (self.run.folder / "report" / "config.yaml").is_file():
            missing = "tables/findings.json" if not path.is_file() else "report/config.yaml"
            raise PolygateError(
                f"not the results of a finished run (no {missing})",
                where=self.run.folder,
                do="run snakemake to its end",
            )
        if lost := self.run.lacking():
            raise PolygateError(f"the run has lost {', '.join(lost)}", where=self.run.folder, do="run snakemake again")
        found: dict[str, Any] = files.read_json(path)
        return found

    def _copy(self, folder: Path) -> None:
        wanted = [*self.run.folder.glob("tables/*"), *self.run.folder.glob("figures/*")]
        wanted += [self.run.folder / "report/paper_vs_measured.html", self.run.folder / "report/samples.html"]
        if self.completions:
            wanted += [
                *self.run.folder.glob("*/completions/*/*/*.parquet"),
                *self.run.folder.glob("prompts/*/*.parquet"),
            ]
        for source in sorted(wanted):
            name = source.relative_to(self.run.folder).as_posix()
            # Digests that lie beside tables are hidden files; the checksums are the record's own.
            if not source.is_file() or source.name.startswith(".") or (name in WITH_TEXTS and not self.completions):
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)

    def _crate(self, folder: Path, names: Sequence[str]) -> dict[str, Any]:
        """The description, in JSON-LD: the folder, its files, the program, and the run that made them with it."""
        said = provenance("polygate.report.record")["versions"]["polygate"]
        finished = (self.run.folder / "report/config.yaml").stat().st_mtime
        when = datetime.datetime.fromtimestamp(finished, tz=datetime.UTC).date().isoformat()
        models, languages = self.run.models(), self.run.languages.all()
        texts = "with prompts and completions" if self.completions else "prompts by hash, no completions"
        root = {
            "@id": "./",
            "@type": "Dataset",
            "name": f"polygate run {self.run.name}",
            "description": f"Whether {', '.join(models)} know that prompts are harmful, act on it and can be repaired, "
            f"in {', '.join(languages)}: tables, figures, settings and versions ({texts}).",
            "datePublished": when,
            "hasPart": [{"@id": name} for name in names],
            "mentions": {"@id": "#run"},
            **({"license": {"@id": self.licence}} if self.licence else {}),
        }
        program = {
            "@id": "#polygate",
            "@type": "SoftwareApplication",
            "name": "polygate",
            "version": said,
            "softwareVersion": said,
        }
        action = {
            "@id": "#run",
            "@type": "CreateAction",
            "name": f"Run {self.run.name}",
            "instrument": {"@id": "#polygate"},
            "object": [{"@id": "settings.yaml"}, {"@id": "prompts.csv"}],
            "result": [{"@id": name} for name in names if name not in ("settings.yaml", "prompts.csv")],
            "endTime": when,
        }
        described = {"@id": CRATE, "@type": "CreativeWork", "conformsTo": {"@id": PROFILE}, "about": {"@id": "./"}}
        licence = [{"@id": self.licence, "@type": "CreativeWork", "name": self.licence}] if self.licence else []
        return {
            "@context": CONTEXT,
            "@graph": [described, root, program, action, *licence, *(_file(folder, name) for name in names)],
        }


def files_of(folder: Path) -> set[str]:
    """Paths of the files of an earlier record in a folder, none where there is no record."""
    path = folder / CHECKSUMS
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return {line.partition("  ")[2] for line in lines} | {CHECKSUMS}


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return {
        "@id": name,
        "@type": "File",
        "name": path.name,
        "contentSize": str(path.stat().st_size),
        "encodingFormat": KINDS.get(path.suffix, "application/octet-stream"),
        "sha256": digest(path),
    }


def _write(path: Path, value: Any) -> None:
    files.write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prompt_hashes(folder: Path) -> str:
    """CSV: data set, language, id, subset, split and SHA-256 of the text (UTF-8) of every prompt of a run.

    Who has the prompts can tell whether they are the same; who doesn't learns nothing of them.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["dataset", "language", "prompt_id", "subset", "split", "sha256"])
    for path in sorted(folder.glob("*/*.parquet")):
        found = table.read(path, align=True)
        for prompt_id, subset, split, words in zip(found.ids, found.subset, found.split, found.texts, strict=True):
            said = hashlib.sha256(words.encode()).hexdigest()
            rows.writerow([path.parent.name, path.stem, prompt_id, subset, split, said])
    return text.getvalue()


def made_by(folder: Path) -> list[dict[str, Any]]:
    """What computed the files of a run: every module with the hashes of its code, versions, and number of files.

    More than one entry of a module: its files were not all made by the same program.
    """
    counted: dict[tuple[str, str, str], int] = defaultdict(int)
    for pattern in _STORES:
        for path in folder.rglob(pattern):
            if path.parent.name == "weights":
                continue  # A model's own format.
            said = files.read_provenance(path)
            if "module" in said:
                versions = json.dumps(said.get("versions", {}), sort_keys=True)
                counted[said["module"], said.get("code", ""), versions] += 1
    return [
        {"module": module, "code": code, "versions": json.loads(versions), "files": count}
        for (module, code, versions), count in sorted(counted.items())
    ]


def page(run: Run, answers: Mapping[str, Any], figures: Sequence[Path]) -> str:
    """One HTML page: the answers in full, then every figure of the record."""
    return "\n".join(_lines(run, answers, figures)) + "\n"


def _lines(run: Run, answers: Mapping[str, Any], figures: Sequence[Path]) -> Iterator[str]:
    title = escape(f"polygate run {run.name}")
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem;color:#222}"
    yield "img{width:100%;height:auto;border-top:1px solid #ddd}p{overflow-wrap:anywhere}</style></head><body>"
    models = answers.get("order", sorted(answers["models"]))
    yield f"<h1>{title}</h1><p>{escape(', '.join(models))}; {escape(', '.join(run.languages.all()))}.</p>"
    for question, asked in QUESTIONS.items():
        yield f"<h2>{escape(asked)}</h2>"
        for model in models:
            found = answers["models"][model][question]
            yield f"<p><b>{escape(model)}</b> <i>{escape(found['answer'])}</i>. {escape(found['sentence'])}</p>"
    for path in figures:
        named = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        alternative = named[1] if named else path.stem
        yield f'<figure><img src="figures/{path.name}" alt="{alternative}" loading="lazy">'
        yield f'<figcaption>{alternative} (<a href="figures/{path.stem}.csv">numbers</a>)</figcaption></figure>'
    yield '<p>Tables lie in <a href="tables/">tables/</a>; settings.yaml and made_by.json say what made them, '
    yield "checksums.sha256 whether they are whole.</p></body></html>"


def _check_private(folder: Path) -> None:
    """`PolygateError` for a file of the record that names the working directory or the home of who makes it."""
    told = [str(path).encode() for path in (Path.cwd(), Path.home()) if len(path.parts) > 1]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and any(re.search(re.escape(name) + rb"(?![\w.-])", path.read_bytes()) for name in told):
            raise PolygateError("names a path of this machine", where=path.relative_to(folder))
