"""A model's weights: whole, in the precision asked for, on one device or over several GPUs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import files
from polygate.errors import PolygateError
from polygate.forward.device import is_of_memory
from polygate.forward.options import ModelSettings

if TYPE_CHECKING:
    import torch


PACKAGE = "bitsandbytes"
"""What transformers quantises weights with while it loads them."""
_MORE_ROOM = "spread it over more GPUs (`gpus`), quantise it, or take a smaller dtype"


def check_quantisation(quantisation: str, where: object = None) -> None:
    """`PolygateError` where weights are to be quantised and the package for it is absent. Imports nothing."""
    if quantisation != "none" and find_spec(PACKAGE) is None:
        raise PolygateError(
            f"quantisation {quantisation} needs the Python package {PACKAGE}, which is not installed",
            where=where,
            do=f"pip install {PACKAGE}, or set quantisation to none",
        )


def read(folder: Path, settings: ModelSettings, places: Sequence[torch.device]) -> Any:
    """The model of a folder in the dtype and with the quantisation of `settings`, on `places`: one device, or several
    GPUs, over which accelerate spreads its blocks evenly (`device_map="auto"`).

    4-bit weights are NF4 (Dettmers et al. 2023), 8-bit ones LLM.int8() (Dettmers et al. 2022), both by bitsandbytes,
    which computes in the dtype. What more than one GPU, and quantised weights on one, come to has not been seen on a
    GPU: tests show it on stand-ins (tests/library/forward/test_placement.py). Raises `PolygateError` for weights that
    are absent, damaged, of another shape, not finite, or too large, and for what the model or this machine lacks.
    """
    import torch

    torch.set_num_threads(threads())
    configuration = _configuration(folder)
    kind = _model_class(configuration, folder)
    given = getattr(configuration, "quantization_config", None)
    if settings.quantisation != "none":
        _check_quantised(settings, places, folder, bool(given))
    spread, more = len(places) > 1, dict[str, Any]()
    if settings.quantisation != "none":
        more = {"quantization_config": _quantised(settings), "device_map": {"": places[0]}}
    if spread:
        more["device_map"] = "auto"
    try:
        with quiet():
            model, report = kind.from_pretrained(
                str(folder),
                dtype=getattr(torch, settings.dtype),
                attn_implementation=settings.attention,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **more,
            )
            if not more:
                model = model.to(places[0])
    except Exception as error:
        if "attention implementation" in str(error):
            raise PolygateError(
                f"this model has no {settings.attention} attention", where=folder, do="set its attention to eager"
            ) from error
        if is_of_memory(error) or "dispatched on the CPU or the disk" in str(error):
            raise _too_large(folder, places) from error
        if given:
            raise PolygateError(
                f"the model is quantised, and can't be read here ({first_line(error)})",
                where=folder,
                do="use its original weights, or a GGUF file",
            ) from error
        raise PolygateError(
            f"the model can't be loaded ({first_line(error)})", where=folder, do="fetch or train the model again"
        ) from error
    absent = sorted(str(key) for key in report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if absent:
        raise PolygateError(
            f"{len(absent)} weights are missing or of another shape, the first is {absent[0]}",
            where=folder,
            do="fetch or train the model again",
        )
    if spread and any(weight.device.type != places[0].type for weight in model.parameters()):
        raise _too_large(folder, places)  # accelerate would fetch the rest from main memory at every token.
    _check_finite(model, folder)
    return model


def devices_of(model: Any) -> tuple[torch.device, ...]:
    """The devices of a model's weights, that of its embeddings first: there its inputs go."""
    embeddings = model.get_input_embeddings().weight.device
    return tuple(dict.fromkeys([embeddings, *(weight.device for weight in model.parameters())]))


def _check_quantised(settings: ModelSettings, places: Sequence[torch.device], folder: Path, already: bool) -> None:
    if already:
        raise PolygateError("the model is quantised already", where=folder, do="set its quantisation to none")
    check_quantisation(settings.quantisation, folder)
    if places[0].type != "cuda":
        raise PolygateError(
            f"quantisation {settings.quantisation} needs a GPU", where=folder, do="set it to none, or use a GPU"
        )


def _quantised(settings: ModelSettings) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if settings.quantisation == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, settings.dtype)
    )


def _too_large(folder: Path, places: Sequence[torch.device]) -> PolygateError:
    where = "the memory" if places[0].type == "cpu" else f"{len(places)} GPU{'s' if len(places) > 1 else ''}"
    return PolygateError(f"the weights don't fit into {where}", where=folder, do=_MORE_ROOM)


def _check_finite(model: Any, folder: Path) -> None:
    for name, weight in model.named_parameters():
        # Of a quantised weight that was not finite, the scale tells.
        scale = getattr(weight, "SCB", getattr(getattr(weight, "quant_state", None), "absmax", None))
        if not all(bool(one.isfinite().all()) for one in (weight, scale) if one is not None):
            raise PolygateError(
                f"weights {name} hold NaN or infinity", where=folder, do="fetch or train the model again"
            )


def stored_dtype(folder: str | Path) -> str:
    """The dtype that a folder's weights are kept in, as its configuration says; "float32" where it says nothing."""
    dtype = _configuration(Path(folder)).get_text_config(decoder=True).dtype
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")


def threads() -> int:
    """Threads that OMP_NUM_THREADS gives the outermost level of a list like 4,1; one when it says no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else 1


def _configuration(folder: Path) -> Any:
    """config.json as transformers reads it; `PolygateError` where only code of the folder's own could."""
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        content = files.read_json(folder / "config.json")
        if isinstance(content, dict) and content.get("auto_map"):
            raise PolygateError(
                "the model needs Python code of its own (auto_map), which is never run",
                where=folder,
                do="take a version of the model that transformers knows itself",
            ) from error
        raise PolygateError(
            f"config.json can't be read ({first_line(error)})",
            where=folder,
            do="fetch or train the model again, or install a transformers that knows it",
        ) from error


def _model_class(configuration: Any, folder: Path) -> Any:
    """The class that generates text: the causal model, or the wrapper that also sees images or hears sound."""
    import transformers

    if not configuration.is_encoder_decoder:
        for name in ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
            kind = getattr(transformers, name)
            if type(configuration) in kind._model_mapping:
                return kind
    raise PolygateError(
        f"a {configuration.model_type} is no decoder that continues a text", where=folder, do="take a chat model"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing warnings and progress bars of its own into our logs."""
    from transformers.utils import logging as chatter

    before, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.CRITICAL)
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(before)
        if bars:
            chatter.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, shortened; its type when it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
