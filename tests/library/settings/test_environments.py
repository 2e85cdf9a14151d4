"""The conda files name the same libraries, in the same ranges, as the one list of dependencies."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from polygate.errors import PolygateError
from polygate.settings import environments

IMPORTED_AS = {"yaml": "pyyaml", "sklearn": "scikit-learn", "huggingface_hub": "transformers", "jinja2": "transformers"}


def test_every_file_is_in_step_with_pyproject(root: Path) -> None:
    documents = environments.documents(root / "pyproject.toml")
    for name, text in documents.items():
        assert (root / name).read_text() == text, "run `make docs`"
    assert {path.name for path in (root / "envs").glob("*.yaml")} == {Path(name).name for name in documents}


def test_every_dependency_carries_the_range_of_pyproject(root: Path) -> None:
    known = environments.requirements(root / "pyproject.toml")
    pip_names = {conda: pip for pip, conda in environments.CONDA_NAMES.items()}
    for name, text in environments.documents(root / "pyproject.toml").items():
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
    for path in sorted((root / "workflow" / "polygate").rglob("*.py")):
        for module in _imports(path):
            assert IMPORTED_AS.get(module, module) in available, f"{path.name} imports {module}"


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
