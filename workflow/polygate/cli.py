"""`polygate <stage> …`: what the workflow's rules call, and what a user can call by hand.

Only the named stage's module is imported, so a stage that needs no torch starts in a fifth of a second.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

from polygate import orphans
from polygate.errors import PolygateError

STAGES = {
    "align": "fine-tune a pretrained model to refuse in some languages only",
    "choose": "choose layer, strength and ablation scope on validation prompts",
    "compare-probes": "every probe for every target language, budget and draw",
    "convert-gguf": "a GGUF file as a Hugging Face folder",
    "directions": "directions and subspace for a target language, and projections on them",
    "download-dataset": "download a data set at its pinned revision",
    "download-global-mmlu": "download Global-MMLU in a language, from the hub",
    "download-model": "download a model at its pinned revision",
    "download-polyrefuse": "download PolyRefuse at its pinned revision",
    "forward": "forward passes: activations; completions or option scores, left alone or steered",
    "gate-scores": "what the gates of a language say of the prompts of another data set",
    "gates": "fit the gates of a language for every budget and draw",
    "intervene": "decide what addition and ablation do to every test prompt of a language",
    "judge": "judge completions",
    "means": "class means of a language's activations",
    "ood": "what the gates of a language say of harmful prompts of another data set, beside harmless ones",
    "position-means": "class means of a language's activations at every token position",
    "positions": "projections of a target language's prompts at every token position",
    "prompts-dataset": "prompts of a language of a data set that is only tested on",
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
    """Run one stage. Returns the exit code: 0, 1 with one line on stderr, 2 for a wrong command, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="polygate", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stage", choices=sorted(STAGES), metavar="stage", help=", ".join(sorted(STAGES)))
    if not given or given[0] not in STAGES:
        parser.parse_args(given[:1])
        return 2
    stage = given[0]
    try:
        orphans.end_with_workflow()
        module = importlib.import_module(f"polygate.stages.{stage.replace('-', '_')}")
        parser = argparse.ArgumentParser(prog=f"polygate {stage}", description=STAGES[stage])
        module.configure(parser)
        module.run(parser.parse_args(given[1:]))
    except PolygateError as error:
        say(f"polygate {stage}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"polygate {stage}: interrupted")
        return 130
    return 0


def say(line: str) -> None:
    """Print a line on stderr, or on stdout where that can't be written: a rule's log may lie on the full disk."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        # What could not be written stays in the stream's buffer, and would be an error again when Python ends.
        sys.stderr = io.StringIO()
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
