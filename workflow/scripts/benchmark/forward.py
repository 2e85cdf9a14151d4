"""`make bench-forward`: forward passes beside what published code does, on the same prompts, in turns.

    python workflow/scripts/benchmark/forward.py --model FOLDER … --prompts FILE.json … [--limit 24] [--new 12]

A model is a folder, or the name of an installed package that carries it as GGUF. Prompts are JSON lists as PolyRefuse
has them; they are taken from the files in turns, so that lengths are mixed as in a file of many languages. Beside ours
stand (a) a hook per block at a fixed batch of 4 and `generate` at 16, in file order, (b) nnsight, (c) transformers'
continuous batching. What isn't installed, or doesn't run on this device, is said and left out. Seconds are the
processor's on a CPU, of all threads together, and the clock's on a GPU. Prints Markdown; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polygate.forward.batching import left_pad
from polygate.forward.capture import capture
from polygate.forward.generation import generate
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel, load
from polygate.forward.options import Options
from polygate.forward.prefixes import Kept
from polygate.forward.tokenising import Tokenised, tokenise
from polygate.models import gguf

HEADINGS = ("model", "task", "side", "seconds", "prompts/s", "tokens/s", "ours is", "of the matrix rate")
AT_ONCE, WRITTEN_AT_ONCE = 4, 16


def main() -> None:
    """Measure each model, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="folder or package[:chat template]")
    parser.add_argument("--prompts", action="append", required=True, type=Path, help="a JSON list of PolyRefuse")
    parser.add_argument("--limit", type=int, default=24, help="prompts in all")
    parser.add_argument("--new", type=int, default=12, help="new tokens")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side, of which the median is taken")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    each = [[row.get("instruction_translated") or row["instruction"] for row in json.loads(p.read_text())]
            for p in args.prompts]  # fmt: skip
    texts = list(chain.from_iterable(zip(*each, strict=False)))[: args.limit]
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|", flush=True)
    for name in args.model:
        model, _, template = name.partition(":")
        folder = Path(model) if Path(model).is_dir() else converted(model)
        loaded = load(folder, Options(dtype=args.dtype, chat_template=Path(template) if template else None))
        measure(folder.name, loaded, texts, args.new, args.rounds)


def converted(package: str) -> Path:
    """The folder of a model that comes as a GGUF package, made once beside what this script writes."""
    folder = Path("results/bench-models") / package
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        gguf.convert(package, folder)
    return folder


