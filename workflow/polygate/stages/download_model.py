"""Stage `download-model`: a model at a pinned commit of the Hugging Face hub, as a plain local folder.

Downloads go through the hub's own cache, so an interrupted one resumes and several checkouts share one copy: the
folder holds hard links into the cache where the file system allows, copies elsewhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from polygate import digests
from polygate.errors import PolygateError
from polygate.models import pickled
from polygate.prompts.sources.download import folder_when_complete
from polygate.settings.types import stage_settings

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "USE_POLICY*"]
"""Weights as safetensors, tokenizer, configuration, licence. Pickles are fetched where a model has no others."""
UNWANTED = ["original/*", "*/*"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--settings", required=True, help="JSON with the section model")
    parser.add_argument("--output", required=True, type=Path, help="folder to make")


def run(args: argparse.Namespace) -> None:
    """Download the model and check that weights, configuration and tokenizer have come."""
    model = stage_settings(args.settings).model
    fetch(model.hub, model.revision, args.output)


def fetch(hub: str, revision: str, output: Path) -> None:
    """A model of the hub at a commit as the local folder `output`, whole or not at all."""
    cached = _snapshot(hub, revision, WANTED)
    pickles: list[Path] = []
    if not any(cached.glob("*.safetensors")):
        pickles = pickled.found(_snapshot(hub, revision, pickled.PATTERNS))
    with folder_when_complete(output) as folder:
        for file in sorted(path for path in cached.iterdir() if path.is_file()):
            if not file.name.startswith("pytorch_model"):
                _link(file.resolve(), folder / file.name)
        pickled.convert(pickles, folder)
        _check(folder, hub)
        digests.seal_folder(folder)


def _snapshot(hub: str, revision: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    where = f"{hub} at {revision[:12]}"
    try:
        return Path(snapshot_download(hub, revision=revision, allow_patterns=[*wanted], ignore_patterns=UNWANTED))
    except errors.GatedRepoError:
        problem, do = "the model is gated", "accept its licence on its hub page, then `hf auth login`, and run again"
    except errors.RevisionNotFoundError:
        problem, do = "the hub has no such revision", "give the commit of an existing one"
    except errors.RepositoryNotFoundError:
        problem, do = "the hub has no such model, or it is private", "check the id; `hf auth login` for a private one"
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError):
        problem = "can't reach the hub, and the model is not in its cache"
        do = "run on a machine with network (`snakemake --until download_model download_encoder`), or set its folder"
    except errors.HfHubHTTPError as error:
        problem, do = f"the hub answers {_status(error)}", "try again later"
    except errors.HFValidationError:
        problem, do = "not a valid hub id", "ids look like organisation/name"
    except OSError as error:
        problem, do = f"can't store the download ({error.strerror or error})", "free some space, or set HF_HOME"
    raise PolygateError(problem, where=where, do=do) from None


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else str(error).splitlines()[0]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _check(folder: Path, hub: str) -> None:
    names = {path.name for path in folder.iterdir()}
    if not any(name.endswith(".safetensors") for name in names):
        raise PolygateError("the model has no weights for PyTorch", where=hub, do="choose one that has")
    for name in ("config.json", "tokenizer_config.json"):
        if name not in names:
            raise PolygateError(f"the model has no {name}", where=hub, do="choose one of transformers' format")
