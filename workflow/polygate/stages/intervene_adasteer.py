"""What AdaSteer does to every test prompt of a language: coefficients read off the prompts' own activations."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from polygate import files
from polygate.forward import identity
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.provenance import provenance
from polygate.representation.directions import open_matching
from polygate.representation.store import ActivationStore
from polygate.steering.adasteer import AdaSteer


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the stage."""
    parser.add_argument("--adasteer", required=True, help="what `fit-adasteer` or `read-adasteer` wrote")
    of_an_arm(parser)


def of_an_arm(parser: argparse.ArgumentParser) -> None:
    """Arguments of a stage that decides one arm of one language from the prompts' own activations."""
    parser.add_argument("--arm", required=True, help="what the arm is called")
    parser.add_argument("--dataset", help="data set of the prompts")
    parser.add_argument("--language", required=True, help="the language that is steered")
    parser.add_argument("--activations", required=True, help="activation store of the language")
    parser.add_argument("--prompts", required=True, help="its prompt table")
    parser.add_argument("--output", required=True, help="safetensors")
    parser.add_argument("--of", help=identity.HELP)


@dataclass(frozen=True)
class Steered:
    """What such a stage reads: prompts, their activations, and which model these are of."""

    prompts: PromptTable
    store: ActivationStore
    model: str
    arm: str

    @classmethod
    def read(cls, args: argparse.Namespace) -> Steered:
        """From the arguments of `of_an_arm`; `PolygateError` for files of another language, data set or model."""
        prompts = table.read(args.prompts, language=args.language, dataset=args.dataset)
        store = open_matching(args.activations, prompts)
        model = identity.asked_for(args.of, store.metadata)
        files.expect(args.activations, store.metadata, model=model)
        return cls(prompts, store, model, args.arm)

    @property
    def of(self) -> dict[str, str]:
        """What the intervention says it is of."""
        named = {"dataset": self.prompts.dataset, "language": self.prompts.language, "arm": self.arm}
        return {"model": self.model, **named, "prompts": self.prompts.fingerprint()}


def run(args: argparse.Namespace) -> None:
    """Read, decide, write."""
    given = Steered.read(args)
    found = AdaSteer.load(args.adasteer, model=given.model)
    found.check_fits(given.store, args.adasteer)
    constants = {name: steer.constants.model_dump() for name, steer in found.steers.items()}
    made = provenance("polygate.stages.intervene_adasteer", arm=args.arm, constants=constants)
    found.intervention(given.store, given.prompts.select("test")).save(args.output, made, given.of)
