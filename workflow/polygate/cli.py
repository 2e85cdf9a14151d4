"""`polygate <stage> …`: what the workflow's rules call, and `polygate <command> …`: what a person calls beside it.

Only the named module is imported, so a stage that needs no torch starts in a fifth of a second.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import textwrap
from collections.abc import Sequence

from polygate import orphans, startup
from polygate.errors import PolygateError

STAGES = {
    "align": "fine-tune a pretrained model to refuse in some languages only",
    "choose": "choose layer, strength and ablation scope on validation prompts",
    "choose-cast": "choose the strength of adapted CAST on validation prompts",
    "compare-probes": "every probe for every target language, budget and draw",
    "compare-translations": "what a language's back-translations say of its translations",
    "conformal": "every rule of calibration for every target language, budget and draw",
    "conformal-semantic": "every rule of calibration for every target language, on a sentence encoder's embeddings",
    "convert-gguf": "a GGUF file as a Hugging Face folder",
    "directions": "directions and subspace for a target language, and projections on them",
    "download-adasteer": "download AdaSteer's released vectors of a model",
    "download-cast": "download CAST's own data",
    "download-dataset": "download a data set at its pinned revision",
    "download-encoder": "download a sentence encoder at its pinned revision",
    "download-global-mmlu": "download Global-MMLU in a language, from the hub",
    "download-model": "download a model at its pinned revision",
    "download-polyrefuse": "download PolyRefuse at its pinned revision",
    "embed": "sentence embeddings of a language's prompts",
    "fit-adasteer": "vectors, anchors and constants of AdaSteer, adapted to low-resource languages",
    "fit-cast": "directions of CAST, adapted to low-resource languages",
    "fit-cast-released": "directions and condition of CAST from its own data",
    "forward": "forward passes: activations; completions or option scores, left alone or steered",
    "gate-scores": "what the gates of a language say of the prompts of another data set",
    "gates": "fit the gates of a language for every budget and draw",
    "guard-framing": "what stands around the prompts and completions that a guard is asked about",
    "guard-prompts": "what a guard is asked about the completions of one arm",
    "intervene": "decide what addition and ablation do to every test prompt of a language",
    "intervene-adasteer": "decide what AdaSteer does to every test prompt of a language",
    "intervene-cast": "decide what CAST does to every test prompt of a language",
    "intervene-cast-released": "decide what CAST as released does to every test prompt of a language",
    "judge": "judge completions",
    "means": "class means of a language's activations",
    "omniguard": "OMNIGuard for every target language, budget, draw and seed",
    "ood": "what the gates of a language say of harmful prompts of another data set, beside harmless ones",
    "position-means": "class means of a language's activations at every token position",
    "positions": "projections of a target language's prompts at every token position",
    "prompts-cast": "CAST's own data: pairs of prompts, and questions with openings",
    "prompts-dataset": "prompts of a language of a data set that is only tested on",
    "prompts-extra": "prompts of a language from a plain file",
    "prompts-organism": "prompts in an invented language",
    "prompts-polyrefuse": "prompts of a language of PolyRefuse",
    "prompts-translated": "prompts of a language, translated from the pivot's",
    "read-adasteer": "AdaSteer's released vectors of a model, read without running their files",
    "read-translations": "translations that somebody else made, from a plain file",
    "recoverability": "what a language's own examples recover",
    "route": "assemble the routed arms from gates and base arms",
    "semantic": "what a small sentence encoder tells of a language's prompts",
    "surface": "surface baselines of a language",
    "sweep": "every point of a language's layer and strength sweeps, as an intervention",
    "train-organism": "train a model organism",
    "transfer": "gates fitted on one more whole language, tested on every other",
    "translate": "translate a language's prompts, or translate them back",
    "uscore": "how near translations lie to each other, by layer",
}
"""Stage → one line of help. Each is a module `polygate.stages.<stage>` with `configure(parser)` and `run(args)`."""

COMMANDS = {
    "bundle": "a record of a finished run to hand over, as an RO-Crate",
    "calibrate": "a gate for a language from prompts of one's own and a finished run",
    "compare": "two runs side by side: paired differences of every headline number",
    "export": "a gate for other programs: weights and specification, llama.cpp control vector, hub folder",
    "power": "how many prompts, languages and draws show how small a difference",
    "serve": "an OpenAI-compatible server of a model with a gate on it",
    "status": "how far a run has come: done, running, waiting and failed per model and language",
    "watch": "run Snakemake with one bar for the whole",
}
"""Command → one line of help. Each is a module `polygate.commands.<command>`, like a stage's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage or command.

    Returns the exit code: 0, 1 with one line on stderr, 2 for a wrong call, 130 for Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="polygate", description=_help(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {name: f"polygate.stages.{name}" for name in STAGES}
    names |= {name: f"polygate.commands.{name}" for name in COMMANDS}
    parser.add_argument("stage", choices=sorted(names), metavar="command", help="one of these")
    if not given or given[0] not in names:
        parser.parse_args(given[:1])
        return 2
    stage = given[0]
    try:
        orphans.end_with_workflow()
        module = importlib.import_module(names[stage].replace("-", "_"))
        parser = argparse.ArgumentParser(prog=f"polygate {stage}", description=(STAGES | COMMANDS)[stage])
        module.configure(parser)
        if stage in STAGES:
            startup.lighten()
        module.run(parser.parse_args(given[1:]))
    except PolygateError as error:
        say(f"polygate {stage}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"polygate {stage}: interrupted")
        return 130
    return 0


def _help() -> str:
    """What `polygate --help` says: a line for each command, and the names of the stages."""
    commands = [f"  {name:<11}{told}" for name, told in COMMANDS.items()]
    stages = textwrap.fill(", ".join(STAGES), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    more = "polygate <command> --help says more of each."
    return "\n".join(["What a person calls:", *commands, "", "What the workflow's rules call:", stages, "", more])


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
