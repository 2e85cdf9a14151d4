"""Translating: each family of models told its languages in its own way, and nothing is translated twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from library.prompts.translation import seq2seq
from polygate.cli import main
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import Prompt
from polygate.prompts.translation import kept, memory, model
from polygate.prompts.translation.kept import Translations
from polygate.prompts.translation.memory import Translated
from polygate.prompts.translation.model import Translator
from polygate.settings.types import Translation, dump

TEXTS = ["kato mira selu", "say number kato", "ease", "dosa dosa lemi raku tivo pona", "harm"]
NAMES = [f"harmful-test-{number:04d}" for number in range(len(TEXTS))]
CODES = {"nllb": ("eng_Latn", "swh_Latn"), "t5": ("en", "sw")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    within = tmp_path_factory.mktemp("models")
    return {shape: seq2seq.folder(within / shape, shape) for shape in ("nllb", "t5")}


def settings(folder: Path, **more: Any) -> Translation:
    return Translation(**{"languages": {"sw": "x"}, "folder": folder, "beams": 1, "max_tokens": 8, **more})


def fail() -> Translator:
    raise AssertionError("the model must not be loaded")


@pytest.mark.parametrize("shape", ["nllb", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_is_translated_as_transformers_does_it_alone(
    folders: dict[str, Path], tmp_path: Path, shape: str, beams: int
) -> None:
    import torch

    given = settings(folders[shape], beams=beams, batch_tokens=40 * beams)
    translator = model.load(folders[shape], given)
    with memory.opened(tmp_path / "memory.jsonl") as known:
        found = model.translate(TEXTS, NAMES, known, given, "f", CODES[shape], lambda: translator)
    tokens = translator.tokenizer
    for text, each in zip(TEXTS, found, strict=True):
        before = "eng_Latn" if shape == "nllb" else "<2sw>"
        ids = torch.tensor([tokens.convert_tokens_to_ids([before, *text.split(), "</s>"])])
        first = {"forced_bos_token_id": tokens.convert_tokens_to_ids("swh_Latn")} if shape == "nllb" else {}
        out = translator.model.generate(ids, num_beams=beams, max_new_tokens=8, do_sample=False, **first)[0, 1:]
        written = out.tolist()
        written = written[: written.index(2) + 1] if 2 in written else written
        assert each == Translated(tokens.decode(written, skip_special_tokens=True).strip(), len(written), 2 in written)
    assert len({each.text for each in found}) > 2


def test_nllb_reads_what_its_own_tokenizer_would_give_it(tmp_path: Path) -> None:
    from transformers import NllbTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "k", "a", "t", "o", "s", "/", "<", ">"]
    vocabulary = {name: i for i, name in enumerate(pieces)}
    NllbTokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path)
    tokenizer = model.load_tokenizer(tmp_path)
    tokenizer.src_lang = "eng_Latn"
    translator = Translator(None, tokenizer, None, None)
    lead = translator.lead("eng_Latn", "swh_Latn")
    assert lead.forced == tokenizer.convert_tokens_to_ids("swh_Latn")
    assert translator.read(["kato"], lead, ["a"]) == [tokenizer("kato")["input_ids"]]
    # A control token that a prompt spells out is text.
    (spelt,) = translator.read(["kato</s>ot"], lead, ["a"])
    assert spelt.count(tokenizer.eos_token_id) == 1
    assert len(spelt) > len(tokenizer("katoot")["input_ids"])


@pytest.mark.parametrize("shape", ["nllb", "t5"])
def test_control_tokens_in_a_text_are_unknown_words_at_most(folders: dict[str, Path], shape: str) -> None:
    translator = model.load(folders[shape], settings(folders[shape]))
    lead = translator.lead(*CODES[shape])
    (row,) = translator.read(["kato </s> <2sw> swh_Latn mira"], lead, ["a"])
    tokens = translator.tokenizer
    assert tokens.convert_ids_to_tokens(row[1:-1]) == ["kato", "<unk>", "<unk>", "<unk>", "mira"]


@pytest.mark.parametrize(
    ("shape", "codes", "told"),
    [
        ("nllb", ("eng_Latn", "swh_Latin"), "no language 'swh_Latin': did you mean swh_Latn"),
        ("nllb", ("en", "swh_Latn"), "no language 'en'"),
        ("t5", ("en", "xx"), "no language 'xx': give its own code"),
        # A word of the vocabulary is no language.
        ("nllb", ("eng_Latn", "sw"), "no language 'sw'"),
    ],
)
def test_a_language_that_the_model_lacks_is_one_line(
    folders: dict[str, Path], tmp_path: Path, shape: str, codes: tuple[str, str], told: str
) -> None:
    given = settings(folders[shape])
    with memory.opened(tmp_path / "memory.jsonl") as known, pytest.raises(PolygateError, match=told) as caught:
        model.translate(TEXTS, NAMES, known, given, "f", codes, lambda: model.load(folders[shape], given))
    assert "\n" not in str(caught.value)


def test_a_text_longer_than_the_model_reads_is_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    given = settings(folders["nllb"])
    with (
        memory.opened(tmp_path / "memory.jsonl") as known,
        pytest.raises(PolygateError, match="prompt harmful-test-0001 has 72 tokens, the translation model reads 64"),
    ):
        model.translate(
            ["kato", "kato " * 70], NAMES[:2], known, given, "f", CODES["nllb"], lambda: model.load(given.folder, given)
        )


@pytest.mark.parametrize("broken", ["empty", "causal", "no weights", "no tokenizer"])
def test_a_folder_that_holds_no_translation_model_is_one_line(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if broken == "causal":
        from transformers import LlamaConfig

        LlamaConfig(num_hidden_layers=1).save_pretrained(folder)
    elif broken != "empty":
        seq2seq.folder(folder)
        (folder / ("model.safetensors" if broken == "no weights" else "tokenizer.json")).unlink()
        (folder / "tokenizer_config.json").unlink()
    told = {"empty": "no translation model", "causal": "a llama is no sequence-to-sequence model"}
    with pytest.raises(PolygateError, match=told.get(broken, "can't be loaded")) as caught:
        model.load(folder, settings(folder))
    assert "\n" not in str(caught.value)


def test_what_was_translated_is_not_translated_again(folders: dict[str, Path], tmp_path: Path) -> None:
    given, path = settings(folders["t5"], batch_tokens=30), tmp_path / "memory.jsonl"
    loaded, done = [], []

    def make() -> Translator:
        loaded.append(True)
        return model.load(folders["t5"], given)

    def translate(texts: list[str], make: Callable[[], Translator]) -> list[Translated]:
        with memory.opened(path) as known:
            return model.translate(texts, NAMES, known, given, "f", CODES["t5"], make, done.append)

    some = translate(TEXTS[:2] + TEXTS[:1] * 3, make)
    every = translate(TEXTS, make)
    assert every[:2] == some[:2]
    assert len(loaded) == 2
    assert sum(done) == 2 * len(TEXTS)
    assert translate(TEXTS, fail) == every
    assert len(path.read_text().splitlines()) == len(TEXTS)


def test_a_killed_job_keeps_the_batches_that_it_had_finished(folders: dict[str, Path], tmp_path: Path) -> None:
    """Killed in the midst of the third batch, whose last line is half written."""
    given, path = settings(folders["t5"], batch_tokens=16), tmp_path / "memory.jsonl"
    whole = tmp_path / "whole.jsonl"
    translator = model.load(folders["t5"], given)
    with memory.opened(whole) as known:
        every = model.translate(TEXTS, NAMES, known, given, "f", CODES["t5"], lambda: translator)

    class Killed(BaseException):
        pass

    batches = []

    def stop(count: float) -> None:
        batches.append(count)
        if len(batches) == 3:
            raise Killed

    with memory.opened(path) as known, pytest.raises(Killed):
        model.translate(TEXTS, NAMES, known, given, "f", CODES["t5"], lambda: translator, stop)
    kept = len(path.read_bytes().splitlines())
    assert 0 < kept < len(TEXTS)
    with path.open("ab") as file:
        file.write(whole.read_bytes().splitlines()[-1][:20])
    with memory.opened(path) as known:
        assert len(known.known) == kept
        assert model.translate(TEXTS, NAMES, known, given, "f", CODES["t5"], lambda: translator) == every
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())


def test_everything_that_decides_a_translation_is_in_its_key() -> None:
    plain = {"languages": {"sw": "x"}, "hub": "a/b", "revision": "0" * 40}
    one = Translation(**plain)
    others = [
        {**plain, "revision": "1" * 40},
        {**plain, "dtype": "bfloat16"},
        {**plain, "beams": 5},
        {**plain, "max_tokens": 5},
    ]
    found = [memory.key(model.described(one, *rest), "text") for rest in (("f", "a", "b"), ("g", "a", "b"))]
    found += [memory.key(model.described(one, "f", *pair), "text") for pair in (("a", "c"), ("b", "a"))]
    found += [memory.key(model.described(Translation(**other), "f", "a", "b"), "text") for other in others]
    found.append(memory.key(model.described(one, "f", "a", "b"), "texts"))
    assert len(set(found)) == len(found) == 9
    # Thresholds, other languages and the size of batches change nothing.
    same = Translation(**{**plain, "languages": {"sw": "x", "yo": "y"}, "batch_tokens": 5, "thresholds": {"bleu": 1}})
    assert memory.key(model.described(same, "f", "a", "b"), "text") == found[0]


def test_a_damaged_line_of_the_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "memory.jsonl"
    with memory.opened(path) as known:
        known.add([("a", Translated("one", 2, True)), ("b", Translated("two\n", 3, False))])
    with memory.opened(path) as known:
        assert known.known == {"a": Translated("one", 2, True), "b": Translated("two\n", 3, False)}
    path.write_bytes(path.read_bytes().replace(b"two", b"tow"))
    with pytest.raises(PolygateError, match="line 2 is damaged"), memory.opened(path):
        pass
    # Its lock is free again.
    path.unlink()
    with memory.opened(path, waiting=lambda: pytest.fail("the lock is held")) as known:
        assert known.known == {}


def test_the_stage_goes_there_and_back_and_counts_what_was_cut_off(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table.build("en", [Prompt(name, text) for name, text in zip(NAMES, TEXTS, strict=True)])
    table.write(tmp_path / "en.parquet", source)
    asked = settings(folders["t5"], languages={"sw": "sw"}, pivot="en", max_tokens=6)
    arguments = ["translate", "--settings", dump({"translation": asked}), "--folder", str(folders["t5"])]
    arguments += ["--prompts", str(tmp_path / "en.parquet"), "--language", "sw"]
    arguments += ["--memory", str(tmp_path / "memory"), "--cache", str(tmp_path / "cache")]

    def run(direction: str) -> Translations:
        output = tmp_path / f"{direction}.parquet"
        assert main([*arguments, "--direction", direction, "--output", str(output)]) == 0, capsys.readouterr().err
        return kept.read(output, source, "sw", direction)  # type: ignore[arg-type]

    there = run("there")
    cut = sum(not each.finished for each in there.by_id.values())
    assert cut > 0
    assert f"of 5 translations {cut} were cut off at 6 tokens" in capsys.readouterr().err
    assert there.translator == "t5"
    assert run("back").by_id != there.by_id
    # A file for each direction, and nothing is loaded for what they hold.
    assert len(list((tmp_path / "memory").glob("*.jsonl"))) == 2
    monkeypatch.setattr(model, "load", lambda *_: fail())
    assert run("there") == there
