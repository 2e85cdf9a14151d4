"""An intervention says all that is done to a prompt, survives its file, and is refused in one line where it's wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polygate import files
from polygate.errors import PolygateError
from polygate.forward.interventions import Intervention, Part, nothing

IDS = ("harmful-test-0000", "harmful-test-0001", "harmless-test-0000")
D = 4


def part(**changes: Any) -> Part:
    given: dict[str, Any] = {
        "layers": (0, 2),
        "vectors": np.arange(1, 1 + 2 * D).reshape(2, D) / 7,
        "operation": "add",
        "tokens": "answering",
        "coefficients": [0.1, 0.0, -1 / 3],
    }
    return Part(**{**given, **changes})


@pytest.fixture
def intervention() -> Intervention:
    return Intervention(IDS, (part(), part(operation="ablate", tokens="every", coefficients=[0, 1, 1])))


def test_it_survives_its_file_to_the_last_bit(tmp_path: Path, intervention: Intervention) -> None:
    intervention.save(tmp_path / "i.safetensors", {"module": "m"}, {"language": "sw", "arm": "both"})
    found = Intervention.load(tmp_path / "i.safetensors", language="sw", arm="both")
    assert found.prompt_ids == IDS
    for ours, theirs in zip(intervention.parts, found.parts, strict=True):
        assert (ours.layers, ours.operation, ours.tokens) == (theirs.layers, theirs.operation, theirs.tokens)
        np.testing.assert_array_equal(ours.vectors, theirs.vectors)
        np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)
    assert found.digest() == intervention.digest()
    assert files.read_provenance(tmp_path / "i.safetensors") == {"module": "m"}


def test_doing_nothing_is_a_file_too(tmp_path: Path) -> None:
    nothing(IDS).save(tmp_path / "i.safetensors", {})
    found = Intervention.load(tmp_path / "i.safetensors")
    assert (found.prompt_ids, found.parts, found.digest()) == (IDS, (), "none")


def test_a_file_of_something_else_is_refused(tmp_path: Path, intervention: Intervention) -> None:
    path = tmp_path / "i.safetensors"
    intervention.save(path, {}, {"language": "sw", "model": "ours"})
    for wanted in ({"language": "yo"}, {"model": "theirs"}):
        with pytest.raises(PolygateError, match=r"holds .* expected .*i\.safetensors"):
            Intervention.load(path, **wanted)
    files.write_safetensors(path, {"v": np.ones(3, np.float32)})
    with pytest.raises(PolygateError, match="not an intervention"):
        Intervention.load(path)


def test_some_of_its_prompts_in_any_order(intervention: Intervention) -> None:
    some = intervention.rows([2, 0])
    assert some.prompt_ids == (IDS[2], IDS[0])
    assert some.parts[0].coefficients.tolist() == [-1 / 3, 0.1]
    assert some.parts[1].coefficients.tolist() == [1, 0]
    by_name = intervention.of_prompts([IDS[2], IDS[0]])
    assert by_name.digest() == some.digest()
    assert intervention.of_prompts(IDS) is intervention
    with pytest.raises(PolygateError, match="other prompts: nothing is said of 'harmful-test-0009'"):
        intervention.of_prompts([IDS[0], "harmful-test-0009"])


def test_units_are_of_length_one_in_float64() -> None:
    found = part(vectors=np.array([[3, 4, 0, 0], [1, 1, 1, 1]]) * 1e-20).units()
    np.testing.assert_allclose(found, [[0.6, 0.8, 0, 0], [0.5] * 4], rtol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-15)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": (0, 1)},
        {"vectors": np.ones((2, D))},
        {"operation": "ablate"},
        {"tokens": "generated"},
        {"coefficients": [0.1, 0.0, -1 / 3 + 1e-16]},
    ],
)
def test_whatever_a_part_does_differently_is_another_intervention(change: dict[str, Any]) -> None:
    assert Intervention(IDS, (part(**change),)).digest() != Intervention(IDS, (part(),)).digest()


def test_parts_that_leave_everyone_alone_and_names_make_no_other_intervention() -> None:
    plain, idle = Intervention(IDS, (part(),)), part(coefficients=[0, 0, 0])
    assert Intervention(("a", "b", "c"), (idle, part(), idle)).digest() == plain.digest()
    assert Intervention(IDS, (idle,)).digest() == nothing(IDS).digest()
    swapped = [Intervention(IDS, pair) for pair in ((part(), part(layers=(1, 2))), (part(layers=(1, 2)), part()))]
    assert swapped[0].digest() != swapped[1].digest()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": (2, 0)}, "layers"),
        ({"layers": (0, 0)}, "layers"),
        ({"layers": (-1, 0)}, "layers"),
        ({"layers": (), "vectors": np.ones((0, D))}, "layers"),
        ({"vectors": np.ones((1, D))}, "shape"),
        ({"vectors": np.ones(D)}, "shape"),
        ({"vectors": np.full((2, D), np.nan)}, "NaN or infinite"),
        ({"coefficients": [1, np.inf, 0]}, "NaN or infinite"),
        ({"coefficients": [[1, 0, 0]]}, "one per prompt"),
        ({"operation": "ablate", "vectors": np.array([[1.0] * D, [0.0] * D])}, "ablate at layer 2 is zero"),
        ({"operation": "rotate"}, "'rotate'"),
        ({"tokens": "all"}, "'all'"),
    ],
)
def test_what_makes_no_sense_is_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(PolygateError, match=said) as caught:
        part(**change)
    assert "\n" not in str(caught.value)


def test_a_zero_vector_may_be_added() -> None:
    assert not part(vectors=np.zeros((2, D))).idle


def test_another_number_of_coefficients_is_refused_where_it_is_read_too(tmp_path: Path) -> None:
    with pytest.raises(PolygateError, match="3 steering coefficients for 2 prompts"):
        Intervention(IDS[:2], (part(),))
    good = Intervention(IDS, (part(),))
    good.save(tmp_path / "i.safetensors", {})
    tensors, metadata = files.read_safetensors(tmp_path / "i.safetensors")
    for name, values in (("coefficients", [1.0, 2.0]), ("coefficients", [1, np.nan, 0]), ("vectors", np.ones((3, D)))):
        spoilt = {**tensors, f"part.0.{name}": np.asarray(values)}
        files.write_safetensors(tmp_path / "j.safetensors", spoilt, {k: metadata[k] for k in ("prompt_ids", "parts")})
        with pytest.raises(PolygateError, match=r"steering .*j\.safetensors"):
            Intervention.load(tmp_path / "j.safetensors")


@pytest.mark.parametrize(("layers", "width"), [(2, D), (3, D + 1)])
def test_a_model_of_another_depth_or_width_is_named(intervention: Intervention, layers: int, width: int) -> None:
    with pytest.raises(PolygateError, match=f"layers 0 to {layers - 1} of width {width}"):
        intervention.check_fits(layers, width)
    intervention.check_fits(3, D)
    dataclasses.replace(intervention, parts=()).check_fits(1, 1)
