"""Before any job: settings, and whether what they name is there and fits (paths, layers, phrases, packages).

`load` is what the workflow calls when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from polygate import judges
from polygate.errors import PolygateError
from polygate.files import read_json
from polygate.forward import weights
from polygate.judges import labels, phrases
from polygate.judges.api import key_of
from polygate.models import gguf
from polygate.models.alignment import sentences
from polygate.models.organism import architecture
from polygate.prompts import datasets
from polygate.prompts.sources import cast_data, extra
from polygate.prompts.translation import given
from polygate.settings.check import Location, Sources, parse, read_yaml, where
from polygate.settings.types import CAST_RELEASED, NANO, RULES, Model, Settings, blocks_within


def load(values: Mapping[str, Any], files: Sequence[str | Path] = ()) -> Settings:
    """Check a configuration (the merged content of `files`, and of the command line) and return the settings.

    Raises `PolygateError` for the first thing that is wrong: a key (see `polygate.settings.check`), a path that doesn't
    exist, a layer that the model lacks, a file of the user's own, a language without sentences or phrases.
    """
    settings, sources = parse(values, files)
    _check_paths(settings, sources)
    _check_layers(settings, sources)
    _check_extra(settings, sources)
    given.by_files(settings)
    _check_cast_data(settings, sources)
    datasets.languages(settings)
    datasets.tasks(settings)
    _check_sentences(settings, sources)
    _check_phrases(settings, sources)
    _check_judges(settings, sources)
    _check_labels(settings, sources)
    return settings


def load_file(path: str | Path) -> Settings:
    """Check a configuration file and return its settings."""
    return load(read_yaml(path), [path])


def _check_paths(settings: Settings, sources: Sources) -> None:
    """Local files and folders that the settings name must be there before any job starts."""
    paths: list[tuple[Location, Path | None, bool]] = [
        (("prompts", "folder"), settings.prompts.folder, True),
        (("prompts", "extra"), settings.prompts.extra, True),
        (("controls", "folder"), settings.controls.folder, True),
        (("translation", "folder"), settings.translation.folder, True),
        (("translation", "files"), settings.translation.files, True),
    ]
    for name, dataset in settings.datasets.items():
        paths.append((("datasets", name, "folder"), dataset.folder, True))
    for name, guard in settings.judging.guards.items():
        paths.append((("judging", "guards", name, "folder"), guard.folder, True))
    paths.append((("judging", "labels"), settings.judging.labels, False))
    paths.append((("baselines", "cast", "released", "folder"), settings.baselines.cast.released.folder, True))
    for name, model in settings.models.items():
        paths.append((("models", name, "folder"), model.folder, True))
        if model.adasteer is not None:
            paths.append((("models", name, "adasteer", "folder"), model.adasteer.folder, True))
        paths.append((("models", name, "gguf"), model.gguf_path, False))
        paths.append((("models", name, "chat_template"), model.chat_template, False))
    for location, path, folder in paths:
        if path is not None and not (path.is_dir() if folder else path.is_file()):
            what = f"no such {'folder' if folder else 'file'}"
            raise PolygateError(
                f"{where(location, str(path), sources)}: {what}",
                do=f"relative paths start in {Path.cwd()}" if not path.is_absolute() else "",
            )


def _check_layers(settings: Settings, sources: Sources) -> None:
    """Layers must be among the model's decoder blocks, where its config.json, header or recipe tells their number."""
    for name, model in settings.models.items():
        blocks = _blocks(name, model, sources)
        asked: list[tuple[Location, int]] = [
            (("steering", "layers", place), layer) for place, layer in enumerate(settings.steering.layers or [])
        ]
        if model.layer is not None:
            asked = [(("models", name, "layer"), model.layer)]
        if model.adasteer is not None:
            for which, constants in (("alpha", model.adasteer.alpha), ("beta", model.adasteer.beta)):
                asked.append((("models", name, "adasteer", which, "layer"), constants.layer))
        if blocks is not None and {"cast", CAST_RELEASED} & set(settings.baselines.methods):
            _check_cast(settings, sources, name, blocks)
        for location, layer in asked:
            if blocks is not None and layer >= blocks:
                raise PolygateError(
                    f"{where(location, layer, sources)}: model {name} has {blocks} decoder blocks",
                    do=f"the last is {blocks - 1}",
                )


def _check_cast(settings: Settings, sources: Sources, name: str, blocks: int) -> None:
    """CAST needs a block to read its condition at and one to add its behaviour to."""
    for part in ("condition", "behaviour"):
        shares = getattr(settings.baselines.cast, part)
        if not blocks_within(shares, blocks):
            location: Location = ("baselines", "cast", part)
            what = f"model {name} has {blocks} decoder blocks, none of them there"
            raise PolygateError(f"{where(location, shares, sources)}: {what}", do="widen it, or take cast out")


