"""Which data set is in which language, known before any job: what the rules plan with."""

from __future__ import annotations

from polygate.errors import PolygateError
from polygate.prompts import sources
from polygate.settings.types import Dataset, Settings


def languages(settings: Settings) -> dict[str, list[str]]:
    """The languages of the run that each data set of `datasets` has, in the run's order.

    Raises `PolygateError` for one that has none of them, and for a folder that doesn't hold the data set.
    """
    found: dict[str, list[str]] = {}
    for name, dataset in settings.datasets.items():
        try:
            has = sources.of(dataset).languages(dataset, settings.organism)
        except OSError as error:
            raise PolygateError(f"datasets.{name}: the folder can't be read ({error.strerror})") from None
        except PolygateError as error:
            raise PolygateError(f"datasets.{name}: {error}") from None
        if dataset.languages is not None:
            unknown = [language for language in dataset.languages if language not in settings.languages.all()]
            if unknown:
                raise PolygateError(f"datasets.{name}.languages: {unknown[0]} is no language of this run")
            has = [language for language in has if language in dataset.languages]
        found[name] = [language for language in settings.languages.all() if language in has]
        if not found[name]:
            there = f"it is in {', '.join(has)}" if has else "there is no file of any language in it"
            raise PolygateError(f"datasets.{name} is in no language of this run", do=there)
    return found


def tasks(settings: Settings) -> list[str]:
    """The data sets that ask for one of some options: no text is generated for them."""
    return [name for name, dataset in settings.datasets.items() if sources.of(dataset).is_task(dataset)]


def steered(settings: Settings) -> list[str]:
    """The data sets whose prompts are answered under every arm: over-refusal is what steering may do to them.

    Of the others, those that the settings name; never a task.
    """
    named = {name: dataset.steered for name, dataset in settings.datasets.items() if name not in tasks(settings)}
    return [
        name for name, wanted in named.items() if (_over_refusal(settings.datasets[name]) if wanted is None else wanted)
    ]


def ood(settings: Settings) -> list[str]:
    """The data sets that gates are tried on out of distribution: neither tasks nor tests of over-refusal."""
    names = [name for name in settings.datasets if name not in tasks(settings)]
    return [name for name in names if not _over_refusal(settings.datasets[name])]


def _over_refusal(dataset: Dataset) -> bool:
    """Whether it is made of harmless prompts that look harmful."""
    return dataset.source in ("xstest", "or_bench") or dataset.part == "over_refusal"


def lacking(settings: Settings) -> list[str]:
    """One line for each data set that some languages of the run are not in, though the settings leave none out."""
    everything = settings.languages.all()
    lines = []
    for name, has in languages(settings).items():
        lacked = [language for language in everything if language not in has]
        if settings.datasets[name].languages is not None:
            continue
        if len(lacked) > len(has):
            lines.append(f"data set {name} is in {', '.join(has)} alone: nothing is computed in other languages")
        elif lacked:
            lines.append(f"data set {name} is not in {', '.join(lacked)}: nothing is computed there")
    return lines
