"""The code's hash follows imports: what a stage uses is in it, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from polygate import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package a → b (imported inside a function) → kernels, and c alone."""
    folder = tmp_path / "workflow" / "polygate"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("def f():\n    from polygate.b import g\n    return g\n")
    (folder / "b.py").write_text("from polygate import kernels\ng = kernels\n")
    (folder / "kernels.py").write_text("")
    (folder / "c.py").write_text("x = 1\n")
    (folder / "c.json").write_text("{}")
    rust = tmp_path / "rust"
    (rust / "src").mkdir(parents=True)
    (rust / "src" / "lib.rs").write_text("")
    (rust / "Cargo.toml").write_text("")
    (rust / "Cargo.lock").write_text("")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    monkeypatch.setattr(provenance, "RUST", rust)
    return folder


def hashes() -> tuple[str, str]:
    for cached in (provenance.code_hash, provenance._digest, provenance._sources):
        cached.cache_clear()
    return provenance.code_hash("polygate.a"), provenance.code_hash("polygate.c")


@pytest.mark.parametrize(
    ("file", "changes_a", "changes_c"),
    [
        ("a.py", True, False),
        ("b.py", True, False),
        ("../../rust/src/lib.rs", True, False),
        ("c.py", False, True),
        ("c.json", False, True),
    ],
)
def test_an_edit_changes_the_hash_of_what_imports_it_only(
    package: Path, file: str, changes_a: bool, changes_c: bool
) -> None:
    before = hashes()
    with (package / file).open("a") as source:
        source.write("\n")
    after = hashes()
    assert (before[0] != after[0], before[1] != after[1]) == (changes_a, changes_c)


def test_every_stage_has_a_hash_of_its_own_sources() -> None:
    from polygate.cli import STAGES

    assert STAGES
    for stage in STAGES:
        module = f"polygate.stages.{stage.replace('-', '_')}"
        names = {path.name for path in provenance._closure([module])}
        assert f"{stage.replace('-', '_')}.py" in names


def test_imports_are_those_that_python_sees(root: Path) -> None:
    for path in (root / "workflow/polygate").rglob("*.py"):
        source, seen = path.read_text(), set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                seen |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                seen |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        assert {name for name in seen if name.split(".")[0] == "polygate"} <= provenance._imports(source), path


def test_provenance_holds_no_time_and_no_path() -> None:
    facts = provenance.provenance("polygate.files", seed=1)
    assert facts["seed"] == 1
    assert facts["code"] == provenance.code_hash("polygate.files")
    assert str(Path.home()) not in str(facts)
