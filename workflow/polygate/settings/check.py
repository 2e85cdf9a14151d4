"""From a configuration to settings, or to the one line that says what is wrong with it.

An error names the file, the key and its value, what is allowed, and the nearest valid name for a mistyped one. What
settings name besides themselves (files, packages, languages' phrases) is looked at by `polygate.preflight`.
"""

from __future__ import annotations

import datetime
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from polygate.errors import PolygateError
from polygate.settings.types import BASE_URL, COMMIT, ENVIRONMENT_VARIABLE, SECRETS, Settings, TruthForNumberError

COMMAND_LINE = "--config"
"""Where a key comes from that stands in no configuration file."""

Location = tuple[str | int, ...]


Sources = Sequence[tuple[str, dict[str, Any]]]
"""Where settings come from: each file's name and content, then what the command line changed."""


def parse(values: Mapping[str, Any], files: Sequence[str | Path] = ()) -> tuple[Settings, Sources]:
    """Check a configuration (the merged content of `files`, and of the command line) as far as it tells by itself.

    Returns the settings and where they come from, for `where`. Raises `PolygateError` for the first wrong key, naming
    how many more there are: unknown, of the wrong type, out of range, or contradicting another.
    """
    sources = [(str(path), read_yaml(path)) for path in files]
    merged: dict[str, Any] = {}
    for _, content in sources:
        merged = _updated(merged, content)
    if sources and (given := _beyond(merged, values)):
        sources.append((COMMAND_LINE, given))
    try:
        return Settings.model_validate(dict(values)), sources
    except ValidationError as error:
        raise _first_error(error, sources) from None


class _Loader(yaml.SafeLoader):
    """YAML as Snakemake reads it, but for what would be lost or changed without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose keys stand in it once: of two, YAML keeps the last."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                self._refuse(f"{name} is already set at line {lines[name]}", key)
            lines[name] = line
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A number as it is written: YAML 1.1 takes 010 for eight and 1:30 for ninety."""
        if re.fullmatch(r"[-+]?(0[0-7_]+|.*:.*)", node.value):
            self._refuse(f"YAML takes {node.value} for {super().construct_yaml_int(node)}", node)
        return int(super().construct_yaml_int(node))

    def _refuse(self, what: str, node: yaml.Node) -> None:
        raise yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Content of a YAML file of settings; `PolygateError` when it is absent, not a mapping, or holds a key twice."""
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise PolygateError("file not found", where=path) from None
    except UnicodeDecodeError:
        raise PolygateError("not UTF-8", where=path, do="save it as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise PolygateError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise PolygateError(f"{path}: a configuration is a mapping of settings, not {_kind(content)}")
    return {str(key): value for key, value in content.items()}


def _updated(content: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the settings of another file put over it, as Snakemake merges configuration files."""
    return {**content, **{key: _over(content.get(key), value) for key, value in by.items()}}


def _over(old: Any, new: Any) -> Any:
    return _updated(old if isinstance(old, Mapping) else {}, new) if isinstance(new, Mapping) else new


def _beyond(merged: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `values` that isn't what the files say: it comes from the command line."""
    found = {}
    for key, value in values.items():
        said = merged.get(key) if isinstance(merged, Mapping) else None
        if isinstance(value, Mapping) and value:
            if inner := _beyond(said, value):
                found[key] = inner
        elif json.dumps(said, default=str) != json.dumps(value, default=str):
            found[key] = value
    return found


def _first_error(error: ValidationError, sources: Sources) -> PolygateError:
    # An unknown key first: a mistyped name also leaves the setting it meant at its default.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    location = tuple(part for part in problem["loc"] if part != "[key]")
    what, do = _explain(problem, location)
    if len(problems) > 1:
        others = list(dict.fromkeys(_dotted(tuple(other["loc"])) for other in problems[1:]))
        do += f" (and {len(problems) - 1} more: {', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
    return PolygateError(f"{where(location, problem['input'], sources)}: {what}", do=do)


def where(location: Location, value: Any, sources: Sources) -> str:
    """ "file: key = value", the value left out where it would be a whole section."""
    key = _dotted(location)
    hidden = isinstance(value, dict | BaseModel) or not key or location[-1] in SECRETS
    shown = "" if hidden else f" = {_show(value)}"
    return f"{_file_of(location, sources)}: {key}{shown}".removesuffix(": ")


def _file_of(location: Location, sources: Sources) -> str:
    """The last file that sets `location` (later files win), else the command line or the only file."""
    for length in range(len(location), 0, -1):
        for name, content in reversed(sources):
            if _holds(content, location[:length]):
                return name
    if not sources:
        return "settings"
    if location:
        return COMMAND_LINE
    # What contradicts may stand in the last file, on the command line, or half here and half there.
    *_, last = names = [name for name, _ in sources]
    return f"{names[-2]} and {last}" if last == COMMAND_LINE else last


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
    if kind == "string_pattern_mismatch" and context["pattern"] == COMMIT:
        return "must be a commit: its 40 hex digits", "branches and tags move, and results with them"
    if kind == "string_pattern_mismatch" and context["pattern"] == ENVIRONMENT_VARIABLE:
        return "must be the name of an environment variable, like OPENAI_API_KEY", "never write the key itself down"
    if kind == "string_pattern_mismatch" and context["pattern"] == BASE_URL:
        return "must be an address like https://api.openai.com/v1", "without user, password or query"
    if kind == "string_pattern_mismatch":
        return "must be a name: letters, digits, and _ . - after the first character", ""
    if kind == "value_error" and isinstance(context["error"], TruthForNumberError):
        return "must be a number", f"YAML reads a bare yes or no as true or false{_when_empty(location)}"
    if kind == "value_error":
        return str(context["error"]), ""
    if isinstance(value, bool) and kind.startswith("string"):
        return "must be text", f"YAML reads a bare {'yes' if value else 'no'} as true or false: write it in quotes"
    if isinstance(value, int | float | datetime.date) and kind == "string_type":
        read = "a date" if isinstance(value, datetime.date) else "a number"
        return "must be text", f"YAML reads it as {read}: write it in quotes, on the command line within others"
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
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "string_too_long": "must have at most {max_length} characters",
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


def _fields_at(section: Sequence[str]) -> dict[str, FieldInfo]:
    here: Any = Settings
    for part in section:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[part].annotation
        else:
            here = typing.get_args(here)[1]
        here = section_of(here) or here
    return dict(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else {}


def _when_empty(location: Location) -> str:
    """What the setting's description says of leaving it empty."""
    *section, key = (str(part) for part in location)
    field = _fields_at(section).get(key)
    found = re.search(r"[^.;:]*\bwhen empty", (field.description if field else None) or "")
    return f"; {found[0].strip()}" if found else ""


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
