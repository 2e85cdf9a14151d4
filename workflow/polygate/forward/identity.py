"""Which model a file is of, in sixteen digits that its readers compare with the model they were asked for.

A name would not do: cells are shared by models that differ in nothing but their names, and a name may come to mean
another model. The digits are a hash of the contents of the model's folder and of the options it runs with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from polygate.errors import PolygateError
from polygate.forward.loading import fingerprint
from polygate.forward.options import Options

HELP = "JSON: settings, folder and cache of the model that the files are of, which is then checked"


def of(options: Options, contents: str) -> str:
    """The identity, 16 hex digits, of a model whose folder has the fingerprint `contents`.

    Raises `PolygateError` when a chat template of the user's own can't be read.
    """
    described = {**asdict(options), "contents": contents}
    if options.quantisation == "none":
        del described["quantisation"]  # As files say it that are older than the setting.
    if options.chat_template is not None:
        try:
            described["chat_template"] = Path(options.chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolygateError(f"chat template can't be read ({error})", where=options.chat_template) from None
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]


def asked_for(described: str | None, found: Mapping[str, str]) -> str:
    """The identity of the model that a stage was asked for, as the workflow describes it in JSON.

    Where that says nothing, or its folder is no longer there, it is what the first file read says (`found`), so that
    files are still of one model. "" when nobody says anything.
    """
    given = json.loads(described) if described else {}
    if given and Path(given["folder"], "config.json").is_file():
        return of(Options.of(given["model"]), fingerprint(given["folder"], given["cache"]))
    return found.get("model", "")
