"""Training: the same bits every time, normal Hugging Face folders, a loss that is what it says."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from polygate.cli import main
from polygate.errors import PolygateError
from polygate.models.organism import folder as organism_folder
from polygate.models.organism.architecture import configuration, initial_model
from polygate.models.organism.corpus import Corpus
from polygate.models.organism.progress import progress
from polygate.models.organism.training import (
    FINAL_RATE,
    WARM_UP,
    _by_length,
    one_thread,
    rate_factor,
    train,
    weighted_loss,
)
from polygate.settings.types import Architecture, Model, Organism, dump

ARCHITECTURES = get_args(Architecture)
STEPS = 20
SMALL = Organism(high=2, mid=1, low=1, steps=STEPS)
SHORTEST = Organism(high=2, mid=0, low=1, steps=2)


def run_stage(output: Path, architecture: str, seed: int = 0, world: Organism = SMALL) -> int:
    settings = dump({"organism": world, "model": Model(organism=architecture, seed=seed)})  # type: ignore[arg-type]
    return main(["train-organism", "--settings", settings, "--output", str(output)])


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_organism_is_a_normal_folder_with_the_same_bytes_every_time(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    first, second = tmp_path / "first", tmp_path / "second"
    assert run_stage(first, architecture) == 0
    torch.manual_seed(99)
    torch.rand(7)
    assert run_stage(second, architecture) == 0
    assert digests(first) == digests(second)
    assert {"model.safetensors", "config.json", "README.md", "chat_template.jinja"} <= digests(first).keys()
    assert len(list(tmp_path.iterdir())) == 2

    model = AutoModelForCausalLM.from_pretrained(first)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(first)
    assert model.config.model_type == architecture
    assert model.dtype == torch.float32
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a b"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**chat, max_new_tokens=3)
    assert written.shape[1] > chat["input_ids"].shape[1]


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    for seed in range(2):
        assert run_stage(tmp_path / str(seed), "llama", seed, SHORTEST) == 0
    first, second = digests(tmp_path / "0"), digests(tmp_path / "1")
    assert first["model.safetensors"] != second["model.safetensors"]
    assert first["tokenizer.json"] == second["tokenizer.json"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_lowers_the_loss(architecture: Architecture) -> None:
    """Measured on one and the same batch, since the loss of a step also depends on the texts it drew."""
    corpus = Corpus(SMALL, seed=3)
    trained = train(architecture, corpus, seed=3)
    assert len(trained.losses) == STEPS
    assert np.isfinite(trained.losses).all()
    assert not trained.model.training
    batch = corpus.batch(STEPS + 1)
    ids, weights = torch.from_numpy(batch.ids), torch.from_numpy(batch.weights)
    untrained = initial_model(architecture, corpus.ids, seed=3).eval()
    with torch.no_grad():
        assert weighted_loss(trained.model, ids, weights) < 0.9 * weighted_loss(untrained, ids, weights)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_weighted_mean_over_each_text_alone(architecture: Architecture, corpus: Corpus) -> None:
    """Slow twin: every text by itself, without padding, through the whole model as Hugging Face runs it."""
    model = initial_model(architecture, corpus.ids, seed=1).double().eval()
    batch = corpus.batch(700)
    total = weight_sum = 0.0
    for ids, weights in zip(batch.ids[:12], batch.weights[:12], strict=True):
        length = int((weights > 0).sum())
        tokens = torch.from_numpy(ids[:length])
        with torch.no_grad():
            probabilities = model(tokens[None]).logits[0].log_softmax(-1)
        for position in range(1, length):
            total -= float(weights[position]) * float(probabilities[position - 1, tokens[position]])
            weight_sum += float(weights[position])
    with torch.no_grad():
        loss = weighted_loss(model, torch.from_numpy(batch.ids[:12]), torch.from_numpy(batch.weights[:12]).double())
    assert float(loss) == pytest.approx(total / weight_sum, rel=1e-6)


def test_short_and_long_texts_go_through_the_model_apart_with_little_padding(corpus: Corpus) -> None:
    """Every row once, none cut, and no other cut into two groups has fewer tokens."""
    weights = torch.from_numpy(corpus.batch(700).weights)
    lengths = [int(row.nonzero().max()) + 1 for row in weights]
    groups = _by_length(weights)
    assert sorted(int(row) for rows, _ in groups for row in rows) == list(range(len(weights)))
    for rows, width in groups:
        assert max(lengths[int(row)] for row in rows) == width
    ordered = sorted(lengths)
    best = min(cut * ordered[cut - 1] + (len(ordered) - cut) * ordered[-1] for cut in range(1, len(ordered) + 1))
    assert sum(len(rows) * width for rows, width in groups) == best < len(lengths) * max(lengths)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_input_and_output_embeddings_are_one(architecture: Architecture, corpus: Corpus) -> None:
    model = initial_model(architecture, corpus.ids, seed=0)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.vocab_size == len(corpus.ids)
    assert model.config.eos_token_id != model.config.pad_token_id


def test_gemma_attends_eagerly_with_its_own_scale(corpus: Corpus) -> None:
    config = configuration("gemma2", corpus.ids)
    assert config.query_pre_attn_scalar == config.head_dim == config.hidden_size // config.num_attention_heads
    assert initial_model("gemma2", corpus.ids, seed=0).config._attn_implementation == "eager"


def test_rates_rise_fall_and_stay_above_the_floor() -> None:
    steps = 400
    factors = [rate_factor(step, steps) for step in range(steps)]
    assert max(factors) == factors[WARM_UP] == 1.0
    assert np.all(np.diff(factors[:WARM_UP]) > 0)
    assert np.all(np.diff(factors[WARM_UP:]) < 0)
    assert FINAL_RATE < factors[-1] < FINAL_RATE + 0.01


def test_training_leaves_threads_and_randomness_as_they_were(corpus: Corpus) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        with pytest.raises(KeyError):
            _fail_within(corpus)
        torch.testing.assert_close(torch.rand(3), expected)
        assert torch.get_num_threads() == 2
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.set_num_threads(threads)


def _fail_within(corpus: Corpus) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        initial_model("qwen2", corpus.ids, seed=0)
        raise KeyError


def broken(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "old").write_text("kept")
    monkeypatch.setattr(organism_folder.files, "write_json", broken)
    assert run_stage(output, "llama", world=SHORTEST) == 1
    assert "no space left on the disk" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (output / "old").read_text() == "kept"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    output = tmp_path / "model"
    for name in ("old", "new"):
        with organism_folder.atomic_folder(output) as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in output.iterdir()] == ["new"]
    with pytest.raises(PolygateError, match="no space"), organism_folder.atomic_folder(output):
        broken()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_a_log_gets_plain_lines_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    for step in progress(25, lambda: "loss 1.5"):
        assert step < 25
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("step 25/25, ")
    assert all("steps/s" in line and "s left" in line and "loss 1.5" in line for line in lines)
    assert 1 < len(lines) <= 10


def test_the_card_states_the_facts_of_the_training(tmp_path: Path) -> None:
    assert run_stage(tmp_path / "model", "qwen2", seed=4, world=SHORTEST) == 0
    card = (tmp_path / "model" / "README.md").read_text()
    for fact in (
        "qwen2",
        f"seed 4, {SHORTEST.steps} steps",
        "h1 h2",
        f"| {SHORTEST.low_refusals} |",
        "PreTrainedTokenizerFast",
    ):
        assert fact in card
    assert str(tmp_path) not in card
