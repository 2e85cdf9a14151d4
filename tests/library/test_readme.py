"""What the README says is true: its example runs, its files and targets exist."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_print_what_they_say(readme: str) -> None:
    examples = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    promising = {example: found for example in examples if (found := re.findall(r"print\(.*\)  # ([\d.]+)", example))}
    for example, promised in promising.items():
        printed = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True).stdout
        assert printed.split() == promised
    assert len(promising) == 1
    # The others need a model: what they import and call is there.
    for example in set(examples) - promising.keys():
        imports = re.findall(r"^from polygate import (\w+)$", example, flags=re.MULTILINE)
        for module in imports:
            called = re.findall(rf"\b{module}\.(\w+)\(", example)
            assert called
            assert all(hasattr(importlib.import_module(f"polygate.{module}"), name) for name in called)


def test_every_target_and_file_exists(readme: str, root: Path) -> None:
    targets = set(re.findall(r"(?<![a-z])make ([a-z][a-z-]*)", readme))
    known = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"run", "test", "help"} <= targets <= known
    linked = re.findall(r"\]\(([^)#]+)\)", readme) + re.findall(r"^\| `([a-z/]+/)`", readme, flags=re.MULTILINE)
    assert len(linked) > 8
    assert [path for path in linked if not (root / path).exists()] == []


def test_the_kernels_need_numpy_alone() -> None:
    code = "import sys, polygate.kernels; print(sorted({'torch', 'pandas', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
