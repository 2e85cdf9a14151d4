"""AdaSteer: coefficients as its formula says, on the released vectors too; our rule for models without constants."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from library.representation.planted import LAYERS, WIDTH, World, cosine
from polygate.decision.calibration import draw_examples
from polygate.errors import PolygateError
from polygate.prompts import table
from polygate.prompts.table import PromptTable
from polygate.representation.directions import POSITION, unit
from polygate.representation.store import ActivationStore
from polygate.settings.types import AdaSteer as Constants
from polygate.settings.types import Coefficient, Settings
from polygate.steering import adasteer, released
from polygate.steering.adasteer import AdaSteer, Seen, Steer, Where
from polygate.steering.strength import projection_gap

WITH_VECTORS = {"qwen2.5-7b": "qwen25-7b-instruct", "gemma-2-9b": "gemma2-9b-it"}
"""Models whose released vectors are among the data."""


def naive(h: NDArray[np.float64], a: list[float], b: list[float], constants: Coefficient) -> float:
    """A prompt's coefficient, one number at a time."""
    length = math.sqrt(math.fsum((y - x) ** 2 for x, y in zip(a, b, strict=True)))
    s = 100 * math.fsum((z - x) * (y - x) / length for x, y, z in zip(a, b, h.tolist(), strict=True)) / length
    value = constants.multiplier * (s + constants.offset) + constants.bias
    if constants.lowest is not None and value < constants.lowest:
        value = constants.lowest
    if constants.highest is not None and value > constants.highest:
        value = constants.highest
    return value


def test_coefficients_are_the_formulas() -> None:
    random = np.random.default_rng(0)
    for constants in (
        Coefficient(layer=0, multiplier=0.02, offset=60, lowest=-0.22, highest=-0.08),
        Coefficient(layer=0, multiplier=-0.05, offset=5, bias=-0.5, lowest=-0.75),
        Coefficient(layer=0, multiplier=0.1),
    ):
        anchors = random.normal(size=(2, 16))
        h = random.normal(size=(40, 16)) * 3
        found = Steer((0,), np.ones((1, 16), np.float32), anchors, constants).coefficients(h)
        expected = [naive(one, *anchors.tolist(), constants) for one in h]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_prompts_coefficient_does_not_depend_on_its_batch() -> None:
    random = np.random.default_rng(1)
    steer = Steer((0,), np.ones((1, 8), np.float32), random.normal(size=(2, 8)), Coefficient(layer=0, multiplier=1))
    h = random.normal(size=(5, 8))
    alone = np.concatenate([steer.coefficients(one[None]) for one in h])
    np.testing.assert_allclose(steer.coefficients(h), alone, rtol=1e-12)


