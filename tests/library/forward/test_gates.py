"""A gate attached to a transformers model: what it flags is steered exactly, nothing else is touched."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, TextStreamer, pipeline

from library.forward.steered import single
from library.forward.tiny import ARCHITECTURES, WORDS
from polygate import gates
from polygate.decision.gate import Gate
from polygate.errors import PolygateError
from polygate.forward.capture import capture
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise
from polygate.settings.types import Scope

TOKENS = 8
TEXTS = [" ".join(WORDS[(7 * i + k) % 50] for k in range(3 + i % 5)) for i in range(8)]
SCOPES: tuple[Scope, ...] = get_args(Scope)

Loader = Callable[[str], LoadedModel]


def gate_for(loaded: LoadedModel, scope: Scope = "none", layer: int = 1) -> Gate:
    """A gate of rank 2 that flags half of TEXTS, and steers hard enough to change them."""
    random = np.random.default_rng(3)
    x = capture(loaded, TEXTS, ("t_post_inst",)).tensors[layer, "t_post_inst"]
    basis = random.normal(size=(loaded.width, 2)).astype(np.float32)
    v = random.normal(size=loaded.width)
    made = Gate(
        basis=basis,
        mean=np.zeros(2),
        scale=np.ones(2),
        weights=np.array([1.0, -0.5]),
        bias=0.2,
        threshold=0.0,
        v=(v / np.linalg.norm(v)).astype(np.float32),
        alpha=25.0,
        scope=scope,
        layer=layer,
        position="t_post_inst",
        solver="convex",
        threshold_from="examples",
        informative=True,
        language="sw",
        budget=4,
        draw=0,
        sources=("en",),
        balance={"en": (4, 4)},
    )
    scores = made.score(x.float().numpy())
    return replace(made, threshold=float(np.sort(scores)[3:5].mean()))


@pytest.fixture(params=ARCHITECTURES)
def loaded(request: pytest.FixtureRequest, loaded_model: Loader) -> Iterator[LoadedModel]:
    found = loaded_model(request.param)
    yield found
    assert "generate" not in found.model.__dict__


def batch(loaded: LoadedModel, texts: list[str] = TEXTS) -> dict[str, Any]:
    from polygate.forward.batching import left_pad

    ids, mask = left_pad(tokenise(loaded.tokenizer, texts), loaded.pad, loaded.device)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "max_new_tokens": TOKENS,
        "do_sample": False,
        "pad_token_id": loaded.pad,
    }


@pytest.mark.parametrize("scope", SCOPES)
def test_every_prompt_gets_the_text_of_the_slow_twin(loaded: LoadedModel, scope: Scope) -> None:
    gate = gate_for(loaded, scope)
    with gates.attach(loaded.model, loaded.tokenizer, gate) as routed:
        written = loaded.model.generate(**batch(loaded))
        found = routed.decisions
    assert found is not None
    assert sorted(found.flagged.tolist()) == [False] * 4 + [True] * 4
    changed = 0
    for row, prompt in enumerate(tokenise(loaded.tokenizer, TEXTS)):
        layers = {"none": (), "layer": (1,), "all": (0, 1, 2)}[scope]
        add = Part((1,), gate.v[None], "add", "answering", np.array([gate.alpha]))
        remove = [Part(layers, np.tile(gate.v, (len(layers), 1)), "ablate", "every", np.ones(1))] if layers else []
        twin = Intervention(("0",), (add,) if found.flagged[row] else tuple(remove))
        expected, _ = single(loaded, prompt, twin, 0, TOKENS)
        plain, _ = single(loaded, prompt, Intervention(("0",)), 0, TOKENS)
        ours = written[row, -TOKENS:].tolist()[: len(expected)]
        assert ours == expected
        changed += expected != plain
    assert changed >= 3


def test_scores_are_those_of_the_stored_activations(loaded: LoadedModel) -> None:
    gate = gate_for(loaded)
    stored = capture(loaded, TEXTS, ("t_post_inst",)).tensors[1, "t_post_inst"]
    with gates.attach(loaded.model, loaded.tokenizer, gate) as routed:
        given = batch(loaded)
        found = routed.decide(given["input_ids"], given["attention_mask"])
    np.testing.assert_allclose(found.scores, gate.score(stored.float().numpy()), atol=1e-4)


def test_rows_that_are_not_flagged_keep_every_bit(loaded: LoadedModel) -> None:
    more: dict[str, Any] = {"output_logits": True, "return_dict_in_generate": True}
    alone = loaded.model.generate(**batch(loaded), **more)
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)) as routed:
        beside = loaded.model.generate(**batch(loaded), **more)
        assert routed.decisions is not None
        kept = torch.from_numpy(~routed.decisions.flagged)
    for ours, theirs in zip(beside.logits, alone.logits, strict=True):
        assert torch.equal(ours[kept], theirs[kept])
    assert not torch.equal(beside.logits[0][~kept], alone.logits[0][~kept])


def test_beams_and_several_answers_go_with_their_prompt(loaded: LoadedModel) -> None:
    given = batch(loaded)
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)):
        together = loaded.model.generate(**given, num_beams=2, num_return_sequences=2)
        single_rows = [
            loaded.model.generate(
                **(given | {name: given[name][row : row + 1] for name in ("input_ids", "attention_mask")}),
                num_beams=2,
                num_return_sequences=2,
            )
            for row in range(len(TEXTS))
        ]
    for row, found in enumerate(single_rows):
        ours = together[2 * row : 2 * row + 2, given["input_ids"].shape[1] :]
        theirs = found[:, given["input_ids"].shape[1] :]
        width = min(ours.shape[1], theirs.shape[1])
        assert torch.equal(ours[:, :width], theirs[:, :width])


@pytest.mark.parametrize("how", ["no cache", "chunks"])
def test_how_text_is_made_changes_nothing(loaded: LoadedModel, how: str) -> None:
    more = {"no cache": {"use_cache": False}, "chunks": {"prefill_chunk_size": 2}}[how]
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded, "all")):
        expected = loaded.model.generate(**batch(loaded))
        assert torch.equal(loaded.model.generate(**batch(loaded), **more), expected)


def test_pipelines_and_streamers_are_routed(loaded_model: Loader, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = loaded_model("llama")
    gate = gate_for(loaded)
    said: list[gates.Decisions] = []
    talk = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer)
    options = {"max_new_tokens": TOKENS, "do_sample": False, "return_full_text": False, "add_special_tokens": False}
    chats = [[{"role": "user", "content": text}] for text in TEXTS]
    with gates.attach(loaded.model, loaded.tokenizer, gate, log=said.append) as routed:
        expected = routed.answer(TEXTS, TOKENS)
        made = [talk(chat, **options)[0]["generated_text"] for chat in chats]
        streamed = loaded.model.generate(
            **batch(loaded, TEXTS[:1]),
            streamer=TextStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True),
        )
    assert made == expected
    assert capsys.readouterr().out.strip() == loaded.tokenizer.decode(streamed[0, -TOKENS:], skip_special_tokens=True)
    assert len(said) == 1 + len(TEXTS) + 1
    assert [bool(one.flagged[0]) for one in said[1:-1]] == said[0].flagged.tolist()


def test_threads_wait_for_each_other(loaded_model: Loader) -> None:
    loaded = loaded_model("qwen2")
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)) as routed:
        expected = [routed.answer([text], TOKENS) for text in TEXTS]
        found: dict[int, list[str]] = {}
        threads = [
            threading.Thread(target=lambda i=i, text=text: found.update({i: routed.answer([text], TOKENS)}))
            for i, text in enumerate(TEXTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[i] for i in range(len(TEXTS))] == expected


def test_a_removed_gate_leaves_no_trace(loaded: LoadedModel) -> None:
    def hooks() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())

    before, there = loaded.model.generate(**batch(loaded)), hooks()
    routed = gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded, "layer"))
    assert not torch.equal(loaded.model.generate(**batch(loaded)), before)
    routed.remove()
    assert torch.equal(loaded.model.generate(**batch(loaded)), before)
    assert hooks() == there


def test_what_does_not_fit_is_one_line(loaded_model: Loader) -> None:
    loaded = loaded_model("llama")
    gate = gate_for(loaded)
    with pytest.raises(
        PolygateError, match="a gate for width 32 at layer 7, but the model has width 32 and layers 0 to 2"
    ):
        gates.attach(loaded.model, loaded.tokenizer, replace(gate, layer=7))
    with gates.attach(loaded.model, loaded.tokenizer, gate):
        with pytest.raises(PolygateError, match="the model has a gate already"):
            gates.attach(loaded.model, loaded.tokenizer, gate)
        given = batch(loaded)
        with pytest.raises(PolygateError, match="padded on the right"):
            loaded.model.generate(**(given | {"attention_mask": given["attention_mask"].flip(1)}))
        with pytest.raises(PolygateError, match="generate without prompts"):
            loaded.model.generate(max_new_tokens=1)


def test_the_workflows_packages_are_not_needed(folders: dict[str, Path], loaded_model: Loader, tmp_path: Path) -> None:
    gate_for(loaded_model("llama")).save(tmp_path / "gate.safetensors", {})
    script = f"""
import sys
from importlib.machinery import PathFinder
class Plain(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = {{"pyarrow", "pandas", "pydantic", "snakemake", "sklearn", "scipy", "seaborn"}}
        return None if name.split(".")[0] in absent else super().find_spec(name, path, target)
sys.meta_path[:] = [Plain if finder is PathFinder else finder for finder in sys.meta_path]
from transformers import AutoModelForCausalLM, AutoTokenizer
from polygate import gates
folder = {str(folders["llama"])!r}
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
with gates.attach(model, tokenizer, gates.load({str(tmp_path / "gate.safetensors")!r})) as routed:
    print(routed.answer(["w1 w2 w3"], 4)[0])
"""
    found = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    model = AutoModelForCausalLM.from_pretrained(folders["llama"])
    with gates.attach(model, loaded_model("llama").tokenizer, gates.load(tmp_path / "gate.safetensors")) as routed:
        assert found.stdout.strip() == routed.answer(["w1 w2 w3"], 4)[0]
