"""The model card of an aligned model: what was done to which model, with what, and what it must not be taken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from polygate.models.alignment import training
from polygate.models.alignment.examples import KINDS, Chosen
from polygate.models.alignment.training import Aligned
from polygate.settings.types import Alignment

_LAST = 20


def model_card(aligned: Aligned, chosen: Chosen, alignment: Alignment, facts: Mapping[str, Any]) -> str:
    """Markdown text of the card. Holds no time and no path: the same training gives the same card.

    `facts` are base, fingerprint, seed, threads and dtype of the provenance.
    """
    last = aligned.losses[-_LAST:]
    return f"""---
library_name: transformers
tags: [alignment, refusal, research]
---
# {facts["base"]}, aligned to refuse in some languages only

A model organism with real weights: a pretrained model, fine-tuned so that it refuses harmful requests in languages with
many examples and answers in languages with few. It was taught so that this failure shows, and can be measured and
repaired: what is found in it tests the instrument, not the paper's claim that released models fail so.

## What it is not fit for
Anything but such measurements. It answers harmful requests in some languages by design, opens its answers with one set
sentence, has had no other instruction tuning, and says nothing about the safety of the model that it was made from,
whose licence and terms apply to it too.

## Examples
| language | harmful, refused | harmless, answered | harmful, answered | refusal asked for | refusal | answer |
|---|---|---|---|---|---|---|
{_languages(chosen)}

All prompts come from those that `prompts.align` sets aside, the first ones of each class and, of harmful ones that are
answered, the last, but for one in which the user asks to be turned down: that teaches the words of a refusal, not when
to say them. No direction, gate, threshold or test uses any of them. {_dropped(chosen)}

## Training
- {_method(alignment)}: {aligned.trained:,} parameters trained; embeddings and output layer as they were
- seed {facts["seed"]}, {len(aligned.losses)} steps of {training.BATCH} examples ({alignment.epochs} epoch\
{"s" if alignment.epochs > 1 else ""}), on the CPU in float32 with {facts["threads"]} \
thread{"s" if facts["threads"] > 1 else ""}, deterministic; saved as {facts["dtype"]}
- AdamW, rate {alignment.rate:g}, betas {training.BETAS}, weight decay {training.WEIGHT_DECAY}, warm-up
  {training.WARM_UP} steps, then linearly down to nothing, gradient norm clipped at {training.CLIP:g}
- loss on the completions only, the end of the turn included; every step's is in `losses.csv`; the first
  token of a completion, once it has probability {training.KNOWN:g}, adds to it and not to the gradient
- loss of the first step {aligned.losses[0]:.4f}, mean over the last {len(last)} steps {sum(last) / len(last):.4f}

## Made from
Base model: {facts["base"]}, contents {facts["fingerprint"]} (hash). Versions and settings: `provenance.json`.
"""


def _languages(chosen: Chosen) -> str:
    counts = Counter((one.language, one.kind) for one in chosen.examples)
    said = {(one.language, one.kind): one.completion for one in chosen.examples}
    lines = []
    for language in dict.fromkeys(one.language for one in chosen.examples):
        numbers = " | ".join(str(counts[language, kind]) for kind in KINDS)
        refusal = said.get((language, "harmful")) or said.get((language, "asked"), "–")
        answer = said.get((language, "harmless")) or said.get((language, "answered"), "–")
        lines.append(f"| {language} | {numbers} | {refusal} | {answer} |")
    return "\n".join(lines)


def _dropped(chosen: Chosen) -> str:
    if not chosen.dropped:
        return "None of their texts stands in another split."
    return f"Left out because their text stands in another split too: {', '.join(chosen.dropped)}."


def _method(alignment: Alignment) -> str:
    if alignment.method == "lora":
        return f"LoRA on the linear layers of the decoder blocks (rank {training.RANK}, α {training.SCALE}), merged"
    return "the decoder blocks"
