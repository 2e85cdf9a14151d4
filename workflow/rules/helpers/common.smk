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
from functools import cache
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

try:
    from polygate.errors import PolygateError
    from polygate.files import sweep, write_text
    from polygate.judges import cost, languages_of
    from polygate.judges.phrases import check_folder as check_phrases
    from polygate.judges.phrases import only_own, own_file
    from polygate.locks import join
    from polygate.orphans import announce
    from polygate.prompts import datasets
    from polygate.prompts.sources import cast_data, of as sources_of
    from polygate.prompts.sources.extra import check_folder
    from polygate.prompts.sources.plain import find
    from polygate.prompts.translation.given import by_files
    from polygate.provenance import PACKAGE, code_hash
    from polygate.report.measured import TABLES as COMPARED
    from polygate.settings.types import RULES, dump
    from polygate.preflight import check_keys, check_packages, load
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
notes = [f"no language of this run reads {', '.join(names)} in {folder}" for folder, names in unused if names]
for note in [*notes, *datasets.lacking(settings), *settings.without_vectors()]:
    if workflow.is_main_process:
        print(f"polygate: note: {note}", file=sys.stderr)


MODELS = list(settings.models)
LANGUAGES = settings.languages.all()
TIERS = {tier: getattr(settings.languages, tier) for tier in ("high", "mid", "low")}
LANGUAGE_TIERS = [settings.languages.tier(language) for language in LANGUAGES]
BUDGETS = settings.gate.budgets
MAIN = settings.prompts.source
"""The data set that everything is fitted and chosen on."""
DATASETS = {MAIN: LANGUAGES, **datasets.languages(settings)}
"""Every data set of the run, with the languages of the run that it has."""
TASKS = datasets.tasks(settings)
OOD = datasets.ood(settings)
"""Data sets whose harmful prompts gates are tried on."""
STEERED_SETS = datasets.steered(settings)
"""Data sets that are only tested on and answered under every arm all the same."""
STEERED = ["addition", "ablation"]
ARMS = ["none", *STEERED]
BASELINES = settings.baselines.arms()
"""Published ways of steering, in low-resource languages; of which each model has: `baselines_of`."""
ROUTED = [f"routed-{budget}" for budget in BUDGETS]
JUDGES = settings.judging.judges  # The first is the one that choices, routes and headlines use.
JUDGE = settings.judging.judge
GUARDS = [name for name in JUDGES if name in settings.judging.guards]
JUDGED = {name: languages_of(settings.judging, name, LANGUAGES) for name in JUDGES}
"""The languages that each judge judges."""


def prompt_tables():
    """Data set and language of every prompt table."""
    return [(dataset, language) for dataset, languages in DATASETS.items() for language in languages]


def arms_of(dataset):
    """The ways of steering under which a data set's prompts are answered in words: tasks are not."""
    return ARMS if dataset in (MAIN, *STEERED_SETS) else [] if dataset in TASKS else ["none"]


def code(stage):
    """Hash of everything that a stage's module imports within polygate, the kernels included."""
    return code_hash(f"polygate.stages.{stage}")


def section(name, wildcards):
    """One section of the settings; `model` is the one of the job's wildcard.

    Left out: where prompts and phrases lie (files are inputs, one language's must not change others), which baselines.
    """
    if name == "model":
        return settings.models[wildcards.model].model_copy(update={"adasteer": None})
    if name in ("prompts", "baselines"):
        return getattr(settings, name).for_jobs()
    if name == "judging":
        own = settings.judging.only(wildcards.get("judge", JUDGE))
        return only_own(own, [wildcards.language] if "language" in wildcards.keys() else CHOOSING)
    return getattr(settings, name)


def given(*names):
    """The named sections of the settings as JSON; `gate.rank` is that field of a section alone."""

    def one(name, wildcards):
        whole, _, field = name.partition(".")
        return getattr(section(whole, wildcards), field) if field else section(whole, wildcards)

    def value(wildcards):
        return dump({name: one(name, wildcards) for name in names})

    if not {"model", "judging"} & set(names):
        same = value(None)
        return lambda wildcards: same

    return value


def sources(wildcards):
    """The languages that directions and gates for the job's language may be fitted on: never that language."""
    return settings.languages.sources(wildcards.language)


def of_sources(pattern):
    """Input function: `pattern` for every source language of the job's language."""

    def value(wildcards):
        return files_of(pattern, [{**wildcards, "language": language} for language in sources(wildcards)])

    return value


def any_of(names):
    """Pattern of a wildcard that may be any of `names`, or nothing at all."""
    return "|".join(map(re.escape, names)) or "(?!)"


def relative(path):
    """A path from here, so that a checkout that has moved has nothing to redo."""
    return os.path.relpath(path)


BASE = Path(workflow.basedir)
REPORTS = Path(relative((BASE.parent if BASE.name == "workflow" else BASE) / "reports"))
