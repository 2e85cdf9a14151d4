"""The conda files name the same libraries, in the same ranges, as the one list of dependencies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from polygate import provenance
from polygate.errors import PolygateError
from polygate.settings import environments

IMPORTED_AS = {"yaml": "pyyaml", "sklearn": "scikit-learn", "huggingface_hub": "huggingface-hub"}
BROUGHT = {"huggingface-hub": "transformers", "jinja2": "transformers"}
"""Packages that come with another one."""


def test_every_file_is_in_step_with_pyproject(root: Path) -> None:
    documents = environments.documents(root / "pyproject.toml")
    for name, text in documents.items():
        assert (root / name).read_text() == text, "run `make docs`"
    written = {f"envs/{path.name}" for path in (root / "envs").iterdir() if path.suffix in (".yaml", ".sh")}
    assert written == set(documents)


def test_every_dependency_carries_the_range_of_pyproject(root: Path) -> None:
    known = environments.requirements(root / "pyproject.toml")
    pip_names = {conda: pip for pip, conda in environments.CONDA_NAMES.items()}
    for name, text in environments.documents(root / "pyproject.toml").items():
        if not name.endswith(".yaml"):
            continue
        content = yaml.safe_load(text)
        assert content["channels"][0] == "conda-forge"
        own = content["dependencies"][-1]
        taken = own["pip"] if isinstance(own, dict) else []
        assert taken == [f"{each}{known[each]}" for each in environments.PIP.get(Path(name).stem, ())]
        for line in content["dependencies"]:
            if taken and line in ("pip", own):
                continue
            package, _, versions = line.partition(" ")
            if package in environments.BESIDE[Path(name).stem]:
                continue
            assert known[pip_names.get(package, package)] == versions


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"polygate", "snakemake"}


def test_everything_the_library_imports_is_in_an_environment(root: Path) -> None:
    available = {name for _, names in environments.GROUPS.values() for name in names}
    available |= {name for names in environments.PIP.values() for name in names}
    # No rule serves a model: a person does, with an extra of its own.
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    available |= {re.split(r"[<>=\[]", line)[0] for line in project["optional-dependencies"]["serve"]}
    for path in sorted((root / "workflow" / "polygate").rglob("*.py")):
        for module in _imports(path):
            package = IMPORTED_AS.get(module, module)
            assert {package, BROUGHT.get(package)} & available, f"{path.name} imports {module}"


def _at_once(tree: ast.Module) -> list[ast.stmt]:
    """What runs when a module is imported: nothing inside functions, nothing for type checkers only."""
    waiting, found = list(tree.body), []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting += node.body + getattr(node, "orelse", [])
        else:
            found.append(node)
    return found


def _named(nodes: list[ast.AST]) -> set[str]:
    """Modules that import statements among `nodes` name, `from a import b` as both a and a.b."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def needed(path: Path) -> set[str]:
    """Packages that a stage or script needs: its own imports, also inside functions, and those that run with them."""
    waiting, seen, packages = _named(list(ast.walk(ast.parse(path.read_text())))), set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.partition(".")[0] != "polygate":
            packages.add(name.partition(".")[0])
        elif (file := provenance._file_of(provenance.PACKAGE, name)) is not None:
            waiting |= _named(list(_at_once(ast.parse(file.read_text()))))
    return {IMPORTED_AS.get(name, name) for name in packages - set(sys.stdlib_module_names) - {"snakemake"}}


def rules_of(root: Path) -> list[tuple[str, str, Path]]:
    """Rule, environment, and the stage or script that it runs."""
    found = []
    for file in sorted((root / "workflow/rules").glob("*.smk")):
        for body in re.split(r"^ *rule\b", file.read_text(), flags=re.M)[1:]:
            environment = re.search(r"envs/(\w+)\.yaml", body)
            stage = re.search(r'"polygate ([a-z-]+)', body)
            script = re.search(r'"\.\./scripts/(\w+\.py)"', body)
            if environment is None:
                continue
            name = body.split(":")[0].strip() or "unnamed"
            if stage:
                ran = root / f"workflow/polygate/stages/{stage[1].replace('-', '_')}.py"
            else:
                assert script, name
                ran = root / "workflow/scripts" / script[1]
            found.append((name, environment[1], ran))
    return found


def test_each_environment_satisfies_every_import_of_the_rules_that_use_it(root: Path) -> None:
    rules = rules_of(root)
    assert len(rules) > 60
    assert {environment for _, environment, _ in rules} == {"base", "model", "workflow"}
    lacking = set()
    for name, environment, path in rules:
        has = {*environments.GROUPS[environment][1], *environments.PIP.get(environment, ())}
        lacking |= {
            (environment, package, name) for package in needed(path) if not {package, BROUGHT.get(package)} & has
        }
    assert not lacking


def test_the_rules_name_environments_that_exist(root: Path) -> None:
    for path in (root / "workflow" / "rules").glob("*.smk"):
        for name in re.findall(r'conda:\s+"([^"]+)"', path.read_text()):
            assert (path.parent / name).is_file(), f"{path.name}: {name}"


def test_models_in_packages_are_locked_apart_from_the_environment(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    small = extras["small"] + extras["encoder"] + project["dependency-groups"]["small"]
    wanted = {re.split(r"[<>=]", line)[0] for line in small}
    pins = {
        name: re.findall(r"^([a-z0-9-]+)==\S+.* \\\n    --hash=", (root / name).read_text(), re.MULTILINE)
        for name in ("requirements.lock", "requirements-small.lock")
    }
    assert set(pins["requirements-small.lock"]) == wanted
    assert len(pins["requirements.lock"]) > 100
    assert not wanted & set(pins["requirements.lock"])
    assert not any("://" in (root / name).read_text() for name in pins)


def test_an_environment_that_wants_what_nobody_depends_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nrequires-python = ">=3.11"\ndependencies = ["numpy>=1"]\n[project.optional-dependencies]\n'
    )
    with pytest.raises(PolygateError, match="httpx2"):
        environments.documents(path)


def test_each_environment_gets_the_library_and_its_kernels_once_it_is_made(root: Path, tmp_path: Path) -> None:
    """Snakemake runs {environment}.post-deploy.sh in the new environment: it builds this checkout, nothing else."""
    pip = tmp_path / "python"
    pip.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n')
    pip.chmod(0o755)
    for name in environments.GROUPS:
        content = yaml.safe_load((root / f"envs/{name}.yaml").read_text())
        packages = {line.split()[0] for line in content["dependencies"] if isinstance(line, str)}
        assert {"pip", "maturin", "rust", "numpy"} <= packages
        calls = tmp_path / name
        surroundings = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(calls), "POLYGATE_SOURCE": str(root)}
        script = root / f"envs/{name}.post-deploy.sh"
        subprocess.run(["bash", str(script)], env=surroundings, check=True, cwd=tmp_path)
        build, check = calls.read_text().splitlines()
        assert build == f"-m pip install --quiet --no-deps --no-build-isolation {root}"
        assert check == "-P -c import polygate.kernels"
        subprocess.run([sys.executable, *check.split(" ", 2)[:2], "import polygate.kernels"], check=True, cwd=tmp_path)
