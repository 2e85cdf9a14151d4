"""From an instruction to token ids: the one function that every path uses.

The chat template already writes the beginning-of-sequence token, so its text is tokenised without special tokens:
adding them again changes Gemma's and Llama's activations by a quarter or more. Control tokens that a user's text
spells out are text: only the template opens and ends turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from polygate.errors import PolygateError

# Some templates write today's date unless they are given one; a result must not depend on the day it was made.
_DAY = datetime(2024, 7, 26)
_DATE = "26 Jul 2024"
_MARKER = "polygate-instruction-goes-here"
_GIVEN = frozenset({"messages", "add_generation_prompt"})
_BOUND = "{# The lines above are polygate's. #}\n"
"""Ends what `bind` puts before a template, so that it can be put there anew."""
_MARK = "\U0010fffd"
"""A private-use character that no text holds: stands around the names of control tokens that a template wrote."""


@dataclass(frozen=True)
class Tokenised:
    """One prompt: its token ids (chat template included) and its two token positions, 0-based, unpadded.

    `t_inst` is the last token that holds text of the instruction, `t_post_inst` the last token of the whole prompt.
    `token_count` is the number of tokens of the instruction alone, without template; `opening` the number of those, the
    last ones, that hold text of the answer's opening.
    """

    input_ids: tuple[int, ...]
    t_inst: int
    t_post_inst: int
    token_count: int
    opening: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    def position(self, name: str) -> int:
        """The position called `name`; ValueError when it is neither t_inst nor t_post_inst."""
        if name not in ("t_inst", "t_post_inst"):
            raise ValueError(f"unknown token position {name!r}")
        return int(getattr(self, name))


def render(tokenizer: Any, texts: Sequence[str], *, ask: bool = True) -> list[str]:
    """The chat template around each instruction: user turn only, with the generation prompt where it is to `ask`."""
    chats = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=ask, date_string=_DATE)
    return list(rendered)


def bind(template: str, arguments: Mapping[str, Any]) -> str:
    """A chat template in which `arguments` (JSON values by name) are set, whatever it is rendered with.

    They stand in the template itself, so that they hold wherever the tokenizer goes; so does the day that
    `strftime_now` tells, 26 July 2024. Raises `PolygateError` for a
    template that Jinja can't read or that draws at random, and for an argument that it never looks at.
    """
    from jinja2 import TemplateSyntaxError, meta, nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    if arguments:
        template = template.rpartition(_BOUND)[2]
    elif _BOUND in template:
        return template
    try:
        environment = _compile_jinja_template(template).environment
        parsed = environment.parse(template)
    except TemplateSyntaxError as error:
        raise PolygateError(f"the chat template fails ({error})", do="mend the template") from None
    names = {found.name for found in parsed.find_all(nodes.Name)}
    if "lipsum" in names or any(found.name == "random" for found in parsed.find_all(nodes.Filter)):
        raise PolygateError("the chat template draws at random", do="give another with chat_template")
    known = meta.find_undeclared_variables(parsed) - _GIVEN
    for name in arguments:
        if name not in known:
            raise PolygateError(
                f"the chat template has no argument {name}",
                do=f"it has {', '.join(sorted(known)) or 'none'}",
            )
    fixed = "".join(f"{{% set {name} = {_literal(value)} %}}\n" for name, value in arguments.items())
    before = (_calendar() if "strftime_now" in names else "") + fixed
    return before + _BOUND + template if before else template


def _calendar() -> str:
    """Jinja that puts a function of one fixed day in place of transformers' `strftime_now`."""
    codes = [f"%{flag}{letter}" for flag in ("-", "") for letter in "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYZz"]
    words = "".join(f"|replace({_literal(code)}, {_literal(_DAY.strftime(code))})" for code in codes)
    return f"{{% macro strftime_now(format) %}}{{{{ format{words} }}}}{{% endmacro %}}\n"


