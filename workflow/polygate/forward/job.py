"""One forward pass over one language's prompts, as a rule describes it: what to compute, from which files.

Two tasks: `capture` makes an activation store of all prompts, `generate` makes completions of the test prompts under
one arm (none, addition, ablation). Imports nothing heavy: a job whose cell exists never needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.forward.options import Options
from polygate.forward.steering import Action, Steering, per_row, read_steering
from polygate.prompts import table

CAPTURE, GENERATE = "capture", "generate"
ARM_ACTIONS: dict[str, Action] = {"none": "none", "addition": "add", "ablation": "ablate"}


@dataclass(frozen=True)
class Job:
    """A forward pass. `positions` belong to capture; `arm`, `steering` and `max_new_tokens` to generate.

    `dataset` and `language` are those of the prompts, "" where nobody says.
    """

    task: str
    options: Options
    model_folder: Path
    prompts: Path
    cache: Path
    output: Path
    positions: tuple[str, ...] = ()
    arm: str = "none"
    steering: Path | None = None
    max_new_tokens: int = 0
    dataset: str = ""
    language: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Job:
        """From a job's JSON object; `PolygateError` when a key is missing or the task or arm is unknown."""
        try:
            steering = given.get("steering")
            job = cls(
                task=given["task"],
                options=Options.of(given["model"]),
                model_folder=Path(given["model_folder"]),
                prompts=Path(given["prompts"]),
                cache=Path(given["cache"]),
                output=Path(given["output"]),
                positions=tuple(given["positions"]) if given["task"] == CAPTURE else (),
                arm=given["arm"] if given["task"] == GENERATE else "none",
                steering=None if steering is None else Path(steering),
                max_new_tokens=int(given["max_new_tokens"]) if given["task"] == GENERATE else 0,
                dataset=str(given.get("dataset", "")),
                language=str(given.get("language", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolygateError(f"a malformed forward job ({error!r})") from None
        if job.task not in (CAPTURE, GENERATE) or job.arm not in ARM_ACTIONS:
            raise PolygateError(f"a forward job of unknown task or arm: {job.task}, {job.arm}")
        if (job.arm == "none") != (job.steering is None):
            raise PolygateError(f"arm {job.arm} with steering file {job.steering}")
        return job

    def read(self, model: str | None = None) -> Inputs:
        """What is in the job's input files, read once: an input may be written anew while the model runs.

        Raises `PolygateError` when a file is of another data set or language, or the steering vector of another model
        than `model` (see `polygate.forward.identity`), where these are given.
        """
        prompts = table.read(self.prompts, dataset=self.dataset, language=self.language)
        rows = list(range(len(prompts))) if self.task == CAPTURE else prompts.select("test").tolist()
        steering = None
        if self.steering is not None:
            steering = read_steering(self.steering, language=prompts.language, model=model)
        (every,) = per_row(steering, [ARM_ACTIONS[self.arm]], 1)
        return Inputs(prompts, tuple(rows), every.action, every.steering)

    def shares_model_with(self, other: Job) -> bool:
        """Whether one loaded model and one cache serve both."""
        ours = (self.model_folder, self.options, self.cache)
        return ours == (other.model_folder, other.options, other.cache)

    def inputs_exist(self) -> bool:
        """Whether every file that the job reads is there."""
        needed = [self.model_folder / "config.json", self.prompts]
        return all(path.is_file() for path in needed + ([] if self.steering is None else [self.steering]))

    @property
    def suffix(self) -> str:
        """How the result's file name ends."""
        return ".safetensors" if self.task == CAPTURE else ".parquet"

    def __str__(self) -> str:
        what = [self.task, "" if self.task == CAPTURE else self.arm, self.dataset, self.prompts.stem]
        return " ".join(filter(None, what))


@dataclass(frozen=True)
class Inputs:
    """What a job reads: a prompt table, those of its rows that go through the model, what happens to them and with
    which steering vector; an arm that comes to no action has none."""

    prompts: table.PromptTable
    rows: tuple[int, ...]
    action: Action
    steering: Steering | None

    @property
    def ids(self) -> list[str]:
        """Prompt ids of the rows."""
        return [self.prompts.ids[row] for row in self.rows]

    @property
    def texts(self) -> list[str]:
        """Instructions of the rows."""
        return [self.prompts.texts[row] for row in self.rows]
