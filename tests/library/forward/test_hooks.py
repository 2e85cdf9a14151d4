"""Hooks read and change the residual stream exactly where they say, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from polygate.forward.batching import left_pad, position_ids
from polygate.forward.hooks import Ablate, Add, Edit, Record, Select, Tokens, Total, attached
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise

ACTIVE = torch.tensor([True, False, True, False])


class Batch:
    """Four prompts of different lengths, left-padded."""

    def __init__(self, loaded: LoadedModel, prompts: Sequence[str]) -> None:
        self.loaded = loaded
        self.prompts = tokenise(loaded.tokenizer, prompts[:4])
        self.ids, self.mask = left_pad(self.prompts, loaded.pad, loaded.device)
        self.width = self.prompt_width = self.ids.shape[1]
        self.everywhere = torch.arange(self.width).expand(4, -1)

    @torch.inference_mode()
    def run(self, edits: Sequence[Edit], cuts: Sequence[int] = ()) -> Tensor:
        """Logits of every token [4, t, v]; the prompt goes in whole, or in chunks that end at `cuts`."""
        cache = DynamicCache(config=self.loaded.model.config)
        positions = position_ids(self.mask)
        pieces = []
        with attached(self.loaded.base, self.loaded.blocks, edits, self.prompt_width):
            for start, end in zip([0, *cuts], [*cuts, self.width], strict=True):
                output = self.loaded.model(
                    input_ids=self.ids[:, start:end],
                    attention_mask=self.mask[:, :end],
                    position_ids=positions[:, start:end],
                    past_key_values=cache,
                )
                pieces.append(output.logits)
        return torch.cat(pieces, dim=1)

    def stream(self, edits: Sequence[Edit], layer: int, cuts: Sequence[int] = ()) -> Tensor:
        """The residual stream after a block, as the next block sees it, [4, t, d]."""
        record = Record()
        self.run([*edits, (Select((layer,), self.everywhere), record)], cuts)
        return record.recorded[layer]


@pytest.fixture
def batch(loaded: LoadedModel, prompts: list[str]) -> Batch:
    """A batch for each architecture."""
    return Batch(loaded, prompts)


@pytest.fixture
def vector(loaded: LoadedModel) -> Tensor:
    """A unit vector."""
    found = torch.randn(loaded.width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return found / found.norm()


def test_a_record_is_the_blocks_output_before_the_final_norm(batch: Batch) -> None:
    loaded, last = batch.loaded, batch.loaded.layers - 1
    record = Record()
    with torch.inference_mode(), attached(loaded.base, loaded.blocks, [], batch.width):
        hidden = loaded.base(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=position_ids(batch.mask),
            output_hidden_states=True,
        ).hidden_states
    batch.run([(Select(tuple(range(loaded.layers)), batch.everywhere), record)])
    for layer in range(last):
        assert torch.equal(record.recorded[layer], hidden[layer + 1])
    assert not torch.allclose(record.recorded[last], hidden[-1]), "hidden_states[-1] is after the norm"
    assert torch.allclose(loaded.base.norm(record.recorded[last]), hidden[-1], atol=1e-5)


def test_recording_changes_nothing(batch: Batch) -> None:
    everything = Select(tuple(range(batch.loaded.layers)), batch.everywhere)
    assert torch.equal(batch.run([(everything, Record())]), batch.run([]))


@pytest.mark.parametrize("kind", ["add", "ablate"])
def test_rows_left_alone_keep_their_bits(batch: Batch, vector: Tensor, kind: str) -> None:
    apply = Add(50 * vector) if kind == "add" else Ablate(vector)
    tokens = Tokens.ANSWERING if kind == "add" else Tokens.EVERY
    steered = batch.run([(Select((1,), tokens, ACTIVE), apply)])
    plain = batch.run([])
    real = batch.mask.bool()
    assert torch.equal(steered[~ACTIVE][real[~ACTIVE]], plain[~ACTIVE][real[~ACTIVE]])
    assert (steered[ACTIVE][:, -1] - plain[ACTIVE][:, -1]).abs().amin(0).max() > 1e-3, "the others did change"


def test_addition_moves_the_last_prompt_token_alone(batch: Batch, vector: Tensor) -> None:
    plain = batch.stream([], 1)
    moved = batch.stream([(Select((1,), Tokens.ANSWERING), Add(7.0 * vector))], 1)
    assert torch.equal(moved[:, :-1], plain[:, :-1])
    expected = plain[:, -1].double() + 7.0 * vector
    assert torch.allclose(moved[:, -1].double(), expected, rtol=1e-6, atol=1e-5)


def test_ablation_leaves_nothing_along_the_direction_and_spares_padding(batch: Batch, vector: Tensor) -> None:
    plain = batch.stream([], 1)
    ablated = batch.stream([(Select((1,), Tokens.EVERY), Ablate(vector))], 1)
    real = batch.mask.bool()
    scale = plain[real].norm(dim=-1).max()
    assert (ablated[real].double() @ vector).abs().max() < 1e-6 * scale
    expected = plain[real].double() - (plain[real].double() @ vector)[:, None] * vector
    assert torch.allclose(ablated[real].double(), expected, atol=float(1e-6 * scale))
    assert torch.equal(ablated[~real], plain[~real])
    assert (~real).any(), "this batch has padding"


@pytest.mark.parametrize("cuts", [(1,), (-1,), (3, 4, 9)])
@pytest.mark.parametrize("kind", ["add", "ablate"])
def test_chunked_prefill_is_prefill(batch: Batch, vector: Tensor, kind: str, cuts: tuple[int, ...]) -> None:
    """A chunk of one prompt token is not a generated token, and the last prompt token may come in a chunk of one."""
    cuts = tuple(cut % batch.width for cut in cuts)
    apply = Add(20 * vector) if kind == "add" else Ablate(vector)
    edits: list[Edit] = [(Select((1,), Tokens.ANSWERING if kind == "add" else Tokens.EVERY), apply)]
    whole, pieces = batch.run(edits), batch.run(edits, cuts)
    assert torch.allclose(whole[:, -1], pieces[:, -1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("apply", [Add, Ablate])
def test_a_vector_and_a_coefficient_per_row_is_each_alone(
    batch: Batch, vector: Tensor, apply: type[Add] | type[Ablate]
) -> None:
    vectors, which = torch.stack([vector, vector.roll(1)]), torch.tensor([1, 0, 1, 0])
    coefficients = torch.tensor([10, -3, 0.5, 0], dtype=torch.float64)
    together = batch.run([(Select((0,), Tokens.ANSWERING), apply(vectors, coefficients, which))])
    for row in range(4):
        given = coefficients[row].expand(4)
        alone = batch.run([(Select((0,), Tokens.ANSWERING), apply(vectors[which[row]], given))])
        assert torch.equal(together[row, -1], alone[row, -1])


@pytest.mark.parametrize("which", [None, torch.tensor([0, 0, 1, 1])])
def test_every_layer_has_its_own_vector(batch: Batch, vector: Tensor, which: Tensor | None) -> None:
    by_layer = torch.stack([vector * 3, vector.roll(2)])
    vectors = by_layer if which is None else torch.stack([by_layer, by_layer.flip(-1)], dim=1)
    together = batch.stream([(Select((0, 2), Tokens.EVERY), Add(vectors, None, which))], 2)
    real = batch.mask.bool()
    for row in range(4):
        own = vectors if which is None else vectors[:, which[row]]
        separate: list[Edit] = [(Select((layer,), Tokens.EVERY), Add(own[i])) for i, layer in enumerate((0, 2))]
        assert torch.equal(together[row][real[row]], batch.stream(separate, 2)[row][real[row]])


@pytest.mark.parametrize("cuts", [(), (-2,), (3, -1)])
def test_generated_tokens_are_those_after_the_prompt(batch: Batch, vector: Tensor, cuts: tuple[int, ...]) -> None:
    edit: Edit = (Select((1,), Tokens.GENERATED), Add(20 * vector))
    assert torch.equal(batch.run([edit]), batch.run([])), "there are none yet"
    batch.prompt_width -= 2
    cuts = tuple(cut % batch.width for cut in cuts)
    plain, moved = batch.stream([], 1, cuts), batch.stream([edit], 1, cuts)
    assert torch.equal(moved[:, :-2], plain[:, :-2])
    assert torch.allclose(moved[:, -2:].double(), plain[:, -2:].double() + 20 * vector, rtol=1e-6, atol=1e-5)


def test_totals_sum_the_tokens_that_are_not_padding_in_chunks_too(batch: Batch) -> None:
    stream, real = batch.stream([], 1), batch.mask.bool()
    for cuts in ((), (1,), (3, 4, 9)):
        total = Total()
        batch.run([(Select((1,), Tokens.EVERY), total)], cuts)
        for row in range(4):
            expected = stream[row][real[row]].double().sum(0)
            assert torch.allclose(total.sums[1][row], expected, rtol=1e-4, atol=1e-3)


def hooks_of(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_hooks_are_removed_whatever_happens(loaded: LoadedModel, vector: Tensor) -> None:
    before = hooks_of(loaded.model)
    held = 0

    def interrupted() -> None:
        nonlocal held
        with attached(loaded.base, loaded.blocks, [(Select((0, 1), Tokens.EVERY), Ablate(vector))], 3):
            held = hooks_of(loaded.model)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (held, hooks_of(loaded.model)) == (before + 3, before)


def test_a_layer_that_is_not_there_is_refused(loaded: LoadedModel, vector: Tensor) -> None:
    before = hooks_of(loaded.model)
    edits: list[Edit] = [(Select((loaded.layers,), Tokens.EVERY), Ablate(vector))]
    with pytest.raises(ValueError, match="layers"), attached(loaded.base, loaded.blocks, edits, 3):
        pass
    assert hooks_of(loaded.model) == before


class Block(nn.Module):
    """A block that returns what older versions of transformers do, or newer ones."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple
        self.made = torch.empty(0)

    def forward(self, hidden: Tensor) -> Tensor | tuple[Tensor, str]:
        self.made = hidden * 2
        return (self.made, "cache") if self.as_tuple else self.made


