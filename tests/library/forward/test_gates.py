"""A gate attached to a transformers model: what it flags is steered exactly, nothing else is touched."""

from __future__ import annotations

import json
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
from transformers import AutoModelForCausalLM, GenerationConfig, TextIteratorStreamer, TextStreamer, pipeline

from library.forward.gated import TEXTS, gate_for
from library.forward.steered import single
from library.forward.tiny import ARCHITECTURES
from polygate import gates
from polygate.decision.gate import FILE
from polygate.errors import PolygateError
from polygate.forward.capture import capture
from polygate.forward.interventions import Intervention, Part
from polygate.forward.loading import LoadedModel
from polygate.forward.tokenising import tokenise
from polygate.settings.types import Scope

TOKENS = 8
WORKFLOW = {
    *("pyarrow", "pandas", "pydantic", "snakemake", "sklearn", "scipy", "seaborn", "matplotlib", "openpyxl", "peft"),
    *("langcodes", "sacrebleu", "threadpoolctl", "tenacity", "gguf", "accelerate"),
}
SCOPES: tuple[Scope, ...] = get_args(Scope)

Loader = Callable[[str], LoadedModel]


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


def test_a_pipelines_batches_and_a_streamer_in_another_thread_are_routed(loaded_model: Loader) -> None:
    loaded = loaded_model("llama")
    talk = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer)
    loaded.tokenizer.padding_side = "left"
    options = {"max_new_tokens": TOKENS, "do_sample": False, "return_full_text": False, "add_special_tokens": False}
    chats = [[{"role": "user", "content": text}] for text in TEXTS]
    streamer = TextIteratorStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60)
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)) as routed:
        expected = routed.answer(TEXTS, TOKENS)
        made = [found[0]["generated_text"] for found in talk(chats, batch_size=4, **options)]
        given = batch(loaded, TEXTS[:1]) | {"streamer": streamer}
        thread = threading.Thread(target=lambda: loaded.model.generate(**given))
        thread.start()
        streamed = "".join(streamer)
        thread.join()
    assert made == expected
    assert streamed.strip() == expected[0]


def test_decisions_are_logged_a_line_each_without_the_prompts(loaded_model: Loader, tmp_path: Path) -> None:
    loaded = loaded_model("llama")
    log = tmp_path / "decisions.jsonl"
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded), log=log) as routed:
        found = []
        for texts in (TEXTS, TEXTS[:1]):
            routed.answer(texts, TOKENS)
            assert routed.decisions is not None
            found.append(routed.decisions)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["score"] for line in lines] == np.concatenate([one.scores for one in found]).tolist()
    assert [line["flagged"] for line in lines] == np.concatenate([one.flagged for one in found]).tolist()
    assert all(set(line) == {"at", "score", "threshold", "flagged", "gate"} for line in lines)
    with pytest.raises(PolygateError, match="decisions can't be logged"):
        gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded), log=tmp_path)
    assert "generate" not in loaded.model.__dict__


def test_what_would_go_past_the_gate_is_refused(loaded_model: Loader) -> None:
    loaded = loaded_model("llama")
    gate, given = gate_for(loaded), batch(loaded)
    with gates.attach(loaded.model, loaded.tokenizer, gate):
        config = GenerationConfig(max_new_tokens=2, prompt_lookup_num_tokens=3)
        for more in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": loaded.model}, {"generation_config": config}):
            with pytest.raises(PolygateError, match="can't steer guessed tokens"):
                loaded.model.generate(**(given | more))
        with pytest.raises(PolygateError, match="continuous batching would go past the gate"):
            loaded.model.generate_batch([[1, 5, 9]])
    assert "generate_batch" not in loaded.model.__dict__
    # Compared with a threshold, NaN is harmless.
    broken = replace(gate, bias=float("nan"))
    with gates.attach(loaded.model, loaded.tokenizer, broken), pytest.raises(PolygateError, match="is no number"):
        loaded.model.generate(**given)


def test_a_gate_that_was_removed_leaves_the_next_one_on(loaded_model: Loader) -> None:
    loaded = loaded_model("llama")
    first = gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded))
    first.remove()
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)) as second:
        first.remove()
        loaded.model.generate(**batch(loaded))
        assert second.decisions is not None


def test_what_is_no_list_of_texts_or_no_gate_is_one_line(loaded_model: Loader) -> None:
    loaded = loaded_model("llama")
    wrong: Any = "results/gate"
    with pytest.raises(PolygateError, match=r"not a gate \(str\): give what gates\.load"):
        gates.attach(loaded.model, loaded.tokenizer, wrong)
    with gates.attach(loaded.model, loaded.tokenizer, gate_for(loaded)) as routed:
        for prompts in (TEXTS[0], [None]):
            with pytest.raises(PolygateError, match="no list of texts"):
                routed.answer(prompts)
        assert routed.answer([]) == []


def test_a_folder_holds_its_gate(loaded_model: Loader, tmp_path: Path) -> None:
    gate = gate_for(loaded_model("llama"))
    with pytest.raises(PolygateError, match=r"file not found, in .*gate\.safetensors: give a whole gate"):
        gates.load(tmp_path)
    gate.save(tmp_path / FILE, {})
    assert gates.load(tmp_path).threshold == gates.load(tmp_path / FILE).threshold == gate.threshold


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


@pytest.mark.parametrize("templates", [True, False])
def test_the_workflows_packages_are_not_needed(
    folders: dict[str, Path], loaded_model: Loader, tmp_path: Path, templates: bool
) -> None:
    """Nor is Jinja, where prompts are given as token ids."""
    gate_for(loaded_model("llama")).save(tmp_path / "gate.safetensors", {})
    absent = WORKFLOW if templates else {*WORKFLOW, "jinja2"}
    ids = [one.input_ids for one in tokenise(loaded_model("llama").tokenizer, ["w1 w2 w3"])]
    script = f"""
import sys, torch
from importlib.machinery import PathFinder
class Plain(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {absent} else super().find_spec(name, path, target)
sys.meta_path[:] = [Plain if finder is PathFinder else finder for finder in sys.meta_path]
from transformers import AutoModelForCausalLM, AutoTokenizer
from polygate import gates
folder = {str(folders["llama"])!r}
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
with gates.attach(model, tokenizer, gates.load({str(tmp_path / "gate.safetensors")!r})) as routed:
    if {templates}:
        print(routed.answer(["w1 w2 w3"], 4)[0])
    else:
        ids = torch.tensor({ids})
        written = model.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
        print(tokenizer.decode(written[0, ids.shape[1]:], skip_special_tokens=True))
"""
    found = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    model = AutoModelForCausalLM.from_pretrained(folders["llama"])
    with gates.attach(model, loaded_model("llama").tokenizer, gates.load(tmp_path / "gate.safetensors")) as routed:
        assert found.stdout.strip() == routed.answer(["w1 w2 w3"], 4)[0]
