"""One forward pass over one language's prompts, as a rule describes it: what to compute, from which files.

Three tasks: `capture` makes an activation store of all prompts; under one arm's intervention, or none, `generate` makes
completions of the test prompts and `score` the logits of their options. Imports nothing heavy: a job whose
cell exists never needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polygate.errors import PolygateError
from polygate.forward.interventions import NOTHING, POINT, Intervention
from polygate.forward.options import Options
from polygate.prompts import table

CAPTURE, GENERATE, SCORE = "capture", "generate", "score"
UNSTEERED = "none"
"""The arm without intervention."""


@dataclass(frozen=True)
class Job:
    """A forward pass. `positions` belong to capture; `arm` and `intervention` (a file; the unsteered arm has none) to
    generate and score, `max_new_tokens` to generate.

    `dataset` and `language` are those of the prompts, "" where nobody says; the model is spread over `gpus` GPUs.
    """

    task: str
    options: Options
    model_folder: Path
    prompts: Path
    cache: Path
    output: Path
    positions: tuple[str, ...] = ()
    arm: str = UNSTEERED
    intervention: Path | None = None
    max_new_tokens: int = 0
    dataset: str = ""
    language: str = ""
    gpus: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Job:
        """From a job's JSON object; `PolygateError` when a key is missing, the task unknown, or an
        arm lacks its intervention."""
        try:
            intervention = given.get("intervention")
            job = cls(
                task=given["task"],
                options=Options.of(given["model"]),
                model_folder=Path(given["model_folder"]),
                prompts=Path(given["prompts"]),
                cache=Path(given["cache"]),
                output=Path(given["output"]),
                positions=tuple(given["positions"]) if given["task"] == CAPTURE else (),
                arm=UNSTEERED if given["task"] == CAPTURE else str(given["arm"]),
                intervention=None if intervention is None else Path(intervention),
                max_new_tokens=int(given["max_new_tokens"]) if given["task"] == GENERATE else 0,
                dataset=str(given.get("dataset", "")),
                language=str(given.get("language", "")),
                gpus=int(given["model"].get("gpus", 1)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolygateError(f"a malformed forward job ({error!r})") from None
        if job.task not in (CAPTURE, GENERATE, SCORE):
            raise PolygateError(f"a forward job of unknown task {job.task}")
        if (job.arm == UNSTEERED) != (job.intervention is None):
            raise PolygateError(f"a forward job of arm {job.arm} with intervention {job.intervention}")
        return job

    def within(self, folder: Path) -> Job:
        """The same job with its inputs in this folder; absolute paths stay."""
        if folder == Path():
            return self
        return replace(
            self,
            prompts=folder / self.prompts,
            model_folder=folder / self.model_folder,
            intervention=None if self.intervention is None else folder / self.intervention,
        )

    def read(self, model: str | None = None) -> Inputs:
        """What is in the job's input files, read once: an input may be written anew while the model runs.

        Raises `PolygateError` when a file is of another data set or language, or the intervention of another arm, of
        other prompts, or of another model than `model` (see `polygate.forward.identity`), where these are given.
        """
        prompts = table.read(self.prompts, dataset=self.dataset, language=self.language)
        rows = list(range(len(prompts))) if self.task == CAPTURE else prompts.select("test").tolist()
        if self.task == SCORE and not prompts.options:
            raise PolygateError("its prompts have no options to score", where=self.prompts)
        if prompts.openings and self.task != CAPTURE:
            raise PolygateError("its prompts have openings: they are read, not answered", where=self.prompts)
        if table.OPENING in self.positions and not prompts.openings:
            raise PolygateError("its prompts have no openings to read", where=self.prompts)
        if self.intervention is None:
            return Inputs(prompts, tuple(rows), None)
        of = {"dataset": prompts.dataset, "language": prompts.language, "model": model, "arm": self.arm}
        of["prompts"] = prompts.fingerprint()
        found = Intervention.load(self.intervention, **of)
        if found.is_swept:
            named = prompts.rows_of(name.partition(POINT)[0] for name in found.prompt_ids)
            return Inputs(prompts, tuple(named.tolist()), found)
        return Inputs(
            prompts, tuple(rows), found.of_prompts((prompts.ids[row] for row in rows), where=self.intervention)
        )

    def shares_model_with(self, other: Job) -> bool:
        """Whether one loaded model and one cache serve both."""
        ours = (self.model_folder, self.options, self.cache)
        return ours == (other.model_folder, other.options, other.cache)

    def inputs_exist(self) -> bool:
        """Whether every file that the job reads is there."""
        needed = [self.model_folder / "config.json", self.prompts]
        return all(path.is_file() for path in needed + ([] if self.intervention is None else [self.intervention]))

    @property
    def suffix(self) -> str:
        """How the result's file name ends."""
        return ".safetensors" if self.task == CAPTURE else ".parquet"

    def __str__(self) -> str:
        what = [self.task, "" if self.task == CAPTURE else self.arm, self.dataset, self.prompts.stem]
        return " ".join(filter(None, what))


@dataclass(frozen=True)
class Inputs:
    """What a job reads: a prompt table, those of its rows that go through the model, and what is done to them."""

    prompts: table.PromptTable
    rows: tuple[int, ...]
    intervention: Intervention | None

    @property
    def done(self) -> dict[str, str]:
        """What is done to the rows, as results say it: `intervention` (its digest) and `action` in short.

        An arm that leaves every prompt alone is done nothing to, whatever it is called.
        """
        found = self.intervention
        digest, action = (NOTHING, NOTHING) if found is None else (found.digest(), found.action)
        return {"intervention": digest, "action": action}

    @property
    def ids(self) -> list[str]:
        """Prompt ids of the rows, with the point after it in a sweep."""
        if self.intervention is not None and self.intervention.is_swept:
            return list(self.intervention.prompt_ids)
        return [self.prompts.ids[row] for row in self.rows]

    @property
    def options(self) -> list[int]:
        """Number of options of the rows; empty where the prompts have none."""
        return [len(self.prompts.options[row]) for row in self.rows] if self.prompts.options else []

    @property
    def openings(self) -> list[str]:
        """What the rows' answers begin with; empty where the prompts stand alone."""
        return [self.prompts.openings[row] for row in self.rows] if self.prompts.openings else []

    @property
    def texts(self) -> list[str]:
        """Instructions of the rows."""
        return [self.prompts.texts[row] for row in self.rows]
