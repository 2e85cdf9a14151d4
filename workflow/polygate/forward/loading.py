"""Loading a Hugging Face folder whole, or saying in one line why it can't be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polygate import digests, files
from polygate.errors import PolygateError
from polygate.forward import device as devices
from polygate.forward import sizes, weights
from polygate.forward.batching import Batching
from polygate.forward.blocks import decoder_blocks, stream_of
from polygate.forward.options import ModelSettings, read_template
from polygate.forward.tokenising import bind, control_tokens, render, tokenise
from polygate.forward.weights import first_line, quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

_NOTES = (".md", ".csv", ".log")
"""Suffixes of what people may write into a model's folder without changing the model."""
_UNKNOWN = 4096
"""Batch size of the check at loading, where the model's own comes after it."""
_PROBE = "Which of these is it: a house, 3 trees or 12.5 % of the rest? Ẹ̀kọ́ 家"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for forward passes.

    `blocks` are its decoder blocks in order (`layers` of them), `base` the transformer without its head, `width`
    the residual stream's d, `embeddings` how many tokens it knows, `stop` the token ids that end an answer, `pad` the
    id that fills batches (any valid id: it is masked). `batching` says which prompts may share a batch, `shares`
    whether a prompt's keys and values can be taken out of one batch and put into another, `resumes` whether the upper
    blocks can go on from what the lower ones have left of it, `stream` which of several parallel residual streams
    (Gemma 3n) its attention and feed-forward layers read, None where there is one.
    `batch_tokens` and `written_tokens` are the most padded tokens of one pass over prompts, and of all rows that are
    being written; `kept_bytes` of prompts' keys and values may be kept for who needs them again. `devices` hold the
    weights, the first of them the embeddings; a block's keys and values lie where it does.
    """

    model: Any
    tokenizer: Any
    base: nn.Module
    blocks: tuple[nn.Module, ...]
    layers: int
    width: int
    embeddings: int
    devices: tuple[torch.device, ...]
    dtype: str
    quantisation: str
    attention: str
    batch_tokens: int
    written_tokens: int
    stop: frozenset[int]
    pad: int
    fingerprint: str = ""
    batching: Batching = "padded"
    shares: bool = False
    resumes: bool = False
    kept_bytes: int = sizes.KEPT_BYTES
    stream: int | None = None

    @property
    def device(self) -> torch.device:
        """Where token ids and masks go."""
        return self.devices[0]

    def facts(self) -> dict[str, Any]:
        """What provenance says of how this model ran."""
        return {
            "dtype": self.dtype,
            "quantisation": self.quantisation,
            "attention": self.attention,
            "batch_tokens": self.batch_tokens,
            "written_tokens": self.written_tokens,
            "device": devices.name_of(self.devices),
            "fingerprint": self.fingerprint,
        }


def load(
    folder: str | Path, settings: ModelSettings, fingerprint: str = "", cache: Path | None = None, gpus: int = 1
) -> LoadedModel:
    """Load model and tokenizer from a local folder; nothing is ever downloaded, no code of the folder's ever runs.

    `settings` gives dtype, quantisation, attention implementation, chat template, its arguments and batch size; the
    weights are spread over `gpus` GPUs where there are any (see `weights.read`). On a CPU torch uses OMP_NUM_THREADS
    threads, one when it is not set. The model is checked against transformers' own generation (see
    `self_check`); with a `fingerprint`, what was found is kept in `cache` and not looked for again. Raises
    `PolygateError` for an absent folder, missing, truncated or damaged files, weights that are absent, not finite or
    quantised in a way that can't be read here, an attention implementation that the model lacks, a model that needs
    code of its own or doesn't continue text, a tokenizer without chat template, one whose ids don't fit the
    embeddings, and a model that differs from what transformers makes of it.
    """
    from polygate.forward import heads, self_check

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise PolygateError("no model (config.json is missing)", where=folder, do="check the model's folder")
    digests.check_folder(folder, _NOTES)
    weights.check_quantisation(settings.quantisation, folder)
    places = devices.acquire(gpus)
    tokenizer = load_tokenizer(folder, settings.chat_template, settings.template_arguments)
    tokenise(tokenizer, [_PROBE])
    model = weights.read(folder, settings, places).eval().requires_grad_(False)
    heads.quicken(model)
    config = model.config.get_text_config(decoder=True)
    blocks = decoder_blocks(model, folder)
    _check_vocabulary(model, tokenizer, folder)
    stop = _stop_ids(model, tokenizer)
    rows = model.get_input_embeddings().num_embeddings
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        base=model.base_model,
        blocks=blocks,
        layers=len(blocks),
        width=int(config.hidden_size),
        embeddings=rows,
        devices=weights.devices_of(model),
        dtype=settings.dtype,
        quantisation=settings.quantisation,
        attention=settings.attention,
        batch_tokens=_UNKNOWN if settings.batch_tokens == "auto" else settings.batch_tokens,
        written_tokens=_UNKNOWN if settings.batch_tokens == "auto" else settings.batch_tokens,
        stop=stop,
        pad=next((i for i in (tokenizer.pad_token_id, *sorted(stop)) if i is not None and i < rows), 0),
        fingerprint=fingerprint,
        stream=stream_of(model),
    )
    loaded = replace(loaded, **asdict(self_check.found(loaded, folder, cache)))
    if settings.batch_tokens != "auto":
        return loaded
    found = sizes.find(loaded, cache)
    return replace(loaded, batch_tokens=found.prefill, written_tokens=found.written, kept_bytes=found.kept)


def load_tokenizer(
    folder: str | Path, chat_template: Path | None = None, template_arguments: Mapping[str, Any] | None = None
) -> Any:
    """The tokenizer of a folder, with `chat_template` (a Jinja file) in place of its own when given.

    `template_arguments` are set in the template. A tokenizer.json is read as it stands, without padding or truncation
    that training may have left in it: AutoTokenizer builds the class that config.json's model type suggests,
    which may split text otherwise and drop words without saying so. Raises `PolygateError`.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(folder)
    whole = (folder / "tokenizer.json").is_file()
    own = folder / "chat_template.jinja"
    given = read_template(chat_template or own) if chat_template is not None or own.is_file() else None
    try:
        with quiet():
            kind = PreTrainedTokenizerFast if whole else AutoTokenizer
            tokenizer = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except UnicodeDecodeError as error:
        raise PolygateError("a file of the tokenizer's is not UTF-8", where=folder, do="save it as UTF-8") from error
    except Exception as error:
        raise PolygateError(f"no usable tokenizer ({first_line(error)})", where=folder) from error
    tokenizer.chat_template = _one_template(tokenizer.chat_template) if given is None else given
    if not tokenizer.chat_template:
        raise PolygateError(
            "no chat template",
            where=folder,
            do="add chat_template.jinja to the folder or set the model's chat_template",
        )
    tokenizer.chat_template = bind(tokenizer.chat_template, template_arguments or {})
    if whole:
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
        _check_identity(tokenizer, folder)
    return tokenizer