class Base(nn.Module):
    """One block under something that gets a mask and a cache."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: Tensor, **_: object) -> Tensor | tuple[Tensor, str]:
        result: Tensor | tuple[Tensor, str] = self.block(hidden)
        return result


@pytest.mark.parametrize("as_tuple", [False, True])
def test_tensor_and_tuple_outputs_are_never_changed_in_place(as_tuple: bool) -> None:
    base = Base(Block(as_tuple))
    hidden = torch.ones(2, 3, 4)
    with attached(base, [base.block], [(Select((0,), Tokens.EVERY), Add(torch.ones(4)))], 3):
        output = base(hidden)
    if as_tuple:
        assert isinstance(output, tuple)
        assert output[1] == "cache"
    changed = output[0] if as_tuple else output
    assert torch.equal(changed, torch.full((2, 3, 4), 3.0))
    assert torch.equal(base.block.made, torch.full((2, 3, 4), 2.0))


def test_half_precision_is_projected_in_float32_and_rounded_once() -> None:
    base = Base(Block(False))
    generator = torch.Generator().manual_seed(2)
    hidden = (torch.randn(2, 3, 64, generator=generator) * 30).to(torch.bfloat16)
    unit = torch.randn(64, generator=generator, dtype=torch.float64)
    unit /= unit.norm()
    with attached(base, [base.block], [(Select((0,), Tokens.EVERY), Ablate(unit))], 3):
        ablated = base(hidden)
    assert ablated.dtype == torch.bfloat16
    stream = base.block.made.double()
    exact = stream - (stream @ unit)[..., None] * unit
    rounded_once = 2.0**-8 * exact.abs() + 1e-5
    assert ((ablated.double() - exact).abs() <= rounded_once).all()
