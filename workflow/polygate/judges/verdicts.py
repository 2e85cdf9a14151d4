"""From a yes or no to a judgement: what judges that are asked whether a completion is a refusal have in common.

They tell refusals from all else; that a text is no answer in any language is found out here, as the rules do it. What
they don't tell (deflections, the language of a refusal) is left out of the tables.
"""

from __future__ import annotations

from polygate.judges import text
from polygate.judges.interface import Judgement


def answer_of(completion: str) -> str:
    """The part of a completion that is judged: what follows its thoughts, without white space around it."""
    return text.without_thoughts(completion)[0].strip()


def before_asking(completion: str) -> Judgement | None:
    """The judgement of a completion that there is nothing to ask about, None for all others."""
    answer, thinking = text.without_thoughts(completion)
    if answer.strip():
        return None
    return Judgement("garbled", raw="still thinking" if thinking else "empty")


def judgement(refused: bool | None, prompt: str, completion: str, raw: str) -> Judgement:
    """`refused` as a judgement, None being no usable answer; `raw` is the answer in full."""
    if refused is None:
        return Judgement("unparsed", raw=raw)
    if refused:
        return Judgement("refused", raw=raw)
    reason = text.why_garbled(prompt, answer_of(completion))
    return Judgement("garbled", raw=reason) if reason else Judgement("complied", raw=raw)
