"""Translating with a sequence-to-sequence model of transformers: NLLB, M2M-100, mBART-50, MADLAD, OPUS and their like.

They differ in how they are told the languages, and their vocabularies tell which way is theirs. Either the source's
token stands before the text and the target's is forced to be the first that is written (`swh_Latn` of NLLB, `__sw__` of
M2M-100), or the target's stands before the text and nothing is said of the source (`<2sw>` of MADLAD, `>>swh<<` of
OPUS). Texts are read as language token, text, end of sequence in all of them, whatever class a tokenizer is of.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygate import digests
from polygate.errors import PolygateError
from polygate.forward import device as devices
from polygate.forward.batching import length_sorted
from polygate.forward.weights import first_line, quiet, threads
from polygate.prompts.translation.memory import Memory, Translated, key
from polygate.settings.types import Translation

NOTES = (".md", ".csv", ".log")
"""Suffixes of what people may write into a model's folder without changing it."""
WRAPPED = ("<2{}>", "__{}__", ">>{}<<")
"""How vocabularies write a language's code as one token."""
BEFORE_TEXT = ("<2", ">>")
"""Beginnings of tokens of target languages that stand before the text."""


@dataclass(frozen=True)
class Lead:
    """How a model is told what to translate into: `before`, the token before the text, and the one that is `forced` to
    be the first of the translation, None where none is."""

    before: int
    forced: int | None


@dataclass(frozen=True)
class Translator:
    """A loaded model with its tokenizer; `longest` is the number of tokens that it reads, None where none is named."""

    model: Any
    tokenizer: Any
    device: Any
    longest: int | None

    def lead(self, source: str, target: str) -> Lead:
        """How it is told to translate from one of its codes to another; `PolygateError` for one that it lacks."""
        into = language_token(self.tokenizer, target)
        if self.tokenizer.convert_ids_to_tokens(into).startswith(BEFORE_TEXT):
            return Lead(into, None)
        return Lead(language_token(self.tokenizer, source), into)

    def read(self, texts: Sequence[str], lead: Lead, names: Sequence[str]) -> list[list[int]]:
        """Token ids of texts as the model reads them; names of control tokens in them are text, or unknown words.

        `names` are used in errors. Raises `PolygateError` for a text that is longer than the model reads.
        """
        found = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
        control, unknown = control_ids(self.tokenizer), self.tokenizer.unk_token_id
        rows = [[lead.before, *_text(ids, control, unknown), self.tokenizer.eos_token_id] for ids in found["input_ids"]]
        for name, row in zip(names, rows, strict=True):
            if self.longest is not None and len(row) > self.longest:
                raise PolygateError(
                    f"prompt {name} has {len(row)} tokens, the translation model reads {self.longest}",
                    do="shorten it, take another model, or give the language as a file in translation.files",
                )
        return rows


def _text(ids: Sequence[int], control: Collection[int], unknown: int | None) -> list[int]:
    kept = [unknown if i in control else i for i in ids]
    return [i for i in kept if i is not None]


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that are no text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def language_token(tokenizer: Any, code: str) -> int:
    """The id of a language's token; `PolygateError` when the vocabulary has none, naming what is near."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    unknown = tokenizer.unk_token_id
    for name in [form.format(code) for form in WRAPPED] + [code]:
        plain = name == code and name not in special and not name.startswith(BEFORE_TEXT)
        found = tokenizer.convert_tokens_to_ids(name)
        if not plain and isinstance(found, int) and found != unknown:
            return found
    roles = {getattr(tokenizer, f"{role}_token", None) for role in ("bos", "eos", "unk", "pad", "sep", "cls", "mask")}
    known = {*(special - roles), *(name for name in tokenizer.get_vocab() if name.startswith(BEFORE_TEXT))}
    near = difflib.get_close_matches(code, sorted(name.strip("<>_2") for name in known), n=3, cutoff=0.4)
    raise PolygateError(
        f"the translation model has no language {code!r}",
        do=f"did you mean {', '.join(dict.fromkeys(near))}?" if near else "give its own code for the language",
    )


def load(folder: Path, settings: Translation) -> Translator:
    """Load a translation model from a local folder; no code of the folder's ever runs.

    Raises `PolygateError` when it is absent, damaged, lacks weights, or is no sequence-to-sequence model.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    if not (folder / "config.json").is_file():
        raise PolygateError("no translation model (config.json is missing)", where=folder, do="check its folder")
    digests.check_folder(folder, NOTES)
    (place,) = devices.acquire()
    torch.set_num_threads(threads())
    try:
        with quiet():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            fits = type(config) in AutoModelForSeq2SeqLM._model_mapping
            if fits:
                model, report = AutoModelForSeq2SeqLM.from_pretrained(
                    str(folder),
                    dtype=getattr(torch, settings.dtype),
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
    except Exception as error:
        raise PolygateError(
            f"the translation model can't be loaded ({first_line(error)})", where=folder, do="fetch it again"
        ) from error
    if not fits:
        raise PolygateError(
            f"a {config.model_type} is no sequence-to-sequence model", where=folder, do="take one like NLLB or MADLAD"
        )
    absent = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if absent:
        raise PolygateError(
            f"{len(absent)} weights are missing or of another shape, the first is {absent[0]}",
            where=folder,
            do="fetch the model again",
        )
    tokenizer = load_tokenizer(folder)
    places = (getattr(config, "max_position_embeddings", None), tokenizer.model_max_length)
    longest = min((int(place) for place in places if place is not None and place < 1e9), default=None)
    return Translator(model.to(place).eval().requires_grad_(False), tokenizer, place, longest)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as its makers' class reads it; `PolygateError` when it can't be read."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise PolygateError(
            f"the translation model's tokenizer can't be loaded ({first_line(error)})",
            where=folder,
            do="fetch the model again; one without tokenizer.json needs the package sentencepiece",
        ) from error
    if tokenizer.eos_token_id is None:
        raise PolygateError("the tokenizer names no end of sequence", where=folder, do="take another model")
    return tokenizer