def _one_template(template: str | Mapping[str, str] | None) -> str | None:
    """The template for chats, of those that a folder brings (others are for tools or retrieval)."""
    return template.get("default") if isinstance(template, Mapping) else template


def _check_identity(tokenizer: Any, folder: Path) -> None:
    """The tokenizer splits a chat exactly as tokenizer.json does."""
    from tokenizers import Tokenizer

    try:
        chat = render(tokenizer, [_PROBE])[0]
    except Exception as error:
        raise PolygateError(
            f"the chat template fails ({first_line(error)})",
            where=folder,
            do="give what it lacks with template_arguments, or another chat_template",
        ) from error
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain.no_padding()
    plain.no_truncation()
    if tokenizer(chat, add_special_tokens=False)["input_ids"] != plain.encode(chat, add_special_tokens=False).ids:
        raise PolygateError(
            "tokenizer_config.json changes what tokenizer.json says",
            where=folder,
            do="save the tokenizer again with save_pretrained",
        )


def _check_vocabulary(model: Any, tokenizer: Any, folder: Path) -> None:
    """Every id of the vocabulary and every one that the chat template writes has an embedding.

    A token that was added needs none (an image's place, a fine-tune's padding, a word): text never becomes a special
    one, and a prompt that holds another is refused when it is read.
    """
    rows = model.get_input_embeddings().num_embeddings
    added, control = tokenizer.added_tokens_decoder, control_tokens(tokenizer)
    largest = max((i for i in tokenizer.get_vocab().values() if i not in added), default=0)
    written = [i for i in tokenise(tokenizer, [_PROBE])[0].input_ids if i >= rows and i in control]
    if written:
        raise PolygateError(
            f"the chat template writes {tokenizer.convert_ids_to_tokens(written[0])} (id {written[0]}), "
            f"the model has {rows} embeddings",
            where=folder,
            do="use the model's own tokenizer and template",
        )
    if largest >= rows:
        raise PolygateError(
            f"the tokenizer has ids up to {largest}, the model {rows} embeddings",
            where=folder,
            do="use the model's own tokenizer",
        )


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends an answer: those the model names, the tokenizer's, and what the template ends a turn with."""
    found: set[int] = set()
    configurations = (model.generation_config, model.config, model.config.get_text_config(decoder=True))
    for value in (*(getattr(one, "eos_token_id", None) for one in configurations), tokenizer.eos_token_id):
        found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    end = end_of_turn(tokenizer)
    return frozenset(found if end is None else found | {end})


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes right after an assistant's turn, if it has one.

    Some instruction-tuned models (Gemma) end a turn with a token that their configuration doesn't name.
    """
    answer = "polygate-answer-goes-here"
    chat = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
    except Exception:
        return None
    rest = text.rpartition(answer)[2].lstrip()
    first = tokenizer(rest, add_special_tokens=False)["input_ids"][:1]
    # all_special_ids holds the special tokens that tokenizer_config.json names, and others are special too.
    special = {*tokenizer.all_special_ids, *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)}
    return first[0] if first and first[0] in special else None


def fingerprint(folder: str | Path, cache: str | Path | None) -> str:
    """Hash (32 hex digits) of the contents of a model's folder; hidden files and notes don't count.

    The hash of each file is kept in `cache` under its path, size and time of change, so that weights are read once.
    Without a cache they are read each time.
    Imports no torch. Raises `PolygateError` when the folder is absent or empty.
    """
    folder = Path(folder).resolve()
    found = sorted(path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder)))
    if not found:
        raise PolygateError("no model", where=folder, do="check the model's folder")
    name = f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    record = None if cache is None else Path(cache) / "fingerprints" / name
    known = {} if record is None else _known(record)
    hashes: dict[str, list[Any]] = {}
    for path in found:
        name, state = str(path.relative_to(folder)), path.stat()
        before = known.get(name)
        fresh = before is not None and before[:2] == [state.st_size, state.st_mtime_ns]
        digest = before[2] if before is not None and fresh else _file_hash(path)
        hashes[name] = [state.st_size, state.st_mtime_ns, digest]
    if record is not None and hashes != known:
        files.write_json(record, hashes)
    whole = hashlib.sha256()
    for name, (_, _, digest) in sorted(hashes.items()):
        whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()[:32]


def _counts(path: Path) -> bool:
    """Whether transformers may read this file: notes, logs and the record of how it was made don't change a model."""
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix not in _NOTES and path.name != "provenance.json" and not hidden


def _known(record: Path) -> dict[str, list[Any]]:
    try:
        found = files.read_json(record)
    except PolygateError:
        return {}
    return found if isinstance(found, dict) else {}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