def measure(name: str, loaded: LoadedModel, texts: list[str], new: int, rounds: int) -> None:
    """A table's lines for one model."""
    prompts = tokenise(loaded.tokenizer, texts)
    read = sum(map(len, prompts))
    steered, negligible = addition(loaded, texts), addition(loaded, texts, 1e-6)
    without = ablation(loaded, texts)
    read_before = Kept(2**40)  # So that the last task is writing alone.
    rate = matrix_rate(loaded)
    print(
        f"{name}: {loaded.facts()}, matrices {rate / 1e9:.0f}·10⁹ FLOP/s, {torch.get_num_threads()} threads", flush=True
    )
    written = sum(completion.new_tokens for completion in generate(loaded, texts, max_new_tokens=new, kept=read_before))
    sides: dict[str, dict[str, Callable[[], object]]] = {
        "capture": {
            "ours": lambda: capture(loaded, texts),
            f"(a) hooks, batch of {AT_ONCE}": lambda: hooked(loaded, prompts),
        },
        "generation": {
            "ours": lambda: generate(loaded, texts, max_new_tokens=new),
            f"(a) generate, {WRITTEN_AT_ONCE}": lambda: by_generate(loaded, prompts, new),
        },
        "capture, unsteered and added to": {
            "ours": lambda: three(loaded, texts, steered, new),
            "(a)": lambda: (
                hooked(loaded, prompts),
                by_generate(loaded, prompts, new),
                by_generate(loaded, prompts, new, steered.parts[0]),
            ),
        },
        "added to, and ablated at one block": {
            "ours": lambda: last_phase(loaded, texts, (steered, without), new),
            "(a)": lambda: [by_generate(loaded, prompts, new, which.parts[0]) for which in (steered, without)],
        },
        "writing, what is added too small to tell": {
            "ours": lambda: generate(loaded, texts, negligible, max_new_tokens=new, kept=read_before),
            "ours, unsteered": lambda: generate(loaded, texts, max_new_tokens=new, kept=read_before),
        },
    }  # fmt: skip
    if find_spec("nnsight"):
        sides["capture"]["(b) nnsight"] = lambda: traced(loaded, prompts)
    else:
        print("(b) nnsight is not installed: left out (pip install nnsight)", flush=True)
    if torch.cuda.is_available():
        sides["generation"]["(c) continuous batching"] = lambda: continuous(loaded, prompts, new)
    else:
        print("(c) transformers' continuous batching never ends on a CPU (5.23): left out", flush=True)
    counted = dict(zip(sides, ((1, 0), (1, 1), (3, 2), (2, 2), (0, 1)), strict=True))
    for task, found in sides.items():
        taken = in_turns(found, rounds)
        tokens = counted[task][0] * read + counted[task][1] * written
        work = 2 * matrix_elements(loaded) * tokens
        for side, seconds in taken.items():
            ratio = "" if side == "ours" else f"{seconds / taken['ours']:.2f} ×"
            figures = f"{len(texts) / seconds:.2f}", f"{tokens / seconds:.0f}"
            share = f"{work / seconds / rate:.0%}"
            print(f"| {' | '.join((name, task, side, f'{seconds:.1f}', *figures, ratio, share))} |", flush=True)


def clock() -> float:
    """Seconds: of the processor, all threads together, where that computes; else as they pass."""
    return perf_counter() if torch.cuda.is_available() else process_time()


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side, all in the same process, one after the other in each round."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            begun = clock()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[side].append(clock() - begun)
    return {side: median(found) for side, found in times.items()}