def described(settings: Translation, fingerprint: str, source: str, target: str) -> dict[str, Any]:
    """All that decides a translation beside its text: what `memory.key` hashes."""
    return {
        "model": fingerprint,
        "revision": settings.revision,
        "dtype": settings.dtype,
        "beams": settings.beams,
        "max_tokens": settings.max_tokens,
        "source": source,
        "target": target,
    }


def translate(
    texts: Sequence[str],
    names: Sequence[str],
    memory: Memory,
    settings: Translation,
    fingerprint: str,
    pair: tuple[str, str],
    make: Callable[[], Translator],
    advance: Callable[[float], None] = lambda _: None,
) -> list[Translated]:
    """Translations of texts in the order given, from one code of the model's to another (`pair`).

    What the memory holds isn't translated again, and what is goes there batch by batch; `make` loads the model, and is
    called only when something is missing. `names` (prompt ids) are used in errors; `advance` is told of finished texts.
    Raises `PolygateError` for a language that the model lacks, a text longer than it reads, and when a batch doesn't
    fit into memory.
    """
    what = described(settings, fingerprint, *pair)
    keys = [key(what, text) for text in texts]
    missing = {name: row for row, name in enumerate(keys) if name not in memory.known}
    advance(sum(name not in missing for name in keys))
    if missing:
        translator = make()
        rows = list(missing.values())
        lead = translator.lead(*pair)
        read = translator.read([texts[row] for row in rows], lead, [names[row] for row in rows])
        ordered = list(missing)
        for batch, found in _written(translator, read, lead, settings):
            memory.add([(ordered[i], each) for i, each in zip(batch, found, strict=True)])
            advance(sum(keys.count(ordered[i]) for i in batch))
    return [memory.known[name] for name in keys]


def _written(
    translator: Translator, read: Sequence[list[int]], lead: Lead, settings: Translation
) -> Iterator[tuple[list[int], list[Translated]]]:
    """Batches of row numbers with their translations, the longest first; what doesn't fit into memory is halved."""
    budget = max(1, settings.batch_tokens // settings.beams)
    waiting = deque(length_sorted([len(row) for row in read], budget, settings.max_tokens))
    while waiting:
        batch, found = list(waiting.popleft()), list[Translated]()

        def work(batch: list[int] = batch, found: list[Translated] = found) -> None:
            found += _of_batch(translator, [read[i] for i in batch], lead, settings)

        if devices.fits(work):
            yield batch, found
        else:
            most = devices.smaller(len(batch))
            waiting.extendleft([batch[most:], batch[:most]])


def _of_batch(translator: Translator, read: Sequence[list[int]], lead: Lead, settings: Translation) -> list[Translated]:
    import torch

    model, tokenizer = translator.model, translator.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else model.config.pad_token_id or 0
    longest = max(len(row) for row in read)
    ids = torch.full((len(read), longest), pad, dtype=torch.int64)
    mask = torch.zeros((len(read), longest), dtype=torch.int64)
    for row, tokens in enumerate(read):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    with torch.inference_mode(), quiet():
        out = model.generate(
            input_ids=ids.to(translator.device),
            attention_mask=mask.to(translator.device),
            num_beams=settings.beams,
            do_sample=False,
            max_new_tokens=settings.max_tokens,
            forced_bos_token_id=lead.forced,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
        )
    # The first token is the one that decoding starts from, which some models share with the end.
    return [_ended(tokenizer, row[1:]) for row in out.tolist()]


def _ended(tokenizer: Any, ids: Sequence[int]) -> Translated:
    end = tokenizer.eos_token_id
    finished = end in ids
    kept = list(ids[: ids.index(end) + 1]) if finished else list(ids)
    return Translated(tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), finished)


def note(line: str) -> None:
    """Say a line in the job's log."""
    print(f"polygate translate: {line}", file=sys.stderr, flush=True)
