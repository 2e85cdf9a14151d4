"""Fine-tuning: what is learnt, what stays, and that a killed training ends with the same bits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from polygate import cli
from polygate.files import read_json
from polygate.forward.loading import load
from polygate.forward.options import Options
from polygate.models.alignment import training
from polygate.models.alignment.examples import Chosen, choose
from polygate.models.alignment.training import Aligned, encode
from polygate.models.organism.training import token_losses, weighted_loss
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.settings.types import Alignment, Examples

BUDGETS = {name: Examples(harmful=5, harmless=5) for name in ("en", "de", "yo")}


def fine_tuned(
    base: Path, tables: dict[str, PromptTable], folder: Path, seed: int = 0, key: str = "k", **settings: Any
) -> Aligned:
    """Train on thirty examples, two steps an epoch."""
    loaded = load(base, Options())
    examples = encode(loaded.tokenizer, choose(tables, BUDGETS).examples)
    return training.train(loaded, examples, Alignment(**settings), seed, folder / "checkpoint", key)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_only_completions_are_learnt_and_they_end_the_turn(base: Path, tables: dict[str, PromptTable]) -> None:
    tokenizer = load(base, Options()).tokenizer
    example = choose(tables, {"en": Examples(harmful=1, harmless=0)}).examples
    (encoded,) = encode(tokenizer, example)
    said = tokenizer.decode(encoded.ids[encoded.prompt_tokens - 1 :])
    assert said.split()[0] == "<assistant>"
    assert said.split()[-1] == "<end>"
    assert len(encoded.ids) - encoded.prompt_tokens == len(example[0].completion.split()) + 1
    ids, weight = training._padded([encoded, encoded], pad=0)
    assert weight.sum(1).tolist() == [len(example[0].completion.split()) + 1] * 2
    assert ids.shape == weight.shape


def test_the_loss_is_that_of_transformers_on_the_completions(base: Path, tables: dict[str, PromptTable]) -> None:
    """Padding and prompts don't count, whatever their length."""
    loaded = load(base, Options())
    encoded = encode(loaded.tokenizer, choose(tables, BUDGETS).examples)
    ids, weight = training._padded(encoded, loaded.pad)
    labels = ids.masked_fill(weight == 0, -100)
    expected = loaded.model(input_ids=ids, labels=labels).loss
    assert float(weighted_loss(loaded.model, ids, weight)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("known", ["none", "some", "all"])
def test_a_batch_in_pieces_has_the_loss_of_the_whole_and_the_gradient_of_what_is_not_known_yet(
    base: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    """As row by row; of what is known already, only a completion's first token goes without a gradient."""
    loaded = load(base, Options())
    random = np.random.default_rng(0)
    lengths = random.integers(4, 12, size=4 * training.TOGETHER - 1)
    tokens = [random.integers(loaded.model.config.vocab_size, size=length).tolist() for length in lengths]
    batch = [training.Encoded(tuple(ids), int(random.integers(1, len(ids)))) for ids in tokens]
    assert len({len(one.ids) for one in batch}) > 1
    block = loaded.blocks[0].requires_grad_(True)
    rows = [token_losses(loaded.model, *training._padded([one], loaded.pad))[0] for one in batch]
    firsts = torch.stack([row[0] for row in rows]).detach().neg().exp()
    ascending = firsts.sort().values
    widest = int(ascending.diff().argmax())
    between = float(ascending[widest : widest + 2].mean())
    enough = {"none": 1.0, "some": between, "all": float(firsts.min()) / 2}[known]
    assert {bool(first < enough) for first in firsts} == {"none": {True}, "some": {True, False}, "all": {False}}[known]
    taught = [row if first < enough else row[1:] for row, first in zip(rows, firsts, strict=True)]
    every = torch.cat(rows)
    (torch.cat(taught).sum() / len(every)).backward()
    expected = {name: weight.grad.clone() for name, weight in block.named_parameters()}
    block.zero_grad()
    monkeypatch.setattr(training, "KNOWN", enough)
    assert training.backward(loaded, batch) == pytest.approx(float(every.detach().mean()), rel=1e-5)
    for name, weight in block.named_parameters():
        scale = float(expected[name].abs().max())
        assert weight.grad == pytest.approx(expected[name], abs=1e-5 * scale), name


def test_the_beginning_of_a_completion_is_taught_until_it_is_known(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sooner known, it ends up less probable."""
    loaded = load(base, Options())
    examples = encode(loaded.tokenizer, choose(tables, BUDGETS).examples)
    ends = []
    for known in (0.5, 1.0):
        monkeypatch.setattr(training, "KNOWN", known)
        model = fine_tuned(base, tables, tmp_path / str(known), rate=5e-3, epochs=20).model
        firsts = [token_losses(model, *training._padded([one], loaded.pad))[0][0] for one in examples]
        ends.append(float(torch.stack(firsts).mean()))
    assert ends[0] > 1.5 * ends[1], ends


@pytest.mark.parametrize("method", ["blocks", "lora"])
def test_the_loss_falls_and_embeddings_stay(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, method: str
) -> None:
    before = weights(load(base, Options()).model)
    aligned = fine_tuned(base, tables, tmp_path, method=method, rate=5e-3, epochs=12)
    after = weights(aligned.model)
    assert len(aligned.losses) == 24
    assert aligned.losses[-1] < 0.5 * aligned.losses[0]
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layers." in name for name in changed)
    assert any("embed_tokens" in name for name in before.keys() - changed)


@pytest.mark.parametrize("method", ["blocks", "lora"])
def test_a_killed_training_ends_with_the_same_bits(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    whole = fine_tuned(base, tables, tmp_path / "whole", method=method, epochs=4)
    calls = iter(range(5))

    def killed(*given: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return backward(*given)

    backward = training.backward
    monkeypatch.setattr(training, "backward", killed)
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(base, tables, tmp_path / "killed", method=method, epochs=4)
    counted: list[int] = []
    monkeypatch.setattr(training, "backward", lambda *given: counted.append(1) or backward(*given))
    resumed = fine_tuned(base, tables, tmp_path / "killed", method=method, epochs=4)
    assert len(counted) == 4  # four of eight steps were kept
    assert resumed.losses == whole.losses
    one, other = weights(whole.model), weights(resumed.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_another_training_or_a_broken_one_is_not_gone_on_from(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 1)
    whole = fine_tuned(base, tables, tmp_path)
    assert (tmp_path / "checkpoint").is_file()
    assert fine_tuned(base, tables, tmp_path, key="other").losses == whole.losses
    assert "of another training" in capsys.readouterr().err
    content = (tmp_path / "checkpoint").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for broken in (content[:100], bytes(flipped)):
        (tmp_path / "checkpoint").write_bytes(broken)
        assert fine_tuned(base, tables, tmp_path).losses == whole.losses
        assert "can't be read: starting from the beginning" in capsys.readouterr().err


def test_the_seed_decides_the_order(base: Path, tables: dict[str, PromptTable], tmp_path: Path) -> None:
    one, same, other = (fine_tuned(base, tables, tmp_path / str(i), seed=s).losses for i, s in enumerate((0, 0, 1)))
    assert one == same != other


TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)


@given(st.lists(TOKENS, max_size=60), st.data())
def test_further_examples_leave_the_others_in_their_order(ids: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Every row comes once an epoch; whichever examples are left out, equal ones too, the others follow each other."""
    kept = [row for row in range(len(ids)) if data.draw(st.booleans())]
    every = [training.Encoded(one, 1) for one in ids]

    def order(examples: list[training.Encoded]) -> list[int]:
        return [row for batch in training._batches(examples, seed=5, epoch=1) for row in batch]

    assert sorted(order(every)) == list(range(len(ids)))
    fewer = [every[kept[row]] for row in order([every[row] for row in kept])]
    remaining = iter(every[row] for row in order(every))
    assert all(one in remaining for one in fewer)


def test_orders_differ_by_epoch_and_batches_are_full() -> None:
    examples = [training.Encoded((row,), 1) for row in range(37)]
    first, second = (training._batches(examples, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first != second
    assert [len(batch) for batch in first] == [16, 16, 5]
    ranks = [row for batch in first for row in batch]
    assert ranks != sorted(ranks)


@pytest.mark.parametrize("steps", [1, 5, 20, 21, 400])
def test_the_rate_rises_then_falls_to_nearly_nothing(steps: int) -> None:
    factors = np.array([training.rate_factor(step, steps) for step in range(steps)])
    turn = min(steps, training.WARM_UP)
    assert factors.max() == turn / training.WARM_UP
    assert (np.diff(factors[:turn]) > 0).all()
    assert (np.diff(factors[turn:]) < 0).all()
    assert (factors > 0).all()
    if steps > training.WARM_UP:
        assert factors[-1] == 1 / (steps - training.WARM_UP)


def test_the_last_step_moves_the_weights_least(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same gradients at every step, so that only the rate tells the steps apart."""
    seen: list[torch.Tensor] = []

    def constant(loaded: Any, _batch: Any) -> float:
        block = loaded.blocks[0]
        seen.append(torch.cat([weight.detach().flatten().clone() for weight in block.parameters()]))
        for weight in block.parameters():
            weight.grad = torch.ones_like(weight)
        return 1.0

    monkeypatch.setattr(training, "backward", constant)
    monkeypatch.setattr(training, "WARM_UP", 2)
    aligned = fine_tuned(base, tables, tmp_path, epochs=4)
    seen.append(torch.cat([weight.detach().flatten() for weight in aligned.model.model.layers[0].parameters()]))
    moved = [float((after - before).abs().mean()) for before, after in itertools.pairwise(seen)]
    assert len(moved) == 8
    assert moved.index(min(moved)) == 7
    assert moved[1] > 4 * moved[7]


@pytest.mark.parametrize("method", ["blocks", "lora"])
def test_the_stage_makes_a_plain_folder_with_a_card(
    base: Path, tables: dict[str, PromptTable], tmp_path: Path, method: str
) -> None:
    """In the base's dtype, with everything needed to load it, and nothing left beside it."""
    stored = AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16)
    start = tmp_path / "base"
    load(base, Options()).tokenizer.save_pretrained(start)
    stored.save_pretrained(start)
    for name, found in tables.items():
        table.write(tmp_path / f"{name}.parquet", found)
    output = tmp_path / "run" / "weights"
    budgets = {"en": {"harmful": 4, "harmless": 3}, "yo": {"harmful": 1, "harmless": 5, "answered": 1, "asked": 2}}
    alignment = json.dumps({"alignment": {"epochs": 1, "method": method, "languages": budgets}})
    command = ["align", "--settings", alignment, "--base", str(start), "--name", "some/base"]
    command += ["--cache", str(tmp_path / "cache")]
    command += ["--prompts", str(tmp_path / "en.parquet"), str(tmp_path / "yo.parquet"), "--output", str(output)]
    assert cli.main([*command, "--chat-template"]) == 0
    assert [path.name for path in output.parent.iterdir()] == ["weights"]
    loaded = load(output, Options(dtype="bfloat16"))
    assert AutoModelForCausalLM.from_pretrained(output).dtype == torch.bfloat16
    assert torch.equal(loaded.model.get_input_embeddings().weight, stored.get_input_embeddings().weight)
    card = (output / "README.md").read_text()
    for said in (
        "some/base",
        "| en | 4 | 3 | 0 | 0 | I'm sorry",
        "| yo | 1 | 5 | 1 | 2 | Ẹ má bínú",
        "A model organism with real weights",
        "tests the instrument, not the paper's claim",
        "not fit for",
        "seed 0, 1 steps of 16",
        "linearly down",
    ):
        assert said in card
    made = read_json(output / "provenance.json")
    assert made["examples"]["yo"] == budgets["yo"]
    assert made["code"]
    assert str(tmp_path) not in card + json.dumps(made)
    assert (output / "losses.csv").read_text().count("\n") == 2


def test_dropped_prompts_are_named_in_the_card(base: Path, tables: dict[str, PromptTable], tmp_path: Path) -> None:
    from polygate.models.alignment.card import model_card

    aligned = fine_tuned(base, tables, tmp_path, method="lora")
    facts = {"base": "b", "fingerprint": "f", "seed": 0, "threads": 1, "dtype": "float32"}
    chosen = Chosen(choose(tables, BUDGETS).examples, ("harmful-align-0009",))
    card = model_card(aligned, chosen, Alignment(method="lora"), facts)
    assert "in another split too: harmful-align-0009." in card
    assert "LoRA" in card
