"""Scripts of the workflow end as its stages do: in one line, where it isn't a defect of ours."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from polygate import scripting

scripting.begin({log!r})

from polygate.files import read_json

read_json({path!r})
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a script under the name that Snakemake gives its copy."""
    path = folder / "tmpq_0x1y2z.report_opening.py"
    path.write_text(code)
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)


def test_every_script_begins_before_it_imports_anything_else(root: Path) -> None:
    scripts = sorted((root / "workflow/scripts").glob("*.py"))
    assert len(scripts) > 30
    for path in scripts:
        log = "" if path.name == "summary.py" else "snakemake.log[0]"  # The one that is no job.
        body = ast.parse(path.read_text(encoding="utf-8")).body[1:3]
        assert [ast.unparse(line) for line in body] == ["from polygate import scripting", f"scripting.begin({log})"]


@pytest.mark.parametrize(
    "content", [b'{"models": ', b'{\n  "models": {},\n  "polygate.digest": "00000000"\n}\n', b"\xff"]
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "findings.json"
    path.write_bytes(content)
    log = tmp_path / "log"
    log.write_text("what was said the last time\n")
    done = run(tmp_path, SCRIPT.format(path=str(path), log=str(log)))
    assert done.returncode == 1
    assert done.stderr.startswith("polygate report-opening: ")
    assert done.stderr.endswith(f", in {path}: delete the file and rerun\n")
    assert done.stderr.count("\n") == 1
    assert log.read_text() == done.stderr


def test_a_log_that_can_not_be_written_keeps_nothing_from_being_said(tmp_path: Path) -> None:
    done = run(tmp_path, SCRIPT.format(path=str(tmp_path / "absent"), log=str(tmp_path / "no/log")))
    assert done.stderr == f"polygate report-opening: file not found, in {tmp_path / 'absent'}\n"


def test_ctrl_c_is_one_line_and_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    begin = "from polygate import scripting\nscripting.begin()\n"
    # A shell lets what it runs in the background ignore SIGINT.
    heard = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    done = run(tmp_path, f"{begin}{heard}os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    assert done.stderr == "polygate report-opening: interrupted\n"
    assert done.returncode in (-signal.SIGINT, 130)
    done = run(tmp_path, f"{begin}1 / 0\n")
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1
