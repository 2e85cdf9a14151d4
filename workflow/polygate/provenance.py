"""What made a result: settings, versions and a hash of the code that ran.

`code_hash("polygate.decision.gate")` hashes that module, every polygate module it imports (directly, indirectly, or
inside a function), and the kernels' Rust sources when it uses them. The workflow makes this hash a parameter of each
rule, so editing a module reruns what depends on it and nothing else.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
RUST = PACKAGE.parent.parent / "rust"
KERNELS = "polygate.kernels"


IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(polygate[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+(polygate[^\n]*))", re.M
)
"""An import within polygate. Parsing all sources would be a third of the time that reading the workflow takes; what
this finds too much, as in a docstring, is at worst a module more in a hash."""


@cache
def code_hash(*modules: str) -> str:
    """Hash (16 hex digits) of the import closure of `modules` within polygate.

    Comments and formatting of Python count (the files' bytes are hashed); data files beside a module count when
    they share its name up to the suffix.
    """
    digest = hashlib.sha256()
    for path in sorted(_closure(modules)):
        digest.update(path.name.encode())
        digest.update(_digest(path))
    return digest.hexdigest()[:16]


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _closure(modules: Iterable[str]) -> set[Path]:
    seen: set[str] = set()
    files: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        own, imported = _sources(PACKAGE, name)
        files.update(own)
        waiting.extend(imported)
    if KERNELS in seen:
        files.update(_kernel_files())
    return files


def _kernel_files() -> set[Path]:
    if RUST.is_dir():
        return {RUST / "Cargo.toml", RUST / "Cargo.lock", *(RUST / "src").rglob("*.rs")}
    return set(PACKAGE.glob("_kernels*.so"))


@cache
def _sources(package: Path, module: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """A module's file with the data beside it, and what it imports within polygate; nothing for what is no module."""
    path = _file_of(package, module)
    if path is None:
        return (), ()
    data = (found for found in path.parent.glob(f"{path.stem}.*") if found.suffix not in {".py", ".pyi", ".so"})
    return (path, *data), tuple(_imports(path.read_text(encoding="utf-8")) | {module.rpartition(".")[0]} - {"polygate"})


def _file_of(package: Path, module: str) -> Path | None:
    base = package.joinpath(*module.split(".")[1:])
    return next((found for found in (base.with_suffix(".py"), base / "__init__.py") if found.is_file()), None)


def _imports(source: str) -> set[str]:
    """Names the source imports within polygate, at any depth: of `from polygate.a import b`, polygate.a and ….a.b."""
    names: set[str] = set()
    for package, taken, modules in IMPORT.findall(source):
        if package:
            names |= {package, *(f"{package}.{name}" for name in re.findall(r"\w+", taken))}
        else:
            names.update(re.findall(r"polygate[\w.]*", modules))
    return names


LIBRARIES = ("numpy", "torch", "transformers", "tokenizers", "safetensors", "scikit-learn", "scipy")


def provenance(module: str, **facts: Any) -> dict[str, Any]:
    """Provenance of a result: `facts` (settings, model revision, device, dtype…), versions, and the code's hash.

    Holds no time and no path, so the same computation gives the same bytes.
    """
    versions = {"python": platform.python_version(), "polygate": _version("polygate")}
    versions.update({name: _version(name) for name in LIBRARIES})
    return {**facts, "module": module, "code": code_hash(module), "versions": versions}


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
