"""Nothing is read twice, rows that finish make room, and texts are those of the plain way, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from library.forward.steered import ablated, added, arm, mixture, names_of
from library.forward.tiny import ARCHITECTURES
from polygate.forward import passes, prefixes
from polygate.forward.capture import capture
from polygate.forward.generation import Completion, generate
from polygate.forward.interventions import Intervention
from polygate.forward.loading import LoadedModel
from polygate.forward.prefixes import Kept, Layout, Prefix
from polygate.forward.scoring import answering
from polygate.forward.tokenising import Tokenised, tokenise
from polygate.forward.writing import Writer

NEW = 10


@contextmanager
def counted(loaded: LoadedModel) -> Iterator[list[int]]:
    """Tokens that go through the model, padding too, pass by pass."""
    seen: list[int] = []
    hook = loaded.base.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        yield seen
    finally:
        hook.remove()


def plain(loaded: LoadedModel, prompts: list[str], intervention: Intervention | None, new: int) -> list[Completion]:
    """The plain way: all rows of a batch are read and written together."""
    return generate(replace(loaded, shares=False), prompts, intervention, max_new_tokens=new)


def test_the_papers_architectures_share(loaded: LoadedModel) -> None:
    assert loaded.shares


@pytest.mark.parametrize("room", [1, 90, 100_000])
def test_texts_are_those_of_the_plain_way(loaded: LoadedModel, prompts: list[str], room: int) -> None:
    random = np.random.default_rng(room)
    several = [prompts[i] for i in random.integers(len(prompts), size=20)]
    intervention = mixture(random, loaded, len(several))
    expected = plain(loaded, several, intervention, NEW)
    sized = replace(loaded, batch_tokens=int(random.integers(1, 100)), written_tokens=room)
    kept = Kept()
    capture(sized, several, kept=kept, keep=range(0, 20, 2))
    assert generate(sized, several, intervention, max_new_tokens=NEW, kept=kept) == expected
    assert generate(sized, several, intervention, max_new_tokens=NEW, kept=kept) == expected, "from what was kept"


def test_capturing_keeps_what_writing_begins_with(
    loaded_model: Callable[[str], LoadedModel], prompts: list[str]
) -> None:
    loaded, kept = loaded_model("qwen2"), Kept()
    several = list(dict.fromkeys(prompts))
    found = capture(loaded, several, kept=kept, keep=range(len(several)))
    for (layer, position), tensor in capture(loaded, several).tensors.items():
        assert torch.equal(found.tensors[layer, position], tensor)
    for intervention in (None, arm("add", np.ones(loaded.width), loaded.layers, len(several))):
        with counted(loaded) as seen:
            generate(loaded, several, intervention, max_new_tokens=1, kept=kept)
        assert seen == [len(several)], "the last tokens and nothing else"


def test_a_sweep_reads_each_prompt_once(loaded_model: Callable[[str], LoadedModel], prompts: list[str]) -> None:
    loaded = loaded_model("llama")
    swept = prompts[:2] * 9
    strengths = np.linspace(0, 8, len(swept))
    intervention = Intervention(tuple(names_of(len(swept))), (added(np.ones(loaded.width), strengths),))
    read = tokenise(loaded.tokenizer, prompts[:2])
    longest, shared = max(map(len, read)) - 1, prefixes.shared_length(read)
    with counted(loaded) as seen:
        generate(loaded, swept, intervention, max_new_tokens=1)
    assert seen == [shared, 2 * (longest - shared), len(swept)]


def test_what_all_prompts_begin_with_is_read_once(loaded: LoadedModel, prompts: list[str]) -> None:
    """Whether by capture or for writing, and every way of acting on it for itself; nothing changes by it."""
    beginning = " ".join(prompts[:2])
    given = [f"{beginning} {prompt}" for prompt in prompts[:6]]
    tokenised = tokenise(loaded.tokenizer, given)
    shared, count = prefixes.shared_length(tokenised), len(given)
    assert shared > len(tokenise(loaded.tokenizer, [beginning])[0]) // 2
    with counted(loaded) as seen:
        found = capture(loaded, given)
    assert seen[0] == shared
    assert sum(seen) == shared + count * (max(map(len, tokenised)) - shared)
    apart = replace(loaded, shares=False)
    for where, tensor in capture(apart, given).tensors.items():
        torch.testing.assert_close(found.tensors[where], tensor, rtol=1e-5, atol=1e-5)
    vector = np.random.default_rng(2).normal(size=loaded.width)
    parts = (ablated(vector, [0, 1, 1, 0, 0.5, 0], [0]), added(vector, [1, 0, 0, 0, 1, 0]))
    intervention = Intervention(tuple(names_of(count)), parts)
    with counted(loaded) as seen:
        completions = generate(loaded, given, intervention, max_new_tokens=NEW)
    assert (seen[0], seen[2]) == (shared, 2 * shared), "left alone; ablated whole and by half"
    assert completions == plain(loaded, given, intervention, NEW)


def test_a_preamble_is_read_once_by_all_passes_of_a_loaded_model(loaded: LoadedModel, prompts: list[str]) -> None:
    """By captures of several languages and by what is then written, whose own prompts were not kept."""
    beginning = " ".join(prompts[:2])
    languages = [[f"{beginning} {prompt}" for prompt in some] for some in (prompts[:4], prompts[2:6])]
    shared = {prefixes.shared_length(tokenise(loaded.tokenizer, given)) for given in languages}
    assert len(shared) == 1
    kept, passed = Kept(), list[list[int]]()
    hook = loaded.base.register_forward_pre_hook(
        lambda _module, _args, kwargs: passed.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    found = [capture(loaded, given, kept=kept) for given in languages]
    texts = [generate(loaded, given, max_new_tokens=NEW, kept=kept) for given in languages]
    hook.remove()
    preamble = list(tokenise(loaded.tokenizer, languages[0])[0].input_ids[: shared.pop()])
    assert passed.count(preamble) == 1
    for given, activations, completions in zip(languages, found, texts, strict=True):
        assert completions == plain(loaded, given, None, NEW)
        for where, tensor in capture(loaded, given).tensors.items():
            assert torch.equal(activations.tensors[where], tensor)


def test_a_preamble_with_fewer_layers_is_read_again(loaded: LoadedModel, prompts: list[str]) -> None:
    kept, given = Kept(), [f"{prompts[0]} {prompt}" for prompt in prompts[:3]]
    capture(loaded, given, layers=[0], kept=kept)
    found = capture(loaded, given, kept=kept)
    for where, tensor in capture(loaded, given).tensors.items():
        assert torch.equal(found.tensors[where], tensor)


def test_what_prompts_share_ends_before_their_last_words() -> None:
    def prompt(ids: list[int], t_inst: int) -> Tokenised:
        return Tokenised(tuple(ids), t_inst, len(ids) - 1, len(ids))

    assert prefixes.shared_length([]) == 0
    assert prefixes.shared_length([prompt([1, 2, 3, 4, 5], 3), prompt([1, 2, 3, 9, 5], 3)]) == 3
    assert prefixes.shared_length([prompt([1, 2, 3, 4, 5], 1)] * 2) == 1
    assert prefixes.shared_length([prompt([1, 2, 3], 2)]) == 1, "the last token but one is read on its own"
    assert prefixes.shared_length([prompt([1, 2, 3], 2), prompt([4, 2, 3], 2)]) == 0


def test_ablated_prefixes_are_not_taken_for_others(
    loaded_model: Callable[[str], LoadedModel], prompts: list[str]
) -> None:
    loaded, count = loaded_model("qwen2"), 6
    given, vector = prompts[:2] * 3, np.random.default_rng(1).normal(size=loaded.width)
    parts = (ablated(vector, [0, 1, 1, 0, 0.5, 0.5], [0]), ablated(vector[::-1], [0, 0, 0, 1, 0, 0], [0]))
    intervention = Intervention(tuple(names_of(count)), parts)
    assert generate(loaded, given, intervention, max_new_tokens=NEW) == plain(loaded, given, intervention, NEW)


@contextmanager
def attended(loaded: LoadedModel) -> Iterator[list[int]]:
    """Tokens, padding too, that go through each block's attention while prompts are read, not written."""
    seen = [0] * loaded.layers

    def count(layer: int) -> Callable[..., None]:
        def hook(_module: object, _args: object, kwargs: dict[str, torch.Tensor]) -> None:
            tokens = kwargs["hidden_states"].shape[:2]
            seen[layer] += tokens.numel() if tokens[1] > 1 else 0

        return hook

    hooks = [
        block.self_attn.register_forward_pre_hook(count(layer), with_kwargs=True)  # type: ignore[union-attr,operator]
        for layer, block in enumerate(loaded.blocks)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("preamble", [True, False])
def test_what_acts_from_a_block_on_goes_on_from_what_the_others_left(
    loaded: LoadedModel, prompts: list[str], preamble: bool
) -> None:
    """Ablated at the second of three blocks after having been added to: the first two are not run again."""
    assert loaded.resumes
    beginning = f"{prompts[0]} {prompts[1]} " if preamble else ""
    given = [f"{beginning}{prompt}" for prompt in dict.fromkeys(prompts)]
    count, vector = len(given), np.random.default_rng(3).normal(size=loaded.width)
    names = tuple(names_of(count))
    addition = Intervention(names, (added(vector, [4.0] * count, layer=1),))
    ablation = Intervention(names, (ablated(vector, [1.0] * count, [1]),))
    sized, kept = replace(loaded, batch_tokens=60), Kept()
    with attended(loaded) as first:
        generate(sized, given[:2], ablation.rows([0, 1]), max_new_tokens=NEW, names=names[:2], kept=kept)
    assert len(set(first)) == 1, "nobody had read them, and nobody else asks for them"
    assert kept.wanted == {1}
    with attended(loaded) as theirs:
        expected = [plain(loaded, given, intervention, NEW) for intervention in (addition, ablation)]
    with attended(loaded) as both:
        for intervention, texts in zip((addition, ablation), expected, strict=True):
            assert generate(sized, given, intervention, max_new_tokens=NEW, kept=kept) == texts
    assert both[0] == both[1] < both[2], "below the block and at it once, above it twice"
    assert both[2] < theirs[2]
    assert [block.__dict__.get("forward") for block in loaded.blocks] == [None] * loaded.layers


def test_many_ways_of_acting_on_a_prompt_read_it_alone_first(loaded: LoadedModel, prompts: list[str]) -> None:
    """As choosing a scope does, layer by layer: reading the prompt alone costs less than the blocks that it saves."""
    vector, layers = np.random.default_rng(5).normal(size=loaded.width), range(loaded.layers)
    given = [prompt for prompt in dict.fromkeys(prompts) for _ in layers]
    parts = tuple(
        ablated(vector, [row % loaded.layers == layer for row in range(len(given))], [layer]) for layer in layers
    )
    intervention = Intervention(tuple(names_of(len(given))), parts)
    with attended(loaded) as seen:
        found = generate(loaded, given, intervention, max_new_tokens=NEW)
    assert found == plain(loaded, given, intervention, NEW)
    assert seen[0] < seen[1] < seen[2]


def test_rows_that_finish_make_room(loaded_model: Callable[[str], LoadedModel], prompts: list[str]) -> None:
    """Where few fit, a row that has ended gives its place to one that waits: fewer passes than batch after batch."""
    loaded = loaded_model("qwen2")
    texts = plain(loaded, prompts, None, 40)
    frequent = max(loaded.tokenizer.get_vocab().values(), key=lambda i: sum(str(i) in text.text for text in texts))
    ending = replace(loaded, stop=loaded.stop | {frequent, 9, 17, 30}, written_tokens=4 * 60)
    with counted(loaded) as ours:
        found = generate(ending, prompts, max_new_tokens=40)
    with counted(loaded) as theirs:
        expected = plain(ending, prompts, None, 40)
    assert found == expected
    assert len({completion.new_tokens for completion in expected}) > 2
    assert sum(ours) < sum(theirs)


def test_nothing_is_lost_when_memory_runs_out(
    loaded_model: Callable[[str], LoadedModel], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than three rows fit: batches are halved wherever they are, finished rows are told once."""
    loaded = loaded_model("gemma2")
    intervention = mixture(np.random.default_rng(7), loaded, len(prompts))
    expected = plain(loaded, prompts, intervention, NEW)
    real, rows, told = passes.last_logits, [0], [0.0]

    def scarce(model: LoadedModel, ids: torch.Tensor, *args: object) -> torch.Tensor:
        found = real(model, ids, *args)  # type: ignore[arg-type]
        if ids.shape[0] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        rows[0] = max(rows[0], ids.shape[0])
        return found

    monkeypatch.setattr(passes, "last_logits", scarce)

    def advance(prompts: float) -> None:
        told[0] += prompts

    assert generate(loaded, prompts, intervention, max_new_tokens=NEW, advance=advance) == expected
    assert rows == [3]
    assert told[0] == pytest.approx(len(prompts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_logits_are_those_of_the_plain_way(
    loaded_model: Callable[[str], LoadedModel], prompts: list[str], architecture: str
) -> None:
    loaded = loaded_model(architecture)
    tokenised, names = tokenise(loaded.tokenizer, prompts), names_of(len(prompts))
    intervention = mixture(np.random.default_rng(4), loaded, len(prompts))
    with torch.inference_mode():
        found = Writer(loaded, tokenised, intervention, names).start(range(len(prompts)))[0]
    expected = answering(loaded, tokenised, intervention, names)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def prefix(length: int) -> Prefix:
    return Prefix(length, (torch.ones(2, 2, length, 4),), Layout(1, (((0, 0), (0, 1)),)))


def test_what_was_used_longest_ago_makes_room() -> None:
    kept = Kept(limit=3 * prefix(5).bytes)
    for name in "abc":
        kept.put(name, prefix(5))
    assert kept.get("a") is not None
    kept.put("d", prefix(5))
    assert [name for name in "abcd" if kept.get(name) is not None] == ["a", "c", "d"]
    kept.put("d", prefix(2))
    kept.put("large", prefix(16))
    assert kept.get("large") is None
    assert kept.bytes == 2 * prefix(5).bytes + prefix(2).bytes


def test_what_is_kept_holds_no_batch() -> None:
    states = torch.randn(2, 100, 2, 7, 4)
    kept = Kept()
    kept.put("one", Prefix(3, (states[:, 5, :, 4:],), Layout(1, (((0, 0), (0, 1)),))))
    found = kept.get("one")
    assert found is not None
    assert found.states[0].untyped_storage().nbytes() == 2 * 2 * 3 * 4 * 4
    assert torch.equal(found.states[0], states[:, 5, :, 4:])


def test_layers_of_any_shapes_go_between_batches() -> None:
    """Values narrower than keys, wider layers, and one without a cache of its own, as some architectures have them."""
    torch.manual_seed(0)
    cache, shapes = DynamicCache(), {0: (2, 6, 4), 1: (2, 6, 4), 3: (1, 8, 8)}
    given = {number: (torch.randn(3, h, 5, k), torch.randn(3, h, 5, v)) for number, (h, k, v) in shapes.items()}
    cache.layers = [DynamicLayer() for _ in range(4)]
    for number, (keys, values) in given.items():
        cache.update(keys, values, number)
    apart = prefixes.taken_apart(cache, [5, 0, 2], 5)
    assert [len(group) for group in apart[0].layout.groups] == [1, 1, 1, 1, 2]
    together, _ = prefixes.put_together([apart[2], apart[0]], 1)
    assert [layer.is_initialized for layer in together.layers] == [True, True, False, True]
    for number, pair in given.items():
        layer = together.layers[number]
        for found, one in zip((layer.keys, layer.values), pair, strict=True):
            assert torch.equal(found[0, :, 3:], one[2, :, 3:])
            assert torch.equal(found[1], one[0])
            assert not found[0, :, :3].any()


def test_together_and_apart_again() -> None:
    several = [prefix(3), prefixes.NO_TOKENS, prefix(1)]
    cache, mask = prefixes.put_together(several, 2)
    assert mask.tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]]
    assert cache.get_seq_length() == 3
    cache.update(torch.full((3, 2, 1, 4), 2.0), torch.full((3, 2, 1, 4), 3.0), 0)
    assert cache.get_seq_length() == 4
    for before, after in zip(several, prefixes.taken_apart(cache, [4, 1, 2], 4), strict=True):
        assert after.length == before.length + 1
        keys, values = after.states[0]
        assert keys[:, :-1].eq(1).all()
        assert keys[:, -1].eq(2).all()
        assert values[:, -1].eq(3).all()