def _literal(value: Any) -> str:
    """A JSON value as Jinja writes it: as JSON does, but for null."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(inner) for inner in value) + "]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def tokenise(
    tokenizer: Any,
    texts: Sequence[str],
    names: Sequence[str] | None = None,
    embeddings: int | None = None,
    openings: Sequence[str] = (),
) -> list[Tokenised]:
    """Tokenise instructions as the model sees them, in the order given.

    `names` (prompt ids) are used in errors; `embeddings` is how many tokens the model knows, where it is one that
    shall read them. With `openings`, one for each text, the user's turn ends as the template ends it, and the opening
    follows at once, without a generation prompt (but for templates that write one unasked). Raises `PolygateError` when
    the tokenizer has no chat template or gives no character offsets, when the template hides the instruction, when a
    prompt holds more than one beginning-of-sequence token or one that the model doesn't know, when its opening gets no
    token, and when the tokenizer can't read a control token in it as text.
    """
    if not texts:
        return []
    _check(tokenizer)
    marked = render(tokenizer, [_MARKER], ask=not openings)[0]
    before, found, after = marked.partition(_MARKER)
    if not found:
        raise PolygateError("the chat template leaves out the user's text", do="give another with chat_template")
    asked = render(tokenizer, texts, ask=not openings)
    rendered = [chat + opening for chat, opening in zip(asked, openings, strict=True)] if openings else asked
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    alone = tokenizer(list(texts), add_special_tokens=False)
    once_or_more = max(1, _count_start_tokens(tokenizer, marked))
    control, as_text = control_tokens(tokenizer), None
    prompts = []
    for row, (text, chat) in enumerate(zip(texts, rendered, strict=True)):
        name = names[row] if names is not None else f"{row}"
        ids, offsets = encoded["input_ids"][row], encoded["offset_mapping"][row]
        begun = len(asked[row])
        start, end = _span(text, asked[row], before, after, name)
        token_count = len(alone["input_ids"][row])
        spelt_out = _spelt_out(ids, offsets, chat, (start, end), control)
        if spelt_out:
            as_text = as_text or _ControlAsText(tokenizer, control.values())
            ids, offsets = as_text.encode(chat, start, end)
            token_count = len(as_text.encode(text, 0, len(text))[0])
            spelt_out = _spelt_out(ids, offsets, chat, (start, end), control)
        spelt_out += _spelt_out(ids, offsets, chat, (begun, len(chat)), control) if openings else []
        starts = ids.count(tokenizer.bos_token_id) if tokenizer.bos_token_id is not None else 0
        if starts > once_or_more:
            raise PolygateError(
                f"prompt {name} has {starts} beginning-of-sequence tokens",
                do=f"remove {tokenizer.bos_token} from its text or from the chat template",
            )
        if spelt_out:
            raise PolygateError(
                f"prompt {name} holds {spelt_out[0]}, which this tokenizer can't read as text", do="remove it"
            )
        beyond = [i for i in ids if embeddings is not None and i >= embeddings]
        if beyond:
            raise PolygateError(
                f"prompt {name} holds {tokenizer.convert_ids_to_tokens(beyond[0])!r}, token {beyond[0]}, "
                f"and the model has {embeddings} embeddings",
                do="use the model's own tokenizer, or leave that out of the prompt",
            )
        overlapping = [i for i, (a, b) in enumerate(offsets) if a < end and b > max(a, start)]
        if not overlapping:
            raise PolygateError(f"prompt {name} has no token within the chat template", do="check its text")
        opening = sum(b > max(a, begun) for a, b in offsets)
        if openings and not opening:
            raise PolygateError(f"prompt {name} has no token of its opening", do="check its opening")
        prompts.append(Tokenised(tuple(ids), overlapping[-1], len(ids) - 1, token_count, opening))
    return prompts


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Ids and names of the tokens that are no text: the special ones, and added ones that the template writes."""
    template = tokenizer.chat_template
    marked = {
        i: token.content
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and not token.content.isspace())
    }
    return marked | {tokenizer.convert_tokens_to_ids(token): token for token in tokenizer.all_special_tokens}


def _spelt_out(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    chat: str,
    span: tuple[int, int],
    control: Mapping[int, str],
) -> list[str]:
    """Control tokens that characters of the user's own text became; an unknown word is none."""
    return [
        control[i]
        for i, (a, b) in zip(ids, offsets, strict=True)
        if i in control and span[0] <= a and b <= span[1] and chat[a:b].strip() == control[i]
    ]


class _ControlAsText:
    """The tokenizer under which control tokens have names that no text can spell.

    The template's are renamed before, so that they alone are found; all else (where the text is split, which words
    get a space before them) is as the tokenizer does it.
    """

    def __init__(self, tokenizer: Any, control: Collection[str]) -> None:
        from tokenizers import Tokenizer

        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content.update(post_processor=None, truncation=None, padding=None)
        self._names: dict[str, str] = {}
        for number, token in enumerate(content["added_tokens"]):
            if token["content"] in control:
                self._names[token["content"]] = f"{_MARK}{number}{_MARK}"
                token.update(content=self._names[token["content"]], normalized=False)
        self._backend = Tokenizer.from_str(json.dumps(content))
        # A renamed token is new to the vocabulary and gets another id, and those behind it may move.
        self._ids = {self._backend.token_to_id(token["content"]): token["id"] for token in content["added_tokens"]}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(name) for name in longest_first) or r"(?!)")

    def encode(self, chat: str, start: int, end: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a chat whose characters from `start` to `end` are the user's, and places in it.

        Places outside the user's text are on the right side of it, no more.
        """
        before, after = self._renamed(chat[:start]), self._renamed(chat[end:])
        found = self._backend.encode(before + chat[start:end] + after, add_special_tokens=False)
        shift = start - len(before)
        return [self._ids.get(i, i) for i in found.ids], [(a + shift, b + shift) for a, b in found.offsets]

    def _renamed(self, text: str) -> str:
        return self._pattern.sub(lambda found: self._names[found[0]], text)


def _check(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise PolygateError(
            "no chat template",
            where=tokenizer.name_or_path,
            do="add chat_template.jinja to the folder or set the model's chat_template",
        )
    if not tokenizer.is_fast:
        raise PolygateError(
            f"{type(tokenizer).__name__} gives no character offsets",
            where=tokenizer.name_or_path,
            do="save the tokenizer as tokenizer.json",
        )


def _count_start_tokens(tokenizer: Any, chat: str) -> int:
    """How often the template itself writes the start token: some models use it to open every turn."""
    if tokenizer.bos_token_id is None:
        return 0
    ids = tokenizer(chat, add_special_tokens=False)["input_ids"]
    if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
        raise PolygateError("the chat template writes the beginning-of-sequence token twice", do="mend the template")
    return int(ids.count(tokenizer.bos_token_id))


def _span(text: str, chat: str, before: str, after: str, name: str) -> tuple[int, int]:
    """Characters of the instruction within the chat: templates keep it as it is, or strip white space off it."""
    end = len(chat) - len(after)
    if chat.startswith(before) and chat.endswith(after) and chat[len(before) : end] in (text, text.strip()):
        return len(before), end
    start = chat.rfind(text.strip())
    if start < 0:
        raise PolygateError(f"the chat template changes the text of prompt {name}", do="give another chat_template")
    return start, start + len(text.strip())