def addition(loaded: LoadedModel, texts: Sequence[str], scale: float = 0.1) -> Intervention:
    """A vector of normal entries times `scale`, added from the last token on at the middle block."""
    vector = (scale * np.random.default_rng(0).normal(size=(1, loaded.width))).astype(np.float32)
    part = Part((loaded.layers // 2,), vector, "add", "answering", np.ones(len(texts)))
    return Intervention(tuple(str(row) for row in range(len(texts))), (part,))


def ablation(loaded: LoadedModel, texts: Sequence[str]) -> Intervention:
    """The same vector, taken out of every token at the middle block."""
    added = addition(loaded, texts)
    part = Part(added.parts[0].layers, added.parts[0].vectors, "ablate", "every", np.ones(len(texts)))
    return Intervention(added.prompt_ids, (part,))


def last_phase(loaded: LoadedModel, texts: list[str], arms: Sequence[Intervention], new: int) -> None:
    """What a run does with every test prompt once layer, strength and scope are chosen, from its second language on."""
    kept = Kept(loaded.kept_bytes)
    kept.wanted.update(arms[1].parts[0].layers)
    for intervention in arms:
        generate(loaded, texts, intervention, max_new_tokens=new, kept=kept)


def three(loaded: LoadedModel, texts: list[str], steered: Intervention, new: int) -> None:
    """What a run does with every test prompt."""
    kept = Kept(loaded.kept_bytes)
    capture(loaded, texts, kept=kept, keep=range(len(texts)))
    generate(loaded, texts, max_new_tokens=new, kept=kept)
    generate(loaded, texts, steered, max_new_tokens=new, kept=kept)


@torch.inference_mode()
def hooked(loaded: LoadedModel, prompts: Sequence[Tokenised]) -> list[list[Tensor]]:
    """The last token's residual stream after every block, as published code takes it."""
    found = []
    for start in range(0, len(prompts), AT_ONCE):
        ids, mask = left_pad(prompts[start : start + AT_ONCE], loaded.pad, loaded.device)
        rows: list[Tensor] = []
        handles = [
            block.register_forward_hook(lambda _m, _a, out, rows=rows: rows.append(first(out)[:, -1].cpu()))
            for block in loaded.blocks
        ]
        try:
            loaded.model(input_ids=ids, attention_mask=mask)
        finally:
            for handle in handles:
                handle.remove()
        found.append(rows)
    return found


def first(output: Any) -> Tensor:
    """The hidden states of a block's output."""
    hidden: Tensor = output if isinstance(output, Tensor) else output[0]
    return hidden


@torch.inference_mode()
def by_generate(loaded: LoadedModel, prompts: Sequence[Tokenised], new: int, part: Part | None = None) -> list[Tensor]:
    """transformers' own `generate`; a hook adds the part's vector from the last prompt token on, or takes it out."""
    found, handles = [], []
    if part is not None:
        vector = torch.from_numpy(part.vectors[0]).to(loaded.device, loaded.model.dtype)

        unit = vector / vector.norm()

        def change(_module: object, _args: object, output: Any) -> Any:
            hidden = first(output).clone()
            if part.operation == "add":
                hidden[:, -1] += vector
            else:
                hidden -= (hidden @ unit)[..., None] * unit
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        handles.append(loaded.blocks[part.layers[0]].register_forward_hook(change))
    try:
        for start in range(0, len(prompts), WRITTEN_AT_ONCE):
            ids, mask = left_pad(prompts[start : start + WRITTEN_AT_ONCE], loaded.pad, loaded.device)
            given = {"max_new_tokens": new, "do_sample": False, "eos_token_id": sorted(loaded.stop)}
            found.append(loaded.model.generate(ids, attention_mask=mask, pad_token_id=loaded.pad, **given))
    finally:
        for handle in handles:
            handle.remove()
    return found


def traced(loaded: LoadedModel, prompts: Sequence[Tokenised]) -> list[Any]:
    """nnsight, in batches as (a)."""
    from nnsight import NNsight

    wrapped, found = NNsight(loaded.model), []
    names = [name for name, module in loaded.model.named_modules() if any(module is block for block in loaded.blocks)]
    for start in range(0, len(prompts), AT_ONCE):
        ids, mask = left_pad(prompts[start : start + AT_ONCE], loaded.pad, loaded.device)
        with torch.inference_mode(), wrapped.trace(input_ids=ids, attention_mask=mask):
            for name in names:
                found.append(wrapped.get(name).output[0][..., -1, :].save())
    return found


def continuous(loaded: LoadedModel, prompts: Sequence[Tokenised], new: int) -> Any:
    """transformers' continuous batching."""
    from transformers import GenerationConfig

    given = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=sorted(loaded.stop), pad_token_id=loaded.pad
    )
    return loaded.model.generate_batch(
        [list(prompt.input_ids) for prompt in prompts], generation_config=given, progress_bar=False
    )


def matrix_elements(loaded: LoadedModel) -> int:
    """Weights of all matrices of the blocks: what a token is multiplied by."""
    return sum(weight.numel() for block in loaded.blocks for weight in block.parameters() if weight.dim() == 2)


@torch.inference_mode()
def matrix_rate(loaded: LoadedModel) -> float:
    """FLOP/s of 512 tokens times the matrices of a block, the best of some turns."""
    matrices = [weight for weight in loaded.blocks[0].parameters() if weight.dim() == 2]
    given = [torch.randn(512, weight.shape[1], dtype=weight.dtype, device=weight.device) for weight in matrices]
    best = float("inf")
    for _ in range(10):
        begun = clock()
        for tokens, weight in zip(given, matrices, strict=True):
            tokens @ weight.T
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, clock() - begun)
    return 2 * 512 * sum(weight.numel() for weight in matrices) / best


if __name__ == "__main__":
    main()
