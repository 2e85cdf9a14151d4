"""From an instruction to token ids: the one function that every path uses.

The chat template already writes the beginning-of-sequence token, so its text is tokenised without special tokens:
adding them again changes Gemma's and Llama's activations by a quarter or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polygate.errors import PolygateError

# Some templates write today's date unless they are given one; a result must not depend on the day it was made.
_DATE = "26 Jul 2024"
_MARKER = "polygate-instruction-goes-here"


@dataclass(frozen=True)
class Tokenised:
    """One prompt: its token ids (chat template included) and its two token positions, 0-based, unpadded.

    `t_inst` is the last token that holds text of the instruction, `t_post_inst` the last token of the whole prompt.
    `token_count` is the number of tokens of the instruction alone, without template.
    """

    input_ids: tuple[int, ...]
    t_inst: int
    t_post_inst: int
    token_count: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def position(self, name: str) -> int:
        """The position called `name`; ValueError when it is neither t_inst nor t_post_inst."""
        if name not in ("t_inst", "t_post_inst"):
            raise ValueError(f"unknown token position {name!r}")
        return int(getattr(self, name))


def render(tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """The chat template around each instruction: user turn only, generation prompt added."""
    chats = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True, date_string=_DATE)
    return list(rendered)


def tokenise(tokenizer: Any, texts: Sequence[str], names: Sequence[str] | None = None) -> list[Tokenised]:
    """Tokenise instructions as the model sees them, in the order given.

    `names` (prompt ids) are used in errors. Raises `PolygateError` when the tokenizer has no chat template or gives
    no character offsets, when the template hides the instruction, and when a prompt holds more than one
    beginning-of-sequence token.
    """
    if not texts:
        return []
    _check(tokenizer)
    marked = render(tokenizer, [_MARKER])[0]
    before, found, after = marked.partition(_MARKER)
    if not found:
        raise PolygateError("the chat template leaves out the user's text", do="give another with chat_template")
    rendered = render(tokenizer, texts)
    encoded = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    alone = tokenizer(list(texts), add_special_tokens=False)
    once_or_more = max(1, _count_start_tokens(tokenizer, marked))
    prompts = []
    for row, (text, chat) in enumerate(zip(texts, rendered, strict=True)):
        name = names[row] if names is not None else f"{row}"
        ids = encoded["input_ids"][row]
        starts = ids.count(tokenizer.bos_token_id) if tokenizer.bos_token_id is not None else 0
        if starts > once_or_more:
            raise PolygateError(
                f"prompt {name} has {starts} beginning-of-sequence tokens",
                do=f"remove {tokenizer.bos_token} from its text or from the chat template",
            )
        start, end = _span(text, chat, before, after, name)
        overlapping = [i for i, (a, b) in enumerate(encoded["offset_mapping"][row]) if a < end and b > max(a, start)]
        if not overlapping:
            raise PolygateError(f"prompt {name} has no token within the chat template", do="check its text")
        prompts.append(Tokenised(tuple(ids), overlapping[-1], len(ids) - 1, len(alone["input_ids"][row])))
    return prompts


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
