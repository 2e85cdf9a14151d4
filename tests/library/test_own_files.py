"""Files of the user's own that no language reads are told, and those that seem to be meant for one are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from polygate import own_files
from polygate.errors import PolygateError
from polygate.judges import phrases

PHRASES = "refusals:\n- nein\n"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["DE.yaml"], r"DE\.yaml is not read: a file of phrases in de is called de\.yaml: rename it"),
        (["de.yml"], r"de\.yml is not read"),
        (["de.yaml", "de.yml"], r"de\.yaml and de\.yml are both there for de: keep one of them"),
        (["pt.yaml", "pt-BR.yml"], r"pt\.yaml and pt-BR\.yml are both there for pt-BR"),
    ],
)
def test_a_file_of_phrases_that_would_be_passed_over_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text(PHRASES)
    with pytest.raises(PolygateError, match=message):
        phrases.check_folder(tmp_path, ["de", "pt-BR"])


def test_other_languages_files_and_drafts_are_told_and_notes_are_not(tmp_path: Path) -> None:
    for name in ("de.yaml", "fr.yaml", "de.old.yaml"):
        (tmp_path / name).write_text(PHRASES)
    (tmp_path / "README.md").touch()
    assert phrases.check_folder(tmp_path, ["de"]) == ["de.old.yaml", "fr.yaml"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="the folder can't be read"):
        own_files.names(tmp_path / "nowhere")
