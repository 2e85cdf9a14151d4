"""`polygate <stage> …`: what the workflow's rules call, and what a user can call by hand.

Only the named stage's module is imported, so a stage that needs no torch starts in a fifth of a second.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from polygate.errors import PolygateError

STAGES = {
    "align": "fine-tune a pretrained model to refuse in some languages only",
    "choose": "choose layer, strength and ablation scope on validation prompts",
    "compare-probes": "every probe for every target language, budget and draw",
    "convert-gguf": "a GGUF file as a Hugging Face folder",
    "directions": "directions and subspace for a target language, and projections on them",
    "download-model": "download a model at its pinned revision",
    "download-polyrefuse": "download PolyRefuse at its pinned revision",
    "forward": "forward passes: activations, or completions left alone or steered",
    "gates": "fit the gates of a language for every budget and draw",
    "judge": "judge completions",
    "means": "class means of a language's activations",
    "prompts-extra": "prompts of a language from a plain file",
    "prompts-organism": "prompts in an invented language",
    "prompts-polyrefuse": "prompts of a language of PolyRefuse",
    "recoverability": "what a language's own examples recover",
    "route": "assemble the routed arms from gates and base arms",
    "surface": "surface baselines of a language",
    "train-organism": "train a model organism",
}
"""Stage → one line of help. Each is a module `polygate.stages.<stage>` with `configure(parser)` and `run(args)`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage. Returns the exit code: 0, 1 with one line on stderr, or 2 for a wrong command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="polygate", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stage", choices=sorted(STAGES), metavar="stage", help=", ".join(sorted(STAGES)))
    if not given or given[0] not in STAGES:
        parser.parse_args(given[:1])
        return 2
    stage = given[0]
    module = importlib.import_module(f"polygate.stages.{stage.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"polygate {stage}", description=STAGES[stage])
    module.configure(parser)
    try:
        module.run(parser.parse_args(given[1:]))
    except PolygateError as error:
        print(f"polygate {stage}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
