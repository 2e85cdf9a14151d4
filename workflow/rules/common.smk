"""Shared by all files of rules: the checked settings, and the functions that turn them into inputs and parameters.

Jobs take settings only through `params`, and only the sections they use: a changed setting reruns what reads it and
nothing else. `code(...)` makes the library modules behind a stage a parameter too, since Snakemake doesn't see
edits of imported modules.
"""

import json
import os
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

try:
    from polygate.errors import PolygateError
    from polygate.files import sweep, write_text
    from polygate.judges.phrases import check_folder as check_phrases
    from polygate.judges.phrases import only_own, own_file
    from polygate.locks import join
    from polygate.model.options import Options
    from polygate.prompts.extra import check_folder, find
    from polygate.provenance import PACKAGE, code_hash
    from polygate.settings import dump
    from polygate.settings_check import check_packages, load
except ModuleNotFoundError as missing:
    sys.exit(f"polygate is not installed in this environment ({missing}): run `make install`, or `pip install -e .`")

try:
    settings = load(config, workflow.configfiles)
    unused = [
        (settings.prompts.extra, check_folder(settings)),
        (settings.judging.phrases, check_phrases(settings.judging.phrases, settings.languages.all())),
    ]
except PolygateError as error:
    sys.exit(f"polygate: {error}")
for folder, names in unused:
    if names and workflow.is_main_process:
        print(f"polygate: note: no language of this run reads {', '.join(names)} in {folder}", file=sys.stderr)

if not os.access(".", os.W_OK):
    sys.exit(f"polygate: can't write in {Path.cwd()}, where results go: name a folder of your own with --directory")


def release_stale_locks():
    """Make `snakemake` after a `kill -9` work as it stands, without `--unlock` and without its leavings.

    Snakemake's own locks outlive a killed process, and so do the temporary files of its jobs. Every process that reads
    this workflow counts itself among the living; only who finds nobody else there may remove what a dead one left.
    """
    if not workflow.is_main_process:
        return None
    living = Path(".snakemake/polygate/alive")
    living.parent.mkdir(parents=True, exist_ok=True)

    def clean_up():
        for lock in Path(".snakemake/locks").glob("*.lock"):
            lock.unlink()
        for folder in ("results", "resources", "reports"):
            sweep(Path(folder))

    return join(living, clean_up)


ALIVE = release_stale_locks()


IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


def interpreter():
    """What every shell command begins with, so that `polygate` is the library of the Python that reads the workflow.

    Whether or not its environment is activated. With `--sdm conda` it is the conda environment's Python with the same
    library, since Snakemake takes PYTHONPATH away there. -P: no module of the working directory hides an installed one.
    exec: the job is a child of Snakemake's, without a shell between them; so it is the last command of its rule.
    """
    python, found = shlex.quote(sys.executable), ""
    if IN_CONDA:
        python, found = "python", f"export PYTHONPATH={shlex.quote(str(PACKAGE.parent))}; "
    command = f'set -euo pipefail; {found}polygate() {{ exec {python} -P -m polygate.cli "$@"; }}; '
    return command.replace("{", "{{").replace("}", "}}")


shell.prefix(interpreter())


onstart:
    # Not where the workflow is read: a plan needs no packages, and in a conda environment there may be others.
    if not IN_CONDA:
        try:
            check_packages(settings, Path("resources/gguf"))
        except PolygateError as error:
            sys.exit(f"polygate: {error}")


MODELS = list(settings.models)
LANGUAGES = settings.languages.all()
LANGUAGE_TIERS = [settings.languages.tier(language) for language in LANGUAGES]
BUDGETS = settings.gate.budgets
STEERED = ["addition", "ablation"]
ARMS = ["none", *STEERED]
ROUTED = [f"routed-{budget}" for budget in BUDGETS]
JUDGE = settings.judging.judge


def code(stage):
    """Hash of everything that a stage's module imports within polygate, the kernels included."""
    return code_hash(f"polygate.stages.{stage}")


def section(name, wildcards):
    """One section of the settings; `model` is the one of the job's wildcard.

    Where prompts and phrases lie is left out: the files are inputs, and a user's own language must not change others.
    """
    if name == "model":
        return settings.models[wildcards.model]
    if name == "prompts":
        return settings.prompts.model_copy(update={"extra": None, "folder": None})
    if name == "judging":
        return only_own(settings.judging, [wildcards.language] if "language" in wildcards.keys() else CHOOSING)
    return getattr(settings, name)


def given(*sections):
    """The named sections of the settings as JSON."""

    def value(wildcards):
        return dump({name: section(name, wildcards) for name in sections})

    return value


def sources(wildcards):
    """The languages that directions and gates for the job's language may be fitted on: never that language."""
    return settings.languages.sources(wildcards.language)


def of_sources(pattern):
    """Input function: `pattern` for every source language of the job's language."""

    def value(wildcards):
        return expand(pattern, **{**wildcards, "language": sources(wildcards)})

    return value


def folder_of(name):
    """The Hugging Face folder of a model that is measured: aligned here, or as its source has it."""
    if settings.models[name].alignment is not None:
        return f"results/{settings.run}/{name}/weights"
    return source_folder_of(name)


def source_folder_of(name):
    """The Hugging Face folder that a model comes from: given, downloaded, converted, or trained here."""
    model = settings.models[name]
    if model.folder is not None:
        return str(model.folder)
    if model.hub is not None:
        return f"resources/models/{name}"
    if model.gguf is not None:
        return f"resources/gguf/{model.gguf_name}"
    return f"results/{settings.run}/{name}/weights"


def model_folder(wildcards):
    """Input function: the folder of the job's model."""
    return folder_of(wildcards.model)


CHOOSING = [
    language
    for language in LANGUAGES
    if settings.languages.tier(language) in settings.steering.chosen_on or language in settings.languages.high
]
"""Languages that choosing layer, strength and ablation scope reads: those that decide, and the sources of gates."""


OWN_PHRASES_OF_CHOOSING = [path for language in CHOOSING if (path := own_file(settings.judging.phrases, language))]
"""The user's own phrases of those languages."""


def of_choosing(pattern):
    """Input function: `pattern` for every language that takes part in choosing."""

    def value(wildcards):
        return expand(pattern, **{**wildcards, "language": CHOOSING})

    return value


def aligned(wildcards):
    """The alignment of the job's model."""
    return settings.models[wildcards.model].alignment


def of_model(wildcards):
    """The job's model, as JSON, for the stages that check whether files are of it."""
    options = Options.of(settings.models[wildcards.model].model_dump(mode="json"))
    described = {"model": asdict(options), "folder": folder_of(wildcards.model), "cache": "results/cells"}
    return json.dumps(described, sort_keys=True, default=str)


def any_of(names):
    """Pattern of a wildcard that may be any of `names`, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def extra_file(language):
    """The user's own file for a language, None when there is none."""
    found = None if settings.prompts.extra is None else find(settings.prompts.extra, language)
    return None if found is None else str(found)


def own_phrases(wildcards):
    """Input function: the user's own phrases of the job's language, nothing when there are none."""
    return own_file(settings.judging.phrases, wildcards.language) or []


GGUF = {model.gguf_name: model for model in settings.models.values() if model.gguf}
"""One of the models that share a GGUF file, by the name of the folder that the file is converted to."""

EXTRA = [language for language in LANGUAGES if extra_file(language)]
FROM_SOURCE = {
    source: [language for language in LANGUAGES if language not in EXTRA] if settings.prompts.source == source else []
    for source in ("polyrefuse", "organism")
}
