"""From translations to a prompt table like any other, and to what comes back of it, prompt by prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library.controls import standin
from polygate import files
from polygate.controls import encoders
from polygate.controls.semantic import Embedded
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import Prompt, PromptTable
from polygate.prompts.translation import kept, quality
from polygate.prompts.translation.kept import Translations
from polygate.prompts.translation.memory import Translated
from polygate.settings.types import Controls, Prompts, dump
from polygate.stages import compare_translations, prompts_translated, read_translations

COUNT = 4


def pivot() -> PromptTable:
    prompts = [
        Prompt(table.prompt_id(subset, split, i), f"{subset} {split} request number {i}.", category=f"kind {i}")
        for subset in table.SUBSETS
        for split in table.TABLE_SPLITS
        for i in range(COUNT)
    ]
    return replace(table.build("en", prompts), dataset="polyrefuse")


def of(prompts: PromptTable, **changed: Translated) -> Translations:
    plain = {name: Translated(f"ombi {name}!", 3, True) for name in prompts.ids}
    return Translations(plain | {name.replace("_", "-"): each for name, each in changed.items()}, "a/b")


def test_a_translated_language_is_a_table_like_any_other(tmp_path: Path) -> None:
    source = pivot()
    found = kept.prompts(source, of(source), "sw", Prompts(normalise="none"), tmp_path)
    table.check_aligned([source, found])
    assert found.categories == source.categories
    assert found.texts[0] == f"ombi {source.ids[0]}!"
    plain = replace(source, normalise="terminal_punctuation")
    assert kept.prompts(plain, of(source), "sw", Prompts(normalise="terminal_punctuation"), tmp_path).texts[0] == (
        f"ombi {source.ids[0]}"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  ", "language sw: 1 of 32 translations are empty, the first is harmful-train-0002"),
        ("harmless test request number 1.", "1 texts are harmful prompts, and harmless ones in en"),
    ],
)
def test_an_empty_or_swapped_translation_stops_the_run(tmp_path: Path, text: str, told: str) -> None:
    source = pivot()
    broken = of(source, harmful_train_0002=Translated(text, 1, True))
    with pytest.raises(PolygateError, match=told):
        kept.prompts(source, broken, "sw", Prompts(), tmp_path / "sw.parquet")


def test_translations_left_as_they_were_stop_the_run(tmp_path: Path) -> None:
    source = pivot()
    same = Translations(
        {name: Translated(text, 3, True) for name, text in zip(source.ids, source.texts, strict=True)}, "a/b"
    )
    with pytest.raises(PolygateError, match="sw looks untranslated"):
        kept.prompts(source, same, "sw", Prompts(), tmp_path)


def test_translations_are_of_the_table_that_was_translated(tmp_path: Path) -> None:
    source, path = pivot(), tmp_path / "sw.parquet"
    found = list(of(source).by_id.values())
    kept.write(path, source, found, "sw", "there", "a/b", {})
    assert kept.read(path, source, "sw", "there") == of(source)
    changed = replace(source, texts=("another text", *source.texts[1:]))
    for wanted in ((changed, "sw", "there"), (source, "yo", "there"), (source, "sw", "back")):
        with pytest.raises(PolygateError, match="expected"):
            kept.read(path, *wanted)


def test_what_went_wrong_is_told_prompt_by_prompt() -> None:
    source = table.without_align(pivot())
    own = replace(source, language="sw", texts=tuple(f"ombi {name}" for name in source.ids))
    looping, same = "na na hapa na na hapa na na hapa na na hapa", "ni sawa"
    texts = {"harmful-train-0001": looping, "harmful-train-0002": same, "harmful-val-0000": same}
    own = replace(own, texts=tuple(texts.get(name, text) for name, text in zip(own.ids, own.texts, strict=True)))
    there = of(source, harmless_test_0003=Translated("cut", 9, False))
    back = of(
        source,
        harmful_train_0000=Translated("", 1, True),
        harmful_train_0003=Translated(looping, 9, False),
    )
    found, signatures = quality.measure(source, own, there, back)
    told = {
        name: [i for i, flaw in zip(own.ids, found[name].to_pylist(), strict=True) if flaw] for name in quality.FLAWS
    }
    assert told == {
        "truncated": ["harmless-test-0003"],
        "looping": ["harmful-train-0001"],
        "repeated": ["harmful-train-0002", "harmful-val-0000"],
        "back_truncated": ["harmful-train-0003"],
        "back_looping": ["harmful-train-0003"],
        "back_empty": ["harmful-train-0000"],
    }
    assert found["cosine"].null_count == len(own)
    assert set(signatures) == {"bleu", "chrf"}


def test_a_source_that_repeats_itself_may_be_repeated() -> None:
    assert quality.loops("ha ha ha ha ha ha ha ha", "oh ho oh ho") is True
    assert quality.loops("ha ha ha ha ha ha ha ha", "he he he he he he he he") is False
    assert quality.repeated(["a", "A ", "b"], ["x", "x", "y"]) == [False] * 3


def test_the_stages_from_a_file_to_cosines(tmp_path: Path) -> None:
    """File → translations → prompts → what comes back, with an encoder in Hugging Face's format."""
    source = pivot()
    words = standin.WORDS
    texts = [f"{words[i % 8]} {words[i % 7]} {i}" for i in range(len(source))]
    source = replace(source, texts=tuple(f"{a} {b}" for a, b in zip(texts, source.texts, strict=True)))
    table.write(tmp_path / "en.parquet", source)
    lines = [f"{name},tafsiri {text} {name},{text}" for name, text in zip(source.ids, texts, strict=True)]
    (tmp_path / "sw.csv").write_text("\n".join(["prompt_id,text,back_translation", *lines]))
    make = ["--file", str(tmp_path / "sw.csv"), "--language", "sw"]
    en, sw = str(tmp_path / "en.parquet"), str(tmp_path / "sw.parquet")

    def stage(module: object, *arguments: str) -> None:
        import argparse

        parser = argparse.ArgumentParser()
        module.configure(parser)  # type: ignore[attr-defined]
        module.run(parser.parse_args(arguments))  # type: ignore[attr-defined]

    there, back = str(tmp_path / "there.parquet"), str(tmp_path / "back.parquet")
    stage(read_translations, *make, "--prompts", en, "--direction", "there", "--output", there)
    common = ["--settings", dump({"prompts": Prompts()}), "--dataset", "polyrefuse", "--language", "sw"]
    stage(prompts_translated, *common, "--translations", there, "--pivot-table", en, "--output", sw)
    stage(read_translations, *make, "--prompts", sw, "--direction", "back", "--output", back)
    encoder = standin.folder(tmp_path / "encoder")
    asked = Controls(encoder="a/b", folder=encoder)
    facts = encoders.load(asked, encoder).facts
    embedded = []
    for path in (en, sw):
        read = table.read(path)
        embedded.append(str(Path(path).with_suffix(".safetensors")))
        Embedded(read, standin.embed(read.texts)[:, :16], facts).save(Path(embedded[-1]), {})
    controls = dump({"controls": asked})
    output = tmp_path / "compared.parquet"
    stage(
        compare_translations,
        *("--settings", controls, "--language", "sw", "--pivot-prompts", en, "--prompts", sw, "--there", there),
        *("--back", back, "--embeddings", *embedded, "--folder", str(encoder), "--output", str(output)),
    )
    found = files.read_parquet(output)
    own = table.read(sw)
    assert found["prompt_id"].to_pylist() == list(own.ids)
    said = files.parquet_metadata(found)
    assert (said["translator"], said["back_translator"]) == ("file sw.csv", "file sw.csv")
    assert said["encoder"].startswith("encoder:a/b|architecture:bert")
    first, second = (standin.embed(table.read(path).texts)[:, :16].astype(np.float64) for path in (en, sw))
    assert found["cosine_translation"].to_pylist() == pytest.approx((first * second).sum(axis=1).tolist())
    assert found["unrelated_translation"][0].as_py() == pytest.approx(first[0] @ second[1])
    assert str(tmp_path) not in str(said)
