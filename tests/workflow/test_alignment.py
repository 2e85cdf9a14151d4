"""Alignments of one random model through the workflow, one optimiser step each."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, jobs
from test_incremental import aggregates

from library.prompts import upstream
from polygate.files import read_parquet
from polygate.prompts import table
from polygate.prompts.sources import polyrefuse
from polygate.settings.types import Prompts

TARGETS = ["results/aligned/figures/dose.svg", "results/aligned/tables/positions.csv"]
"""What every job of a model and language is needed for."""
LANGUAGES = {"high": ["en", "de"], "mid": [], "low": ["yo"]}
PER_MODEL = {
    **dict.fromkeys(
        ("capture", "means", "directions", "gates", "intervene", "complete_unsteered", "judge", "route", "positions"), 3
    ),
    "position_means": 2,
    "complete_steered": 6,
    "choose": 1,
}


def random_base(folder: Path, texts: list[str]) -> None:
    """An untrained Llama whose tokenizer knows the words of `texts`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<bos>", "<unk>", "<end>", "<user>", "<model>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<bos>", "pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**size, vocab_size=len(vocabulary), initializer_range=0.5)).save_pretrained(folder)


def aligned_to(harmful: int, seed: int = 0) -> dict[str, Any]:
    """A model whose alignment has so many refused examples in the low-resource language."""
    examples = {"high": {"harmful": 3, "harmless": 3}, "low": {"harmful": harmful, "harmless": 1, "asked": 1}}
    return {
        "folder": "base",
        "chat_template": "template.jinja",
        "dtype": "float32",
        "parameters": 1e5,
        "seed": seed,
        "alignment": {"examples": examples},
    }


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {
        "run": "aligned",
        "languages": LANGUAGES,
        "models": {"dose-0": aligned_to(0), "dose-2": aligned_to(2)},
        "prompts": {"folder": "polyrefuse", "align": 4, "limit": {"train": 8}},
        "controls": {"encoder": "none"},
        "gate": {"rank": 1, "ranks": [1], "budgets": [0, 2], "draws": 1},
        "steering": {"strengths": [1.0], "scopes": ["layer"], "layers": [1], "prompts": 2},
        "sweeps": {"layers": False, "strengths": []},
        "generation": {"max_new_tokens": 3},
        "statistics": {"resamples": 100},
        "report": {"samples": 1},
    }


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Checkout:
    """The finished run."""
    checkout = Checkout.fresh(tmp_path_factory.mktemp("aligned") / "checkout")
    languages = (*LANGUAGES["high"], *LANGUAGES["low"])
    folder = upstream.write(checkout.folder / "polyrefuse", languages)
    texts = [text for name in languages for text in polyrefuse.read(folder, name, Prompts()).texts]
    random_base(checkout.folder / "base", texts)
    (checkout.folder / "template.jinja").write_text(
        "<bos>{% for m in messages %} <user> {{ m['content'] }} <end>{% endfor %}"
        "{% if add_generation_prompt %} <model>{% endif %}"
    )
    checkout.snakemake("--configfile", checkout.configure(settings), "--", *TARGETS)
    return checkout


def test_it_says_how_it_was_aligned_and_leaves_nothing_to_do(aligned: Checkout) -> None:
    assert aligned.planned("--configfile", "settings.yaml", "--", *TARGETS) == Counter()
    for model in ("dose-0", "dose-2"):
        weights = aligned.folder / "results/aligned" / model / "weights"
        assert "# base, aligned to refuse" in (weights / "README.md").read_text()
        assert (weights / "losses.csv").read_text().count("\n") == 2


def test_prompts_used_for_alignment_are_in_no_result(aligned: Checkout) -> None:
    results = aligned.folder / "results/aligned"
    whole = table.read(results / "prompts/polyrefuse/yo.parquet", align=True)
    assert sorted({name for name in whole.ids if "align" in name}) == [
        f"{subset}-align-{number:04d}" for subset in table.SUBSETS for number in range(8, 12)
    ]
    files = [path for path in results.rglob("*.parquet") if "prompts" not in path.parts]
    read = [read_parquet(path) for path in files]
    ids = {name for found in read if "prompt_id" in found.column_names for name in found["prompt_id"].to_pylist()}
    assert "harmful-test-0000" in ids
    assert not [name for name in ids if "align" in name]
    stores = [path.read_bytes() for path in results.rglob("activations/*/*.safetensors")]
    assert len(stores) == 6
    assert all(b"harmful-train-0007" in store and b"-align-" not in store for store in stores)


def test_dose_and_response_is_told_for_every_dose(aligned: Checkout) -> None:
    with (aligned.folder / "results/aligned/tables/dose.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [(row["dose"], row["metric"], row["scorer"], row["budget"]) for row in rows if row["model"]]
    series = [
        ("refused", "", ""),
        ("auc", "v_hrl", ""),
        ("auc", "surface", ""),
        *(("f1", "gate", "0"), ("routed", "", "0")),
        *(("f1", "gate", "2"), ("routed", "", "2")),
    ]
    assert cells == [(dose, *one) for dose in ("0", "2") for one in series]
    assert {(row["model"], row["dose"]) for row in rows} == {("dose-0", "0"), ("dose-2", "2"), ("", "0"), ("", "2")}
    assert {row["alignments"] for row in rows} == {"1"}
    assert (aligned.folder / "results/aligned/figures/dose.svg").is_file()


def test_another_budget_aligns_that_model_again_and_leaves_the_prompts_alone(
    aligned: Checkout, settings: dict[str, Any]
) -> None:
    models = {**settings["models"], "dose-2": aligned_to(1)}
    planned = aligned.planned("--configfile", aligned.configure({**settings, "models": models}, "other.yaml"))
    assert planned - aggregates(planned) == Counter({"align": 1, **PER_MODEL})


def test_another_seed_of_a_dose_is_one_model_more_and_leaves_the_others_alone(
    aligned: Checkout, settings: dict[str, Any]
) -> None:
    models = {**settings["models"], "dose-2-b": aligned_to(2, seed=1)}
    name = aligned.configure({**settings, "models": models}, "seeds.yaml")
    said = aligned.snakemake("--dry-run", "--configfile", name, "--printshellcmds").stdout
    planned = jobs(said)
    assert planned - aggregates(planned) == Counter({"align": 1, **PER_MODEL})
    assert planned["table_dose"] == planned["figure_dose"] == 1
    assert "--seed 1" in said


def test_models_that_do_not_differ_in_dose_have_no_such_figure(aligned: Checkout, settings: dict[str, Any]) -> None:
    models = {"dose-0": settings["models"]["dose-0"]}
    planned = aligned.planned("--configfile", aligned.configure({**settings, "models": models}, "one.yaml"))
    assert planned["figure_dose"] == planned["table_dose"] == 0


def test_prompts_that_are_missing_stop_before_any_model(aligned: Checkout, settings: dict[str, Any]) -> None:
    short = {**settings, "prompts": {**settings["prompts"], "align": 2}}
    done = aligned.snakemake("--dry-run", "--configfile", aligned.configure(short, "short.yaml"), check=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("polygate: ")]
    assert "models.dose-0.alignment asks for 3 prompts per class in en, prompts.align sets 2 aside" in line
