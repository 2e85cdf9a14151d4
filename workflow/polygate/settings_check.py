"""From a configuration to settings, or to the one line that says what is wrong with it.

`load` is what the workflow calls before any job: it names the file, the key and its value, what is allowed, and the
nearest valid name for a mistyped one.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from polygate.alignment import sentences
from polygate.errors import PolygateError
from polygate.settings import Settings

COMMAND_LINE = "--config"
"""Where a key comes from that stands in no configuration file."""

Location = tuple[str | int, ...]


def load(values: Mapping[str, Any], files: Sequence[str | Path] = ()) -> Settings:
    """Check a configuration (the merged content of `files`, and of the command line) and return the settings.

    Raises `PolygateError` for the first wrong key, naming how many more there are: unknown, of the wrong type, out
    of range, contradicting another, or a path that doesn't exist.
    """
    sources = [(str(path), read_yaml(path)) for path in files]
    try:
        settings = Settings.model_validate(dict(values))
    except ValidationError as error:
        raise _first_error(error, sources) from None
    _check_paths(settings, sources)
    _check_sentences(settings, sources)
    return settings


def load_file(path: str | Path) -> Settings:
    """Check a configuration file and return its settings."""
    return load(read_yaml(path), [path])


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Content of a YAML file of settings; `PolygateError` when it is absent or not a mapping."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except UnicodeDecodeError:
        raise PolygateError("not UTF-8", where=path, do="save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise PolygateError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise PolygateError(f"{path}: a configuration is a mapping of settings, not {_kind(content)}")
    return {str(key): value for key, value in content.items()}


def _first_error(error: ValidationError, sources: Sequence[tuple[str, dict[str, Any]]]) -> PolygateError:
    # An unknown key first: a mistyped name also leaves the setting it meant at its default.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    location = tuple(part for part in problem["loc"] if part != "[key]")
    what, do = _explain(problem, location)
    if len(problems) > 1:
        others = list(dict.fromkeys(_dotted(tuple(other["loc"])) for other in problems[1:]))
        do += f" (and {len(problems) - 1} more: {', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
    return PolygateError(f"{_prefix(location, problem['input'], sources)}: {what}", do=do)


def _prefix(location: Location, value: Any, sources: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """ "file: key = value", the value left out where it would be a whole section."""
    key = _dotted(location)
    shown = "" if isinstance(value, dict | BaseModel) or not key else f" = {_show(value)}"
    return f"{_file_of(location, sources)}: {key}{shown}".removesuffix(": ")


def _file_of(location: Location, sources: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """The last file that sets `location` (later files win), else the command line or the only file."""
    for length in range(len(location), 0, -1):
        for name, content in reversed(sources):
            if _holds(content, location[:length]):
                return name
    return sources[-1][0] if len(sources) and not location else COMMAND_LINE if sources else "settings"


def _holds(content: Any, location: Location) -> bool:
    for part in location:
        in_list = isinstance(content, list) and isinstance(part, int) and part < len(content)
        if not in_list and not (isinstance(content, dict) and part in content):
            return False
        content = content[part]
    return True


def _explain(problem: Any, location: Location) -> tuple[str, str]:
    """What is wrong with a value, and what is allowed."""
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "extra_forbidden":
        return "unknown setting", _nearest_setting(location)
    if kind == "literal_error":
        allowed = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        near = difflib.get_close_matches(str(value), allowed, n=1)
        return f"must be {_either(allowed)}", f"did you mean {near[0]}?" if near else ""
    if kind == "string_pattern_mismatch":
        return "must be a name: letters, digits, and _ . - after the first character", ""
    if kind == "value_error":
        return str(context["error"]), ""
    if isinstance(value, bool) and kind.startswith("string"):
        return "must be text", f"YAML reads a bare {'yes' if value else 'no'} as true or false: write it in quotes"
    return _SENTENCES.get(kind, problem["msg"][:1].lower() + problem["msg"][1:]).format(**context), ""


_SENTENCES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
    "list_type": "must be a list, like [a, b]",
    "dict_type": "must be a section with keys",
    "model_type": "must be a section with keys",
    "too_short": "needs at least {min_length}, has {actual_length}",
}


def _nearest_setting(location: Location) -> str:
    """The nearest valid name for an unknown key: in its section first, then anywhere."""
    *section, key = (str(part) for part in location)
    fields = _fields_at(section)
    near = difflib.get_close_matches(key, fields, n=1)
    if near:
        return f"did you mean {'.'.join([*section, near[0]])}?"
    everywhere = list(setting_paths())
    leaves = [path for path in everywhere if path.rpartition(".")[2] == key or path == key]
    if leaves:
        return f"did you mean {leaves[0]}?"
    return f"known here: {', '.join(fields)}"


def _fields_at(section: Sequence[str]) -> list[str]:
    here: Any = Settings
    for part in section:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[part].annotation
        else:
            here = typing.get_args(here)[1]
        here = section_of(here) or here
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class that an annotation holds directly (`Gate`, `Limit | None`), None for anything else."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        found = [section_of(part) for part in typing.get_args(annotation)]
        return next((part for part in found if part is not None), None)
    return None


def setting_paths(section: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings; a model's are written `models.<name>.dtype`."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        inner = section_of(field.annotation)
        values = typing.get_args(field.annotation)
        if inner is not None:
            yield from setting_paths(inner, f"{path}.")
        elif typing.get_origin(field.annotation) is dict and section_of(values[1]):
            yield from setting_paths(values[1], f"{path}.<name>.")
        else:
            yield path


def _check_paths(settings: Settings, sources: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Local files and folders that the settings name must be there before any job starts."""
    paths: list[tuple[Location, Path | None, bool]] = [
        (("prompts", "folder"), settings.prompts.folder, True),
        (("prompts", "extra"), settings.prompts.extra, True),
    ]
    for name, model in settings.models.items():
        paths.append((("models", name, "folder"), model.folder, True))
        paths.append((("models", name, "gguf"), model.gguf_path, False))
        paths.append((("models", name, "chat_template"), model.chat_template, False))
    for location, path, folder in paths:
        if path is not None and not (path.is_dir() if folder else path.is_file()):
            what = f"no such {'folder' if folder else 'file'}"
            raise PolygateError(
                f"{_prefix(location, str(path), sources)}: {what}",
                do=f"relative paths start in {Path.cwd()}" if not path.is_absolute() else "",
            )


def _check_sentences(settings: Settings, sources: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Alignments need what to say in each of their languages."""
    for name, model in settings.models.items():
        if model.alignment is None:
            continue
        try:
            sentences.load(list(model.alignment.budgets(settings.languages)))
        except PolygateError as error:
            location: Location = ("models", name, "alignment")
            raise PolygateError(f"{_prefix(location, model.alignment, sources)}: {error}") from None


def _either(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location if part != "[key]")


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    text = text.strip('"') if isinstance(value, str) and value.strip() else text
    return text if len(text) <= 60 else text[:57] + "…"


def _kind(value: object) -> str:
    return {"list": "a list", "str": "text", "int": "a number", "float": "a number", "bool": "true or false"}.get(
        type(value).__name__, "something else"
    )
