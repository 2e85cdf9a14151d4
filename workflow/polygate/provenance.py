"""What made a result: settings, versions and a hash of the code that ran.

`code_hash("polygate.decision.gate")` hashes that module, every polygate module it imports (directly, indirectly, or
inside a function), and the kernels' Rust sources when it uses them. The workflow makes this hash a parameter of each
rule, so editing a module reruns what depends on it and nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
RUST = PACKAGE.parent.parent / "rust"
KERNELS = "polygate.kernels"


@cache
def code_hash(*modules: str) -> str:
    """Hash (16 hex digits) of the import closure of `modules` within polygate.

    Comments and formatting of Python count (the files' bytes are hashed); data files beside a module count when
    they share its name up to the suffix.
    """
    digest = hashlib.sha256()
    for path in sorted(_closure(modules)):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _closure(modules: Iterable[str]) -> set[Path]:
    seen: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in seen or path is None:
            continue
        seen[name] = path
        waiting.extend(_imports(path, name))
    files = set(seen.values())
    for path in list(files):
        files.update(p for p in path.parent.glob(f"{path.stem}.*") if p.suffix not in {".py", ".pyi", ".so"})
    if KERNELS in seen:
        files.update(_kernel_files())
    return files


def _kernel_files() -> set[Path]:
    if RUST.is_dir():
        return {RUST / "Cargo.toml", RUST / "Cargo.lock", *(RUST / "src").rglob("*.rs")}
    return set(PACKAGE.glob("_kernels*.so"))


def _file_of(module: str) -> Path | None:
    return _found(PACKAGE, module)


@cache
def _found(package: Path, module: str) -> Path | None:
    if module != "polygate" and not module.startswith("polygate."):
        return None
    base = package.joinpath(*module.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(path: Path, module: str) -> tuple[str, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    if module.startswith("polygate."):
        names.add(module.rpartition(".")[0])
    return tuple(sorted(name for name in names if name.startswith("polygate.")))


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
