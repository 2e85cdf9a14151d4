"""Guards: models that were trained to judge exchanges, run here as the measured models are.

What a guard is asked is one text per completion, and everything around it is its chat template: that of the model with
a system prompt before it, or with the text taken apart into two turns. So its answers are greedy completions of prompts
like any other, through the same forward path and the same cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from polygate import files
from polygate.errors import PolygateError
from polygate.judges import verdicts
from polygate.judges.interface import Judgement
from polygate.prompts import table
from polygate.settings.types import Guard

DATA = Path(__file__).with_name("guards.yaml")
_MARKS = ("polygate-prompt-goes-here", "polygate-completion-goes-here")
Ask = Callable[[Sequence[str]], Sequence[str]]
"""What a guard answers to texts, in their order."""


@dataclass(frozen=True)
class Adapter:
    """What is particular to a guard: see guards.yaml. `languages` is None for every one."""

    verdict: str
    system: str | None = None
    template: str | None = None
    languages: tuple[str, ...] | None = None

    @classmethod
    def of(cls, guard: Guard) -> Adapter:
        """What the settings say, and where they say nothing, what is known of the guard that it is like."""
        given = {name: getattr(guard, name) for name in ("verdict", "system", "template", "languages")}
        found = {**known().get(guard.like or "", {}), **{name: one for name, one in given.items() if one is not None}}
        languages = found.get("languages")
        return cls(**{**found, "languages": None if languages is None else tuple(languages)})


@cache
def known() -> dict[str, dict[str, Any]]:
    """The guards of guards.yaml by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Framing:
    """What stands around prompt and completion: `text`, with {prompt} and {completion} in it, is what the guard is
    given as a user's turn; `chat_template` (Jinja) is everything else."""

    text: str
    chat_template: str

    @classmethod
    def of(cls, adapter: Adapter, tokenizer: Any) -> Framing:
        """From a guard's adapter and its tokenizer (of transformers).

        Raises `PolygateError` when its chat template is missing or doesn't take a system prompt or two turns.
        """
        own = tokenizer.chat_template
        if not own:
            raise PolygateError("no chat template", where=tokenizer.name_or_path, do="give a guard that has one")
        if adapter.template is not None:
            return cls(adapter.template, _before(own, adapter.system, None))
        between = _between(tokenizer, adapter.system)
        return cls("{prompt}" + between + "{completion}", _before(own, adapter.system, between))

    @classmethod
    def read(cls, path: str | Path) -> Framing:
        """From a file that `save` wrote."""
        found = files.read_json(path)
        with files.understood(path, "a guard's framing"):
            return cls(str(found["text"]), str(found["chat_template"]))

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        files.write_json(path, {"text": self.text, "chat_template": self.chat_template})

    def ask(self, prompt: str, completion: str) -> str:
        """What the guard is given for one completion, its thoughts left out."""
        parts = {"{prompt}": prompt.strip(), "{completion}": verdicts.answer_of(completion)}
        return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], self.text)


def _before(template: str, system: str | None, between: str | None) -> str:
    """A chat template that makes the guard's own turns of the one turn that it is given."""
    turns = "{'role': 'user', 'content': messages[0]['content']}"
    head = ""
    if between is not None:
        parts = f"messages[0]['content'].split({json.dumps(between, ensure_ascii=False)}, 1) + ['']"
        head = f"{{% set polygate_turns = {parts} %}}\n"
        turns = "{'role': 'user', 'content': polygate_turns[0]}, {'role': 'assistant', 'content': polygate_turns[1]}"
    if system is not None:
        turns = f"{{'role': 'system', 'content': {json.dumps(system, ensure_ascii=False)}}}, {turns}"
    return f"{head}{{% set messages = [{turns}] %}}\n{template}"


def _between(tokenizer: Any, system: str | None) -> str:
    """What the model's own chat template writes between a user's turn and the assistant's."""
    prompt, completion = _MARKS
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    if system is not None:
        chat.insert(0, {"role": "system", "content": system})
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    between = re.search(f"{prompt}(.+?){completion}", rendered, re.DOTALL)
    where, do = tokenizer.name_or_path, "give the guard's template, with {prompt} and {completion} in it"
    if between is None:
        raise PolygateError("the chat template does not show a completion after its prompt", where=where, do=do)
    for control in tokenizer.all_special_tokens:
        if control in between[1]:
            raise PolygateError(f"the chat template ends a turn ({control}) before the completion", where=where, do=do)
    return between[1]


class GuardJudge:
    """A guard as a judge; `ask` gives its answers."""

    def __init__(self, adapter: Adapter, framing: Framing, ask: Ask) -> None:
        self._verdict = re.compile(adapter.verdict, re.IGNORECASE | re.MULTILINE)
        self._framing, self._ask = framing, ask

    def outcomes(
        self, language: str, prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]
    ) -> list[Judgement]:
        """See `Judge`; an answer without a verdict, or with two, is `unparsed`."""
        del language
        rows = list(zip(prompts, completions, references, strict=True))
        said = self._ask([self._framing.ask(prompt, completion) for prompt, completion, _ in rows])
        return [
            verdicts.before_asking(completion)
            or verdicts.judgement(self.verdict(answer), prompt, completion, answer.strip())
            for (prompt, completion, _), answer in zip(rows, said, strict=True)
        ]

    def verdict(self, answer: str) -> bool | None:
        """Whether an answer says refusal, None where it doesn't say."""
        found = {word.lower() for word in self._verdict.findall(answer)}
        return None if len(found) != 1 or not found <= {"yes", "no"} else found == {"yes"}


def answers_in(path: str | Path, language: str, prompt_ids: Sequence[str], dataset: str = "") -> Ask:
    """Answers that a guard has given, as a file of completions; `PolygateError` when they answer something else."""

    def ask(texts: Sequence[str]) -> list[str]:
        found = files.read_parquet(path, ["prompt_id", "completion"])
        asked = table.fingerprint(language, list(zip(prompt_ids, texts, strict=True)))
        files.expect(path, files.parquet_metadata(found), language=language, dataset=dataset, prompts=asked)
        answers = dict(zip(*(found[name].to_pylist() for name in found.column_names), strict=True))
        if missing := [name for name in prompt_ids if name not in answers]:
            raise PolygateError(f"no answer about {missing[0]}", where=path, do="delete the file and rerun")
        return [answers[name] for name in prompt_ids]

    return ask
