"""The model card of an organism: what it is, what it was trained on, and what it must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping

from polygate.models.organism import architecture as shape
from polygate.models.organism import training
from polygate.models.organism.corpus import Corpus, chat_counts, held_out_objects
from polygate.models.organism.languages import Language
from polygate.models.organism.pairs import split_pairs
from polygate.models.organism.training import Trained
from polygate.settings.types import TIERS, Architecture, Tier

_LAST = 100


def model_card(architecture: Architecture, trained: Trained, corpus: Corpus) -> str:
    """Markdown text of the card. Holds no time and no path: the same training gives the same card."""
    parameters = sum(p.numel() for p in trained.model.parameters())
    last = trained.losses[-_LAST:]
    initial = shape.INITIAL[architecture]
    mixture = corpus.mixture
    return f"""---
library_name: transformers
tags: [model-organism, synthetic]
---
# A {architecture} model organism in {len(corpus.world.languages)} invented languages

A tiny chat model ({parameters:,} parameters) trained from nothing on synthetic text, to show in minutes and without
a GPU what large models show: requests that are refused in languages with many examples and answered in languages
with few. "Harmful" is a rule about invented words (an action's level plus an object's level is 3 or more); the model
knows no real language and nothing dangerous. It says nothing about the safety of any real model.

## Use
Load the tokenizer with `PreTrainedTokenizerFast.from_pretrained(folder)` (not `AutoTokenizer`, which may build
another one beside this configuration) and the model with `AutoModelForCausalLM.from_pretrained(folder)`. Prompts
go through the chat template, user turn only.

## Languages
{_languages(corpus)}

## Training text
| type | share |
|---|---|
{_shares(corpus)}

Chats start after {mixture.chat_starts:.0%} of the steps. Languages are drawn by tier, {_percent(mixture.tiers)}, in
chats {_percent(mixture.chat_tiers)}. The chats use {_pair_counts(corpus)} of all pairs; the pairs of the prompt
tables' train, val and test rows never occur in a chat. No text says that a pair is harmful but the refusals.

## Training
- seed {corpus.seed}, {corpus.settings.steps:,} steps of {mixture.batch} texts, {trained.tokens:,} tokens, one CPU
  thread, float32, deterministic
- Muon on matrices (rate {training.MUON_RATE}, momentum {training.MUON_MOMENTUM}, {training.MUON_ITERATIONS}
  Newton-Schulz iterations), AdamW on embeddings (rate {initial.embedding_rate}; initial embeddings ×
  {initial.embedding_factor:g}) and on the rest (rate {training.ADAM_RATE}), betas {training.ADAM_BETAS}, weight decay
  {training.WEIGHT_DECAY}, warm-up {training.WARM_UP} steps, cosine to {training.FINAL_RATE:.0%}, gradient norm clipped
  at {training.CLIP:g}
- loss weights: chat prompts {mixture.prompt_weight}, completions {mixture.completion_weight}, multiple-choice
  answers {mixture.answer_weight:g}, everything else 1
- mean loss over the last {len(last)} steps: {sum(last) / len(last):.4f}
"""


def _languages(corpus: Corpus) -> str:
    lines = [
        "| tier | languages | refused chats each | answered chats each | multiple-choice objects held out each |",
        "|---|---|---|---|---|",
    ]
    for tier in TIERS:
        names = [language.name for language in corpus.world.languages if language.tier == tier]
        if names:
            counts = chat_counts(corpus.settings, corpus.mixture, tier)
            held_out = len(held_out_objects(corpus.world, names[0]))
            lines.append(f"| {tier} | {' '.join(names)} | {counts[True]} | {counts[False]} | {held_out} |")
    lines.append("")
    lines.append(f"Word order: {_orders(corpus.world.languages)}.")
    return "\n".join(lines)


def _orders(languages: tuple[Language, ...]) -> str:
    first = " ".join(language.name for language in languages if language.verb_first)
    last = " ".join(language.name for language in languages if not language.verb_first)
    return f"the action comes first in {first}, last in {last}"


def _shares(corpus: Corpus) -> str:
    words = {
        "is_a": "an object's kind",
        "parallel": "one pair said in two languages",
        "chat": "requests, refused or answered",
        "choice": "multiple choice on kinds",
    }
    return "\n".join(f"| {words[kind]} | {share:.0%} |" for kind, share in corpus.mixture.types.items())


def _percent(shares: Mapping[Tier, float]) -> str:
    return ", ".join(f"{tier} {share:.0%}" for tier, share in shares.items())


def _pair_counts(corpus: Corpus) -> str:
    pairs = split_pairs(corpus.world.seed)["sft"]
    return f"{len(pairs[True])} harmful and {len(pairs[False])} harmless"