def _blocks(name: str, model: Model, sources: Sources) -> int | None:
    """Number of decoder blocks of a local folder or file or of an organism, None where nothing tells it yet."""
    if model.organism is not None:
        return architecture.LAYERS
    if model.gguf_path is not None:
        return gguf.blocks(model.gguf_path)
    if model.folder is None:
        return None
    place = where(("models", name, "folder"), str(model.folder), sources)
    path = model.folder / "config.json"
    if not path.is_file():
        raise PolygateError(f"{place}: there is no config.json in it", do="give a folder in Hugging Face's format")
    content = read_json(path)
    # Models that also see or hear keep their language model's configuration in one of its own.
    inner = content.get("text_config", content) if isinstance(content, dict) else {}
    blocks = inner.get("num_hidden_layers", inner.get("n_layer")) if isinstance(inner, dict) else None
    return blocks if isinstance(blocks, int) else None


def _check_extra(settings: Settings, sources: Sources) -> None:
    """Files of a user's own must be usable together, and none may be meant for a language that doesn't read it."""
    if settings.prompts.extra is None:
        return
    try:
        extra.check_folder(settings)
    except PolygateError as error:
        location: Location = ("prompts", "extra")
        raise PolygateError(f"{where(location, str(settings.prompts.extra), sources)}: {error}") from None


def _check_cast_data(settings: Settings, sources: Sources) -> None:
    """A folder with CAST's own data has its files."""
    folder = settings.baselines.cast.released.folder
    if folder is None or CAST_RELEASED not in settings.baselines.methods:
        return
    try:
        cast_data.files(folder)
    except PolygateError as error:
        location: Location = ("baselines", "cast", "released", "folder")
        raise PolygateError(f"{where(location, str(folder), sources)}: {error}") from None


def check_packages(settings: Settings, converted: Path) -> None:
    """Packages that carry a model's GGUF file are installed, unless it lies converted in a folder of `converted`; so is
    the one that carries the sentence encoder, and what quantises weights.

    For runs rather than for plans: what would run can be asked without them. Raises `PolygateError`.
    """
    asked = {model.quantisation for model in settings.models.values()}
    for quantisation in sorted(asked | {guard.quantisation for guard in settings.judging.guards.values()}):
        weights.check_quantisation(quantisation)
    for name, model in settings.models.items():
        if model.gguf is None or model.gguf_path is not None or (converted / str(model.gguf_name)).is_dir():
            continue
        try:
            metadata.distribution(model.gguf)
        except metadata.PackageNotFoundError:
            raise PolygateError(
                f"models.{name}.gguf: the Python package {model.gguf} is not installed",
                do="run `make small`, or install the package",
            ) from None
    if settings.translation.measured:
        try:
            metadata.distribution("sacrebleu")
        except metadata.PackageNotFoundError:
            raise PolygateError(
                "translation: the Python package sacrebleu is not installed",
                do="run `make install`, or `pip install sacrebleu`",
            ) from None
    if settings.controls.encoder == NANO:
        try:
            metadata.distribution(NANO)
        except metadata.PackageNotFoundError:
            raise PolygateError(
                f"controls.encoder: the Python package {NANO} is not installed",
                do=f"run `make small`, or `pip install {NANO}`; controls.encoder: none goes without this control",
            ) from None


def _check_sentences(settings: Settings, sources: Sources) -> None:
    """Alignments need what to say in each of their languages."""
    for name, model in settings.models.items():
        if model.alignment is None:
            continue
        try:
            sentences.load(list(model.alignment.budgets(settings.languages)))
        except PolygateError as error:
            location: Location = ("models", name, "alignment")
            raise PolygateError(f"{where(location, model.alignment, sources)}: {error}") from None


def _check_phrases(settings: Settings, sources: Sources) -> None:
    """The rules recognise a refusal in every real language; the invented ones bring their words."""
    folder, languages = settings.judging.phrases, settings.languages.all()
    try:
        phrases.check_folder(folder, languages)
    except PolygateError as error:
        raise PolygateError(f"{where(('judging', 'phrases'), str(folder), sources)}: {error}") from None
    asked = RULES in settings.judging.judges and settings.prompts.source != "organism"
    if asked and (unknown := phrases.without(languages, folder)):
        raise phrases.no_phrases(unknown)


def _check_judges(settings: Settings, sources: Sources) -> None:
    """The first judge judges every language; each of the others some."""
    languages = settings.languages.all()
    location: Location = ("judging", "judges")
    for place, name in enumerate(settings.judging.judges):
        judged = judges.languages_of(settings.judging, name, languages)
        lacking = [language for language in languages if language not in judged]
        if lacking and (place == 0 or not judged):
            raise PolygateError(
                f"{where(location, settings.judging.judges, sources)}: {name} doesn't judge {', '.join(lacking)}",
                do="put another judge first" if place == 0 else "leave it out",
            )


def _check_labels(settings: Settings, sources: Sources) -> None:
    """People label completions of the run's models, languages and arms; their prompt ids are looked at later."""
    path = settings.judging.labels
    if path is None:
        return
    arms = ["none", "addition", "ablation", *settings.baselines.arms()]
    try:
        labels.read(path, list(settings.models), settings.languages.all(), arms)
    except PolygateError as error:
        location: Location = ("judging", "labels")
        raise PolygateError(f"{where(location, str(path), sources)}: {error}") from None


def check_keys(settings: Settings) -> None:
    """Keys of paid judges are in the environment. For runs rather than for plans, like `check_packages`."""
    for name in settings.judging.paid:
        key_of(name, settings.judging.apis[name])