@pytest.mark.parametrize("model", WITH_VECTORS)
def test_coefficients_on_the_released_vectors(shared_data: Path, model: str) -> None:
    folder = shared_data / "adasteer" / WITH_VECTORS[model]
    constants = Settings().models[model].adasteer
    assert constants is not None
    found = released.read(folder, constants)
    random = np.random.default_rng(2)
    for name, file, part in (("RD", "mean_diff.pkl", found.refusal), ("HD", "proj.pkl", found.harmfulness)):
        assert part is not None
        layer = part.constants.layer
        classes = [released.read_array(folder / name / f"class_{which}.pkl")[layer] for which in "ab"]
        vectors = released.read_array(folder / name / file)
        # The last block's vector is one of the stream after the final norm, and is left out.
        assert part.layers == tuple(range(len(vectors) - 1))
        np.testing.assert_array_equal(part.vectors, vectors[:-1].astype(np.float32))
        a, b = ([math.fsum(column) / len(rows) for column in rows.astype(float).T.tolist()] for rows in classes)
        # Prompts that lie about the two anchors, before and beyond them.
        where = random.uniform(-1, 2, size=(6, 1))
        h = np.array(a) + where * (np.array(b) - np.array(a)) + random.normal(size=(6, len(a)))
        expected = [naive(one, a, b, part.constants) for one in h]
        np.testing.assert_allclose(part.coefficients(h.astype(np.float32)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", WITH_VECTORS)
def test_what_the_released_directions_are(shared_data: Path, model: str) -> None:
    """Both have class a in common, vectors are a - b, and H is R's multiple: the docstring's claims, on the files."""
    folder = shared_data / "adasteer" / WITH_VECTORS[model]
    refusal, harmfulness = (released.read_array(folder / name / "class_a.pkl") for name in ("RD", "HD"))
    np.testing.assert_array_equal(refusal, harmfulness)
    other = released.read_array(folder / "RD" / "class_b.pkl").astype(float).mean(axis=1)
    r = released.read_array(folder / "RD" / "mean_diff.pkl").astype(float)
    h = released.read_array(folder / "HD" / "proj.pkl").astype(float)
    for layer, difference in enumerate(refusal.astype(float).mean(axis=1) - other):
        assert cosine(r[layer], difference) > 0.999
        assert cosine(r[layer], h[layer]) > 0.999


def planted(folder: Path, *languages: str) -> tuple[list[ActivationStore], list[PromptTable]]:
    """Stores and tables of some languages of a planted world."""
    world = World(folder)
    written = [world.write(name) for name in languages]
    return [ActivationStore.open(store) for store, _ in written], [table.read(prompts) for _, prompts in written]


def test_adapted_vectors_are_the_difference_of_all_examples_pooled(tmp_path: Path) -> None:
    stores, prompts = planted(tmp_path, "a", "b")
    rows = [draw_examples(one, 8, 0, 0) for one in prompts]
    labels = np.concatenate([one.harmful[chosen] for one, chosen in zip(prompts, rows, strict=True)])
    pooled = adasteer.pool(stores, rows, labels)
    constants = Coefficient(layer=1, multiplier=1)
    found = adasteer.adapted(pooled, constants, constants.model_copy(update={"layer": 2}))
    assert found.harmfulness is not None
    for layer in range(LAYERS):
        sums = np.zeros((2, WIDTH))
        for store, one, chosen in zip(stores, prompts, rows, strict=True):
            for row in chosen:
                sums[0 if one.harmful[row] else 1] += store.read(layer, POSITION)[row]
        np.testing.assert_allclose(found.refusal.vectors[layer], (sums[0] - sums[1]) / 16, rtol=1e-5)
        for steer in found.steers.values():
            if steer.constants.layer == layer:
                np.testing.assert_allclose(steer.anchors, sums / 16, rtol=1e-12)


def test_fitted_constants_refuse_most_what_looks_harmful_and_leave_the_harmless_alone(tmp_path: Path) -> None:
    stores, prompts = planted(tmp_path, "a", "b", "c")
    rows = [draw_examples(one, 16, 0, 0) for one in prompts]
    labels = np.concatenate([one.harmful[chosen] for one, chosen in zip(prompts, rows, strict=True)])
    pooled = adasteer.pool(stores, rows, labels)
    along = unit(pooled.vectors[2])
    projections = adasteer.together(stores, rows, 2) @ along
    constants = adasteer.fitted_constants(pooled, projections, labels, Where(layer=1, at=2, strength=1.5))
    steer = adasteer.adapted(pooled, constants, None).refusal
    at_anchors = steer.coefficients(steer.anchors)
    assert at_anchors[0] == pytest.approx(constants.highest)
    assert at_anchors[1] == pytest.approx(0, abs=1e-12)
    beyond = steer.anchors + 2 * (steer.anchors - steer.anchors[::-1])
    np.testing.assert_allclose(steer.coefficients(beyond), at_anchors, atol=1e-12)
    # What a prompt at the harmful anchor has received by block 2 is as long there as our addition.
    received = sum(at_anchors[0] * steer.vectors[layer] for layer in range(3))
    assert received @ along == pytest.approx(1.5 * projection_gap(projections, labels), rel=1e-5)


def test_the_layer_that_separates_unseen_prompts_is_read() -> None:
    random = np.random.default_rng(3)
    harmful = np.arange(40) < 20
    means = np.stack([np.eye(3, 5), np.zeros((3, 5))])

    def layer(gap: float) -> NDArray[np.float64]:
        x = random.normal(size=(40, 5))
        x[harmful] += gap
        return x

    seen = [Seen([layer(0), layer(9), layer(0.5)], harmful), Seen([layer(0), layer(9), layer(9)], harmful)]
    best, auc = adasteer.reading_layer(adasteer.Pooled(means), seen)
    assert best == 1
    assert auc > 0.95


def test_vectors_that_cancel_one_another_are_refused() -> None:
    means = np.stack([[[1.0, 0], [-3, 0], [1, 0]], np.zeros((3, 2))])
    labels = np.array([True, False])
    with pytest.raises(PolygateError, match="point against"):
        adasteer.fitted_constants(adasteer.Pooled(means), np.array([1.0, 0]), labels, Where(0, 2, 1.0))


def test_what_is_done_survives_its_file_and_is_on_the_named_tokens(tmp_path: Path) -> None:
    (store,), (prompts,) = planted(tmp_path, "a")
    rows = draw_examples(prompts, 8, 0, 0)
    pooled = adasteer.pool([store], [rows], prompts.harmful[rows])
    constants = Coefficient(layer=1, multiplier=-0.01, offset=-100, lowest=0, highest=1)
    for tokens in ("generated", "answering"):
        found = adasteer.adapted(pooled, constants, constants, tokens)  # type: ignore[arg-type]
        found.save(tmp_path / "adasteer.safetensors", {}, {"model": "m"})
        read = AdaSteer.load(tmp_path / "adasteer.safetensors", model="m")
        done = read.intervention(store, prompts.select("test"))
        assert done.digest() == found.intervention(store, prompts.select("test")).digest()
        assert [(part.operation, part.tokens, part.layers) for part in done.parts] == 2 * [("add", tokens, (0, 1, 2))]
        harmful = prompts.harmful[prompts.select("test")]
        strengths = done.parts[0].coefficients
        assert strengths[harmful].min() > strengths[~harmful].max()
    with pytest.raises(PolygateError, match="holds model m, expected other"):
        AdaSteer.load(tmp_path / "adasteer.safetensors", model="other")


def test_vectors_of_another_model_are_refused_in_one_line(tmp_path: Path) -> None:
    (store,), _ = planted(tmp_path, "a")
    constants = Coefficient(layer=0, multiplier=1)
    for layers, width, reads in (((0, 1), 7, 0), ((0, 3), WIDTH, 0), ((0, 1), WIDTH, 3)):
        one = constants.model_copy(update={"layer": reads})
        steer = Steer(layers, np.ones((2, width), np.float32), np.eye(2, width), one)
        with pytest.raises(PolygateError, match=f"the model has layers 0 to 2 of width {WIDTH}"):
            AdaSteer(steer).check_fits(store)
    pooled = adasteer.Pooled(np.stack([np.ones((2, 3)), np.zeros((2, 3))]))
    with pytest.raises(PolygateError, match="reads layer 2, but the model has layers 0 to 1"):
        adasteer.adapted(pooled, constants.model_copy(update={"layer": 2}), None)


def write_released(folder: Path, depth: int = 4, width: int = 6) -> None:
    """A folder of small made-up vectors in the released layout."""
    import pickle

    random = np.random.default_rng(4)
    for name in released.FILES:
        shape = (depth, 3, width) if "class" in name else (depth, width)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(random.normal(size=shape).astype(np.float16)))


def test_released_vectors_that_do_not_fit_are_refused_in_one_line(tmp_path: Path) -> None:
    import pickle

    constants = Constants(alpha=Coefficient(layer=1, multiplier=1), beta=Coefficient(layer=2, multiplier=1))
    write_released(tmp_path)
    assert released.read(tmp_path, constants).refusal.layers == (0, 1, 2)
    deep = constants.model_copy(update={"beta": Coefficient(layer=3, multiplier=1)})
    with pytest.raises(PolygateError, match="reads layer 3, the released vectors have layers 0 to 2"):
        released.read(tmp_path, deep)
    for name, bad, said in (
        ("HD/class_b.pkl", np.ones((4, 3, 5)), "4 layers of width 5"),
        ("HD/class_b.pkl", np.ones((4, 6)), "one of 3 dimensions is needed"),
        ("HD/proj.pkl", np.full((4, 6), np.nan), "NaN or infinite"),
        ("RD/mean_diff.pkl", np.ones((4, 6), int), "dtype int64"),
    ):
        write_released(tmp_path)
        (tmp_path / name).write_bytes(pickle.dumps(bad))
        with pytest.raises(PolygateError, match=said) as error:
            released.read(tmp_path, constants)
        assert name in str(error.value)
    (tmp_path / "RD/mean_diff.pkl").unlink()
    with pytest.raises(PolygateError, match="file not found"):
        released.read(tmp_path, constants)


def test_a_download_is_whole_and_the_pinned_one_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_released(tmp_path / "upstream")
    asked = []

    def fetch(url: str, *_how: object) -> bytes | None:
        asked.append(url)
        path = tmp_path / "upstream" / "/".join(url.split("/")[-2:])
        return path.read_bytes() if path.is_file() else None

    monkeypatch.setattr(released, "fetch", fetch)
    output = tmp_path / "resources" / "some-model"
    released.download(output, "some-model")
    assert [url.partition(released.REVISION)[2] for url in asked] == [
        f"/vectors/some-model/{name}" for name in released.FILES
    ]
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*.pkl")) == sorted(released.FILES)
    # These have known checksums, which made-up files don't have.
    with pytest.raises(PolygateError, match=r"HD/class_a\.pkl has another checksum at AdaSteer's pinned revision"):
        released.download(tmp_path / "gemma", "gemma2-9b-it")
    (tmp_path / "upstream" / "RD" / "class_b.pkl").unlink()
    with pytest.raises(PolygateError, match=r"RD/class_b\.pkl is missing"):
        released.download(tmp_path / "other", "some-model")
    assert not (tmp_path / "gemma").exists()
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("model", WITH_VECTORS)
def test_known_checksums_are_the_released_files(shared_data: Path, model: str) -> None:
    known = released.checksums()
    for name in released.FILES:
        path = f"{WITH_VECTORS[model]}/{name}"
        assert known[path] == hashlib.sha256((shared_data / "adasteer" / path).read_bytes()).hexdigest()
